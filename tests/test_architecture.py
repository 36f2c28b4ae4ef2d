"""Imports go one way, foreign stacks stay in their place, and the command line starts without any of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import harness

ROOT = Path(harness.__file__).parent
BELOW = ("harness.core", "harness.reward_models", "harness.tasks", "harness.engines")
ROOMS: dict[str, tuple[str, ...]] = {
    "harness.core": ("harness.core",),
    "harness.reward_models": ("harness.core", "harness.reward_models"),
    "harness.tasks": ("harness.core", "harness.tasks"),
    "harness.engines": ("harness.core", "harness.engines"),
    "harness.checkpoints": ("harness.core", "harness.engines", "harness.checkpoints"),
    "harness.tau2": ("harness.core", "harness.reward_models", "harness.tasks", "harness.tau2"),
    "harness.lm_eval": (*BELOW, "harness.tau2", "harness.lm_eval"),
    "harness.components": (*BELOW, "harness.tau2", "harness.lm_eval", "harness.components"),
    "harness.feed": ("harness.core", "harness.reward_models", "harness.lm_eval", "harness.feed"),
    "harness.report": (
        "harness.core",
        "harness.reward_models",
        "harness.tasks",
        "harness.tau2",
        "harness.feed",
        "harness.report",
    ),
    "harness.spec": ("harness.core", "harness.reward_models", "harness.spec"),
    "harness.mixing": (
        *BELOW,
        "harness.checkpoints",
        "harness.feed",
        "harness.spec",
        "harness.run",
        "harness.mixing",
    ),
    "harness.run": (
        "harness.core",
        "harness.reward_models",
        "harness.engines",
        "harness.checkpoints",
        "harness.feed",
        "harness.spec",
        "harness.track",
        "harness.run",
    ),
    "harness.track": ("harness.core", "harness.report", "harness.track"),
}
"""Room -> all that it may import of ours: what lies below it. The command line, above them all, may import anything."""
GONE = (
    *("callback", "doctor", "environment", "export", "forecast", "ledger", "lm_eval_results", "observer", "pipeline"),
    *("plot", "plugins", "prepared", "run_vectors", "cli.rescore_table", "cli.tau2_run", "components.tau2_config"),
    *("engines.chat.chat", "engines.completion", "engines.lm_eval_model", "engines.shelf", "engines.torch_logprob"),
    *("engines.torch_model", "tau2.judging.judging", "tau2.lm_eval_task", "tau2.loop", "tau2.record", "tau2.run_plan"),
)
"""Modules below `harness` whose contents live in a room now."""
STACKS: dict[str, tuple[str, ...]] = {
    "torch": ("harness.engines", "harness.mixing"),
    "peft": ("harness.engines",),
    "accelerate": (),
    "lm_eval": (
        "harness.lm_eval",
        "harness.tasks.suites",
        "harness.cli.lm_eval",
    ),
    "litellm": ("harness.engines.chat.litellm_chat",),
    "aiohttp": ("harness.engines",),
    "vllm": (),
    "ray": ("harness.run.executors.cluster",),
    "inspect_evals": ("harness.tasks.tau2.port",),
    "inspect_ai": (
        "harness.tasks.tau2.port",
        "harness.components.inspect",
        "harness.report.inspect_logs",
        "harness.report.inspect_sample",
    ),
    "openai": ("harness.components.inspect",),
    "tau2": ("harness.tasks.tau2.upstream",),
    "gymnasium": ("harness.mixing",),
    "minari": ("harness.mixing",),
    "dataflex": ("harness.mixing.dataflex",),
    "matplotlib": ("harness.feed.plot",),
    "typer": ("harness.cli",),
    "rich": ("harness.cli",),
    "yaml": ("harness.spec.spec", "harness.tasks", "harness.feed.hf_export"),
    "wandb": ("harness.track.wandb",),
    "trackio": ("harness.track.trackio",),
    "tensorboard": ("harness.track.tensorboard",),
    "mlflow": ("harness.track.mlflow",),
    "huggingface_hub": ("harness.checkpoints", "harness.tasks", "harness.feed.hf_export"),
    "datasets": ("harness.tasks",),
}
"""Foreign stack -> the only places that may import it, at any depth."""
SUBCLASSES = tuple(f"harness.components.inspect.{name}" for name in ("model", "journal", "sandbox"))
LAZY = (
    "inspect_ai",
    "openai",
    "ray",
    "litellm",
    "aiohttp",
    "transformers",
    "peft",
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "pyarrow",
    "lm_eval",
    "scipy",
    "wandb",
    "trackio",
    "tensorboard",
    "mlflow",
)


class Import(NamedTuple):
    """One import statement: where it stands, what it names, and whether it runs when its module is imported."""

    importer: str
    imported: str
    at_import: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def module_files() -> dict[str, Path]:
    """Every module of ours, tasks and reward_models included (they are links)."""
    found: dict[str, Path] = {}
    for folder in (ROOT, ROOT / "tasks", ROOT / "reward_models"):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(("harness", *parts)).removesuffix(".__init__")] = path
    return found


def imports_of(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only: set[ast.AST] = set()
    later: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            typing_only.update(ast.walk(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            later.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            within_package = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in within_package if name in FILES]
            names = modules if len(modules) == len(within_package) else [node.module or "", *modules]
        else:
            continue
        for name in names:
            yield Import(module, name, node not in later)


FILES = module_files()
IMPORTS = [found for module, path in FILES.items() for found in imports_of(module, path)]
OURS = [found for found in IMPORTS if found.imported.startswith("harness.")]


def test_every_room_is_seen() -> None:
    for room in (*ROOMS, "harness.cli"):
        assert any(within(module, (room,)) for module in FILES), room
    assert len(OURS) > 100


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    wrong = [i for i in OURS if within(i.importer, (room,)) and not within(i.imported, ROOMS[room])]
    assert not wrong, "; ".join(map(str, wrong))


def test_every_module_is_in_a_room() -> None:
    rooms = (*ROOMS, "harness.cli")
    assert [m for m in FILES if not within(m, rooms)] == ["harness", "harness.__main__", "harness.plugin"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {module: {i.imported for i in OURS if i.importer == module and i.imported in FILES} for module in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in sorted(arrows[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


def test_the_old_import_paths_are_gone() -> None:
    assert not [name for name in GONE if f"harness.{name}" in FILES]


def test_the_pipeline_knows_components_only_through_the_protocol() -> None:
    hidden = ("harness.components", "harness.tasks", "harness.engines")
    wrong = [i for i in OURS if i.importer == "harness.run.pipeline" and within(i.imported, hidden)]
    assert not wrong, "; ".join(map(str, wrong))


@pytest.mark.parametrize("stack", STACKS)
def test_a_foreign_stack_is_imported_in_its_one_place(stack: str) -> None:
    wrong = [i for i in IMPORTS if within(i.imported, (stack,)) and not within(i.importer, STACKS[stack])]
    assert not wrong, "; ".join(map(str, wrong))


@pytest.mark.parametrize("stack", LAZY)
def test_a_heavy_stack_is_imported_only_when_it_is_needed(stack: str) -> None:
    # These subclass a foreign class; nothing imports them until a trainer or lm-eval does.
    subclasses = (
        "harness.run.callback",
        "harness.mixing.callback",
        "harness.lm_eval.model",
        "harness.lm_eval.tau2_task",
        *SUBCLASSES,
    )
    wrong = [i for i in IMPORTS if i.at_import and within(i.imported, (stack,)) and i.importer not in subclasses]
    assert not wrong, "; ".join(map(str, wrong))


def test_engines_and_callback_are_never_imported_at_the_top_of_a_module() -> None:
    heavy = ("harness.engines", "harness.run.callback", "harness.lm_eval.model", "harness.lm_eval.tau2_task")
    above = (*heavy, "harness.lm_eval.checkpoint_lm", "harness.lm_eval.simulat")  # imported by lm-eval's model alone
    wrong = [i for i in OURS if i.at_import and within(i.imported, heavy) and not i.importer.startswith(above)]
    assert not wrong, "; ".join(map(str, wrong))


def loaded_after(code: str) -> set[str]:
    """Top-level names in sys.modules after `code` ran in a fresh process."""
    program = f"{code}\nimport sys; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {
    "torch",
    "transformers",
    "pandas",
    "pyarrow",
    "datasets",
    "lm_eval",
    "matplotlib",
    "scipy",
    "peft",
    "litellm",
    "aiohttp",
}


def test_the_command_line_starts_without_any_stack() -> None:
    loaded = loaded_after("import harness.cli")
    assert not loaded & (HEAVY | {"pydantic", "yaml", "numpy", "huggingface_hub"})


@pytest.mark.parametrize(
    "code",
    [
        "import harness",
        "from harness import RewardEnvironment, Spec, load_spec",
        "import harness.run.pipeline",
        "from harness import read_feed; read_feed({golden!r})",
        "from harness.spec.spec import default_spec; default_spec()",
    ],
)
def test_reading_and_preparing_need_no_model_stack(code: str) -> None:
    golden = str(Path(__file__).parent / "golden")
    assert not loaded_after(code.replace("{golden!r}", repr(golden))) & HEAVY


def test_every_public_name_resolves() -> None:
    for name in harness.__all__:
        assert getattr(harness, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        harness.nope  # noqa: B018


def test_tasks_and_reward_models_exist_only_below_harness(tmp_path: Path) -> None:
    code = (
        "import importlib.util, harness.tasks, harness.reward_models\n"
        "print([importlib.util.find_spec(name) for name in ('tasks', 'reward_models')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[None, None]\n"


def test_every_module_says_what_it_owns() -> None:
    assert not [module for module, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]

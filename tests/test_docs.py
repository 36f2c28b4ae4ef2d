"""The pages keep their word: every command that README.md and docs/ print is run here or marked with why not, and every link holds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any, NamedTuple

import docs_world
import pytest
import tiny
import typer.main
from docs_commands import ROOT, commands_of, inline_commands, pages, printed
from tau2_samples import needs_port

from harness import read_feed
from harness.cli import run
from harness.cli.app import app
from harness.core.errors import EXIT_INCOMPLETE, EXIT_OK
from harness.mixing.agent import Agent, Settings

NO_GO, INCONCLUSIVE = 9, 10


class Run(NamedTuple):
    """How a command is run: its exit code, what is replaced in it, what is added, and whether it takes long."""

    codes: tuple[int, ...] = (EXIT_OK,)
    replaced: tuple[tuple[str, str], ...] = ()
    added: tuple[str, ...] = ()
    slow: bool = False
    simulated: bool = False
    """Whether it needs simulations, or the scripted model that plays them."""


GATE = Run((EXIT_OK, NO_GO, INCONCLUSIVE))
"""A gate's code is its answer."""
SOON = ("--interval", "0.1")
TAU2 = Run(simulated=True)
VLLM = "needs a vLLM server; tests/engines/vllm runs the same against a real one"
NETWORK = "needs the network and keys of another's models"
BENCHMARK = "a benchmark: minutes to hours"
SETS_UP = "sets up an environment; it is how these tests are started"
INSTALLS = "installs; tests/test_packaging.py installs the wheel and uses it from an empty folder"
TRACKER = "needs an account or another program; tests/track writes to every tracker"

RUN: dict[str, Run] = {
    "harness score results/demo/checkpoints/mix-2 --out results/quick": Run(slow=True),
    "harness score runs/sft-7 --out results/sft-7": Run(slow=True),
    "harness score runs/sft-7 --spec spec.yaml --out results/sft-7": Run(),
    "harness score runs/sft-7 --spec spec.yaml --out results/sft-7 --dry-run": Run(),
    "harness doctor runs/sft-7 --spec spec.yaml --out results/sft-7": Run(),
    "harness score runs/sft-7 --field my_pairs.jsonl": Run(),
    "harness score runs/sft-7 --field my_field.yaml": Run(),
    "harness score runs/new --spec spec.yaml --out results/new": Run(),
    "harness score runs/new --spec spec.yaml --out results/new --quiet": Run(),
    "HF_HUB_OFFLINE=1 harness score runs/new --spec spec.yaml --out results/new": Run(),
    "harness prefetch runs/new --spec spec.yaml": Run(slow=True),
    "harness prefetch --spec spec.yaml --check": Run(slow=True),
    "harness score runs/lora-r4 runs/lora-r16 --base base --spec sweep.yaml --out results/lora": Run(),
    "harness doctor runs/lora-r4 runs/lora-r16 --base base --spec sweep.yaml": Run(),
    "harness score runs/lora-r4 runs/lora-r16 --base base --spec sweep.yaml --out results/lora --dry-run": Run(),
    "harness show results/lora --plot results/lora.svg": Run(replaced=(("results/lora ", "results/demo "),)),
    "harness compare results/lora:lora-r4 results/lora:lora-r16": Run(
        replaced=(("lora:lora-r4", "demo:mix-0"), ("lora:lora-r16", "demo:mix-2"))
    ),
    "harness report results/lora -o results/lora.html": Run(replaced=(("results/lora ", "results/demo "),)),
    "harness export results/lora --format csv -o results/lora.csv": Run(replaced=(("results/lora ", "results/demo "),)),
    "harness score saves --base base --spec sweep.yaml --out results/saves --numbered steps": Run(),
    "harness score runs --spec spec.yaml --weights results/study/weights.json": Run(slow=True),
    "harness score runs/sft-7 --spec spec.yaml --out results/sft-7 --workers 8": Run(replaced=(("8", "2"),), slow=True),
    "harness score runs/sft-7 --spec spec.yaml --out shards/1 --shard 1/8": Run(),
    "harness score runs/sft-7 --spec spec.yaml --out shards/$SLURM_ARRAY_TASK_ID --shard $SLURM_ARRAY_TASK_ID/8 --quiet": Run(
        replaced=(("$SLURM_ARRAY_TASK_ID", "1"),)
    ),
    "harness score /data/runs/sft-7 --spec /data/spec.yaml --out /data/shards/$SKYPILOT_NODE_RANK --shard $((SKYPILOT_NODE_RANK + 1))/8 --quiet": Run(
        replaced=(("/data/", ""), ("$SKYPILOT_NODE_RANK", "0"), ("$((SKYPILOT_NODE_RANK + 1))", "1"))
    ),
    "harness watch runs/sft-8 --spec spec.yaml --out results/sft-8 --idle-timeout 3600": Run(
        replaced=(("3600", "0.5"),), added=SOON
    ),
    "harness watch saves/sft-7 --field dataset_info.json#chats --out results/sft-7 --idle-timeout 3600": Run(
        replaced=(("saves/sft-7", "runs/sft-7"), ("3600", "0.5")), added=SOON
    ),
    "harness show results/sft-7": Run(),
    "harness show results/live": Run(),
    "harness show results/a results/b --last 8 --plot results/both.svg": Run(),
    "harness report results/sft-7": Run(),
    "harness report results/live -o results/live.html": Run(),
    "harness report results/demo": Run(),
    "harness report results/demo -o report.html": Run(),
    "harness report results/a results/b -o page.html": Run(),
    "harness report results/a results/b -o results/both.html": Run(),
    "harness report results/new results/old -o gate.html": Run(),
    "harness compare results/demo:mix-0 results/demo:mix-2": Run(),
    "harness compare results/a results/b": Run(),
    "harness compare results/a@100 results/b@300": Run(),
    "harness compare results/a results/b --json": Run(),
    "harness compare results/a results/b --markdown": Run(),
    "harness compare results/a results/b@500 --json": Run(),
    "harness gate results/new --against results/old@last --policy gate.yaml": GATE,
    'harness gate results/new --against results/old@last --policy gate.yaml --markdown >> "$GITHUB_STEP_SUMMARY"': GATE,
    "harness gate results/demo:mix-2 --against results/demo:mix-2@0 --policy gate.yaml": GATE,
    "harness gate results/demo:mix-2 --against results/demo:mix-0@7 --policy gate.yaml": GATE,
    "harness validate results/proxies --against results/large --target code": Run(),
    "harness export results/demo --format hf": Run(),
    "harness export results/demo --format inspect": Run((EXIT_OK, EXIT_INCOMPLETE)),
    "harness export simulations.json --format inspect -o logs/": TAU2,
    "harness mix sample domains.json -o plans.json --steps 80 --number 384": Run(replaced=(("384", "2"),)),
    "harness mix fit results/proxies --domains domains.json -o agent/": Run(slow=True),
    "harness tau2 run --domain mock --agent-llm hosted_vllm/scripted --agent-api-base http://127.0.0.1:8799/v1 "
    "--user-llm hosted_vllm/scripted --user-api-base http://127.0.0.1:8799/v1 --out results/tau2": TAU2,
    "harness tau2 view results/tau2": Run(replaced=(("results/tau2", "results/airline"),), simulated=True),
    "harness tau2 view results/sft-7-tau2": Run(replaced=(("results/sft-7-tau2", "results/airline"),), simulated=True),
    "harness tau2 rescore results/tau2": Run(replaced=(("results/tau2", "results/airline"),), simulated=True),
    "harness report results/tau2": Run(replaced=(("results/tau2", "results/airline"),), simulated=True),
    "harness report results/tau2 -o results/tau2.html": Run(
        replaced=(("results/tau2 ", "results/airline "),), simulated=True
    ),
    "harness tau2 rescore results.json.gz": TAU2,
    "harness tau2 convert results/airline -o airline.json": TAU2,
    "harness tasks path": Run(),
    "harness ls": Run(),
    "harness --version": Run(),
    "python examples/simulated_study.py --out results/study": Run(slow=True),
}
"""Commands that are run, in a copy of one prepared folder (docs_world.py)."""

FAMILIES = "needs data of the benchmarks and a server; tests/components/inspect/test_interference.py measures two such checkpoints"
MARKED: dict[str, str] = {
    "make demo": "minutes; tests/test_demo.py runs the demo at a fraction of its size",
    "make test": SETS_UP,
    "harness doctor runs/sft-7 --spec full.yaml": VLLM,
    "harness score runs/sft-7 --spec full.yaml --dry-run": VLLM,
    "harness score runs/sft-7 --spec full.yaml --out results/sft-7": VLLM,
    "harness score --spec full.yaml runs/sft-7/": VLLM,
    "harness score runs/sft-7 --spec tau2.yaml --out results/sft-7-tau2": VLLM,
    "harness serve runs/sft-7/checkpoint-500": VLLM,
    "harness serve runs/sft-7/checkpoint-300 --port 8000": VLLM,
    "harness score --spec examples/families/coding_without_web.yaml models/base --out out/base": FAMILIES,
    "harness score --spec examples/families/coding_without_web.yaml runs/coding-only --out out/coding-only": FAMILIES,
    "harness compare out/base out/coding-only": FAMILIES,
    "make loop": "a quarter of an hour; tests/test_loop.py runs the loop at a fraction of its size",
    "python -m harness.mixing.dataflex train.yaml": "needs LLaMA-Factory as DataFlex pins it; tests/mixing/test_dataflex.py has its mixer",
    "harness mix collect plans.json --tokens tokens.json --base base/ --spec spec.yaml -o results/proxies --workers 2": (
        "trains proxies; tests/mixing/test_collect.py does, by the same command"
    ),
    "harness tau2 scripted --domain mock --port 8799": "serves until it is ended; the runs against it have one in this process",
    "harness prefetch org/model@step1000 --spec spec.yaml": "needs the hub; tests/run/test_prefetch.py fetches from one of its own",
    "harness score runs/sft-7 --spec spec.yaml --out /shared/results/sft-7 --workers ray --worker-cpus 8": "needs a Ray cluster; tests/run/executors starts one",
    "ray start --head": "needs a Ray cluster; tests/run/executors starts one",
    "sbatch --wait shards.sh && harness merge results/sft-7 shards/*": "needs Slurm; tests/run/test_merge.py merges",
    "harness score run/ --track trackio": TRACKER,
    "harness score run/ --track wandb:my-team/mixing --track tensorboard": TRACKER,
    "harness mix next results/target --agent agent/": "needs the agent of `mix fit`; tests/mixing/test_agent.py asks one",
    "harness validate results/study/proxies --against results/study/targets --target coding -o results/study/weights.json": (
        "needs the study; tests/cli/test_validate.py runs it on a small one"
    ),
    "inspect view --log-dir results/demo/inspect": "a server of another program; tests/report reads the same logs with Inspect",
    "llamafactory-cli train examples/training/llamafactory.yaml": "needs LLaMA-Factory; tests/run/test_trainers.py trains with it",
    "python examples/training/trl_sft.py base chats.jsonl spec.yaml out": "needs TRL; tests/run/test_trainers.py trains with it",
    "python -m build --wheel": INSTALLS,
    "pipx install dist/mixture_harness-*.whl": INSTALLS,
    "uvx --from dist/mixture_harness-*.whl harness --version": INSTALLS,
    "pip install -e examples/plugin": "installs; tests/spec/test_contract.py runs the example",
    "python benchmarks/report.py results/bench.json": BENCHMARK,
}
"""Commands that are not run, and why."""

MARKED_BEGINNINGS: dict[str, str] = {
    "make bench": BENCHMARK,
    "python benchmarks/": BENCHMARK,
    "harness tau2 run --domain retail --agent-llm hosted_vllm/": NETWORK,
    "harness lm-eval run --model harness --tasks tau2_mock,": NETWORK,
}

COMMANDS = {one.text: one for one in reversed(printed())}
"""Each command once, where it stands first."""


def test_every_printed_command_is_run_or_marked_and_the_table_names_no_other() -> None:
    concrete = [text for text, one in COMMANDS.items() if not one.is_synopsis]
    marked = [text for text in concrete if text in MARKED or text.startswith(tuple(MARKED_BEGINNINGS))]
    unknown = {
        text: f"{COMMANDS[text].page}:{COMMANDS[text].line}"
        for text in concrete
        if text not in RUN and text not in marked
    }
    assert not unknown, "add these to RUN, or to MARKED with the reason"
    assert [text for text in (*RUN, *MARKED) if text not in concrete] == [], "no page prints these any more"
    assert not set(RUN) & set(marked), "a command is run, or it is not"


def test_what_counts_as_a_command_is_found_wherever_it_stands() -> None:
    text = "harness prose\n\n    $ harness a b   # c\n    harness c \\\n        --d  # e\n\n```sh\nharness f\n```\nsee `harness g --h`\n"
    assert [one.text for one in commands_of(text, "p")] == ["harness a b", "harness c --d", "harness f"]
    assert inline_commands(text) == ["harness g --h"]


APPLICATION = typer.main.get_command(app)


def options_of(words: list[str]) -> tuple[set[str], list[str]]:
    """The options of the verb that a command names, and what follows the verb."""
    command: Any = APPLICATION
    rest = words[1:]
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}, rest


def test_a_printed_verb_exists_and_has_the_options_that_are_printed_with_it() -> None:
    inline = {text for page in pages() for text in inline_commands(page.read_text(encoding="utf-8"))}
    wrong = []
    for text in sorted({*COMMANDS, *inline}):
        if not text.startswith("harness ") or text.startswith("harness lm-eval"):
            continue
        for part in re.split(r" \| (?=mix )", text.partition(" -- ")[0].partition(" && ")[0]):
            words = re.sub(r"[\[\]|]", " ", part if part.startswith("harness") else f"harness {part}").split()
            known, rest = options_of(words)
            if rest == words[1:] and re.fullmatch(r"[a-z][a-z0-9-]*", words[1]):
                wrong.append(f"{text}: no verb {words[1]}")
            named = {option for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(rest)) if words[1] != "VERB"}
            wrong += [f"{text}: no option {option}" for option in named - known - {"--help", "-h"}]
    assert wrong == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs") / "world"
    docs_world.make(root)
    return root


@pytest.fixture(scope="module")
def played(prepared: Path) -> Iterator[str]:
    """The prepared folder with simulations in it, and the address of who plays them."""
    with docs_world.simulated(prepared) as server:
        yield server.url


CASES: list[Any] = [
    pytest.param(
        text,
        id=re.sub(r"[^\w./-]+", " ", text)[:80],
        marks=[*([pytest.mark.slow] if how.slow else []), *([needs_port] if how.simulated else [])],
    )
    for text, how in RUN.items()
]


@pytest.mark.parametrize("text", CASES)
def test_a_printed_command_does_what_it_says(
    text: str, prepared: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    how = RUN[text]
    command = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", text).partition(" >> ")[0]
    if how.simulated:
        command = command.replace("http://127.0.0.1:8799/v1", request.getfixturevalue("played"))
    for old, new in how.replaced:
        assert old in command, f"{old} is no part of {command} any more"
        command = command.replace(old, new)
    words = [*shlex.split(command), *how.added]
    place = tmp_path / "place"
    shutil.copytree(prepared, place)
    if words[1] in ("score", "watch", "doctor"):  # into a folder of its own
        shutil.rmtree(
            place / (words[words.index("--out") + 1] if "--out" in words else "results/sft-7"), ignore_errors=True
        )
    if words[0] == "python":
        words[1] = str(ROOT / words[1])
        done = subprocess.run([sys.executable, *words[1:]], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == EXIT_OK, done.stderr
        return
    with ExitStack() as stack:
        stack.enter_context(chdir(place))
        code = run(words[1:])
    assert code in how.codes, f"exit code {code}: {capsys.readouterr().err[-2000:]}"


def test_the_loop_of_your_own_runs_as_it_is_printed(prepared: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "gallery" / "training-loop.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"(?:^(?: {4}.*)?\n)+", page[page.index("    from pathlib") :], flags=re.M)[:1]
    assert "range(80)" in block
    trained: list[dict[str, float]] = []

    def train_one_step(model: Any, mixture: dict[str, float]) -> None:
        trained.append(mixture)
        model.lm_head.weight.data.mul_(0.9)

    names: dict[str, Any] = {
        "model": tiny.llama(),
        "tokenizer": tiny.tokenizer(),
        "train_one_step": train_one_step,
    }
    place = tmp_path / "place"
    shutil.copytree(prepared, place, ignore=shutil.ignore_patterns("live"))
    with chdir(place):
        Agent(["prose", "code"], ["code", "prose"], settings=Settings(width=8, heads=2)).save(Path("agent"))
        exec(textwrap.dedent(block.replace("range(80)", "range(3)")), names)
    feed = read_feed(place / "results" / "live")
    assert [vector.step for vector in feed] == [0, 1, 2]
    assert [vector.mixture.normalized() if vector.mixture else {} for vector in feed] == [
        pytest.approx(mixture) for mixture in trained
    ]
    assert trained[0] == {"prose": 0.5, "code": 0.5} != trained[1]


LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in an address."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), flags=re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target = found[1] or found[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="zensical is not installed (the extra docs)")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "No issues found" in done.stdout + done.stderr, done.stdout + done.stderr
    settings = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs")
        assert (tmp_path / "site" / name).with_suffix(".html").exists()
        assert f'"{name.as_posix()}"' in settings, f"{name} is in no menu; add it to nav in zensical.toml"

"""Components of other packages: found by entry point; one that does not load is named with its own error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import run as cli
from harness.core.errors import SpecError
from harness.spec.kinds import COMPONENTS, component_class, component_kinds, words_of

PLUGIN = """
from typing import Literal
from harness.core.component import ComponentConfig
class LengthConfig(ComponentConfig):
    kind: Literal["length"]
    unit: str = "bytes"
class LengthComponent:
    Config = LengthConfig
    @staticmethod
    def resolve(config, folder):
        return config
"""


def install(site: Path, entry_points: str, *, name: str = "other_package", code: str = PLUGIN) -> None:
    """What pip would leave of a package with entry points."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[harness.components]\n{entry_points}\n")
    (site / f"{name}.py").write_text(code)


def run(site: Path, code: str) -> str:
    """Output of `code` in a process that has the package."""
    preamble = (
        f"import sys; sys.path.insert(0, {str(site)!r})\nfrom harness.spec.spec import parse_spec, spec_json_schema\n"
    )
    guarded = "\n".join(f"    {line}" for line in code.splitlines())
    program = f"{preamble}try:\n{guarded}\nexcept Exception as error:\n    print(type(error).__name__, error)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


USE = "print(parse_spec({'components': [{'name': 'n', 'kind': 'length'}]}).components[0].model_dump())"


def test_every_kind_in_the_table_loads_and_is_a_component() -> None:
    assert component_kinds().items() >= COMPONENTS.items()
    for kind in COMPONENTS:
        found = component_class(kind)
        assert found.Config.model_fields["kind"].annotation.__args__ == (kind,)
        for name in ("resolve", "load"):
            assert callable(getattr(found, name))


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="kind 'nope' is unknown; this version has logprob, lm_eval"):
        component_class("nope")


def test_a_kind_of_another_package_is_used_like_our_own(tmp_path: Path) -> None:
    install(tmp_path, "length = other_package:LengthComponent")
    output = run(tmp_path, f"{USE}\nprint(sorted(spec_json_schema()['$defs']))")
    assert "'kind': 'length'" in output
    assert "'unit': 'bytes'" in output
    assert "'length', 'lm_eval', 'logprob'" in output, "and stands in the published schema"


@pytest.mark.parametrize(
    ("target", "code", "problem"),
    [
        (
            "other_package:LengthComponent",
            "import missing_stack",
            "ModuleNotFoundError: No module named 'missing_stack'",
        ),
        ("other_package:LengthComponent", "raise RuntimeError('half installed')", "RuntimeError: half installed"),
        ("other_package:Misspelt", PLUGIN, "AttributeError: module 'other_package' has no attribute 'Misspelt'"),
    ],
)
def test_a_plugin_that_does_not_load_is_named_with_its_error(
    tmp_path: Path, target: str, code: str, problem: str
) -> None:
    install(tmp_path, f"length = {target}", code=code)
    assert f"SpecError spec: components[0] (n): component kind 'length' ({target}) does not load: {problem}" in run(
        tmp_path, USE
    )


def test_a_broken_plugin_does_not_disturb_the_others(tmp_path: Path) -> None:
    install(tmp_path, "length = other_package:LengthComponent", code="import missing_stack")
    use = "print(parse_spec({'components': [{'name': 'n', 'kind': 'logprob', 'field': 'stdlib_code'}]}).components[0].name)"
    assert run(tmp_path, use) == "n\n"


@pytest.mark.parametrize("second", ["logprob = other_package:Mine", "length = third:Theirs"])
def test_one_name_claimed_twice_is_refused(tmp_path: Path, second: str) -> None:
    install(tmp_path, "length = other_package:LengthComponent")
    install(tmp_path, second, name="third")
    output = run(tmp_path, USE)
    assert output.startswith("SpecError ")
    assert f"component kind {second.split()[0]!r} is registered twice: " in output
    assert "uninstall one of the packages" in output


def test_a_kind_is_told_in_words_without_being_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert words_of("harness.components.logprob.component:LogprobComponent").startswith("A field's average")
    assert words_of("no_such_package.module:Kind") == "no_such_package.module:Kind"
    assert cli(["ls", "components"]) == 0
    assert "harness.components" not in capsys.readouterr().out

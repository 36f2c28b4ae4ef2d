"""What is installed is complete: the wheel holds every module and every YAML, behind one import root."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_every_module_and_yaml_under_one_import_root(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("harness", "tasks", "reward_models"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        (Path(prefix) / path.relative_to(ROOT / folder)).as_posix()
        for folder, prefix in (
            ("harness", "harness"),
            ("tasks", "harness/tasks"),
            ("reward_models", "harness/reward_models"),
        )
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {name for name in expected if not name.startswith("harness/harness")}
    assert packed == expected

"""What is installed is complete: the wheel holds every module and every YAML, behind one import root, and works from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import tiny

from harness.feed.feed import read_feed

ROOT = Path(__file__).parent.parent


def wheel(tmp_path: Path) -> Path:
    """The wheel, built from a copy of the sources."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("harness", "tasks", "reward_models"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = tmp_path.glob("*.whl")
    return made


def test_the_wheel_holds_every_module_and_yaml_under_one_import_root(tmp_path: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel(tmp_path)).namelist() if ".dist-info/" not in name}
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


@pytest.mark.slow
def test_the_installed_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    """In an environment of its own, which sees this one's packages but for harness (whose sources lie nowhere near)."""
    made = wheel(tmp_path)
    environment, place = tmp_path / "environment", tmp_path / "place"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(made)]
    subprocess.run(install, check=True, capture_output=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    (Path(site) / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place.mkdir()
    checkpoint = tiny.save(tmp_path / "runs" / "checkpoint-1", tiny.llama(1))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def harness(*arguments: str) -> str:
        command = [str(environment / "bin" / "harness"), *arguments]
        done = subprocess.run(command, cwd=place, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import harness; print(harness.__file__)"],
        cwd=place,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    assert harness("--version").startswith("harness ")
    assert "stdlib_code" in harness("ls")
    assert (Path(harness("tasks", "path").strip()) / "reward_env").is_dir()
    harness("score", str(checkpoint), "--out", "run", "--quiet")
    assert [vector.status for vector in read_feed(place / "run")] == ["ok"]
    assert "stdlib_prose" in harness("show", "run", "--plot", "run.svg")
    harness("report", "run", "-o", "run.html")
    assert (place / "run.html").stat().st_size > 10_000

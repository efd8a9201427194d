"""`rallypoint new` writes a package whose own tests pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from rallypoint.cli import new_game


def test_generated_package_passes_its_tests(tmp_path: Path) -> None:
    assert new_game.run(["my-race", "--directory", str(tmp_path)]) == 0
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:looptime_plugin",
        "-p",
        "no:randomly",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=tmp_path / "my-race",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_generated_package_keeps_out_of_git_what_runs_leave(tmp_path: Path) -> None:
    folder = new_game.write("tag", tmp_path)
    written = {path for path in folder.rglob("*") if path.is_file()}
    for left in (
        ".rallypoint/signing-key.pem",
        "src/tag/__pycache__/a.pyc",
        "tests/__pycache__/a.pyc",
        "src/tag.egg-info/PKG-INFO",
        ".pytest_cache/README.md",
    ):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).touch()
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    seen = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert {folder / line for line in seen.splitlines()} == written


def test_generated_entry_point_names_the_class(tmp_path: Path) -> None:
    folder = new_game.write("tag", tmp_path)
    assert 'tag = "tag:Tag"' in (folder / "pyproject.toml").read_text()
    assert "class Tag(RoomGame)" in (folder / "src/tag/__init__.py").read_text()


@pytest.mark.parametrize("name", ["My-Game", "1st", "class", "", "a b", "x" * 33])
def test_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    assert new_game.run([name, "--directory", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tag").mkdir()
    assert new_game.run(["tag", "--directory", str(tmp_path)]) == 1
    assert list((tmp_path / "tag").iterdir()) == []

"""`rallypoint new my-game`: write the skeleton of a game as a package of its own.

The skeleton works as it is: a playable race, an entry point of the group `rallypoint.games`, and a
test that runs rooms without sockets. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import keyword
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from rallypoint.kit import errors, names

FILES: Mapping[str, str] = {
    "gitignore.tmpl": ".gitignore",
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "game.py.tmpl": "src/{module}/__init__.py",
    "test_game.py.tmpl": "tests/test_{module}.py",
}


def run(arguments: list[str]) -> int:
    """Write the package; the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        written = write(parsed.name, Path(parsed.directory))
    except (errors.RallypointError, OSError) as error:
        print(f"rallypoint new: {error}", file=sys.stderr)
        return 1
    print(f"wrote {written}\n\n{_next_steps(parsed.name, written)}")
    return 0


def write(name: str, directory: Path) -> Path:
    """Write the package `name` into `directory`; the folder it is in.

    Raises InvalidArgument for a name that cannot be one, AlreadyExists for a folder that is there.
    """
    module = names.check_name(name, "the name").replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise errors.InvalidArgument("NAME_INVALID", f"{name!r} cannot be a Python module")
    target = directory / name
    if target.exists():
        raise errors.AlreadyExists("FOLDER_EXISTS", f"{target} is there already")
    words = [word for word in name.split("-") if word]
    values = {
        "name": name,
        "module": module,
        "class_name": "".join(word.capitalize() for word in words),
        "title": " ".join(words).capitalize(),
    }
    templates = resources.files("rallypoint.cli") / "templates"
    for template, path in FILES.items():
        text = Template((templates / template).read_text("utf-8")).substitute(values)
        file = target / path.format(module=module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return target


def _next_steps(name: str, written: Path) -> str:
    """What to type, with the Python that Rallypoint is in: it is not in any other."""
    python = f"{sys.executable} -m"
    return (
        f"  cd {written}\n  {python} pip install -e '.[test]'\n  {python} pytest\n"
        f"  {python} rallypoint up --queue {name} --bots 4"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint new", description="Write the skeleton of a game of your own."
    )
    parser.add_argument("name", help="the game's name, [a-z0-9-], such as my-game")
    parser.add_argument("--directory", default=".", help="where its folder is made (%(default)s)")
    return parser

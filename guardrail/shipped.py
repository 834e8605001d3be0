"""Files that ship with the package: recipes, eval sets, rehearsal sets, callbacks, launch files."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from guardrail.errors import InputError, did_you_mean

__all__ = [
    "PREFIX",
    "find_recipe",
    "install_command",
    "resolve",
    "shipped_recipes",
    "shipped_root",
    "shipped_sets",
    "user_path",
]

PREFIX = "shipped:"
"""Marks a path inside the package's own files, for example `shipped:eval_sets/toy-redline-300`."""


def shipped_root() -> Path:
    """Return the folder that holds the shipped folders: the package in a wheel, else the repository."""
    package = Path(__file__).parent
    return package if (package / "recipes").is_dir() else package.parent


def install_command(extra: str) -> str:
    """Return how an extra of this package is installed, for an error's next step: it is on no package index yet.

    Under the constraints of the environment that runs, so that it does not change the TRL that is there.
    """
    constraints = "constraints-trl1.txt" if _trl_is_1() else "constraints.txt"
    return (
        f"`pip install '.[{extra}]' -c {constraints}` in the clone of guardrail (once it is released: "
        f"`pip install 'redline-guardrail[{extra}]'`)"
    )


def _trl_is_1() -> bool:
    try:
        return version("trl").startswith("1.")
    except PackageNotFoundError:
        return False


def user_path(path: str) -> Path:
    """Return a path that somebody wrote, `~` expanded.

    Raises:
        InputError: no file can have that name, or there is no such user.
    """
    if (
        "\0" in path
        or len(os.fsencode(path)) > 4000
        or any(len(os.fsencode(p)) > 255 for p in path.split("/"))
    ):
        raise InputError(f"`{path[:80].replace(chr(0), '?')}` is no file's name; give a path")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"`{path[:80]}`: there is no such user's folder; give the path in full"
        ) from error


def resolve(path: str, relative_to: Path) -> Path:
    """Return the absolute path of a recipe's path: shipped, absolute, or relative to a folder.

    Raises:
        InputError: it is no path, or a shipped one leads out of what ships.
    """
    given = user_path(path.removeprefix(PREFIX))
    try:
        if not path.startswith(PREFIX):
            return (relative_to / given).resolve()
        found, root = (shipped_root() / given).resolve(), shipped_root().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise InputError(
            f"`{path[:200]}` leads nowhere ({error!s:.200}); give another path"
        ) from error
    if not found.is_relative_to(root):
        raise InputError(
            f"`{path[:200]}` leads out of the package's own files; leave `{PREFIX}` away"
        )
    return found


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name."""
    return {p.stem: p for p in sorted((shipped_root() / "recipes").glob("*.yaml"))}


def shipped_sets() -> dict[str, str]:
    """Return how a recipe writes each shipped item set, by the set's name."""
    files = sorted(shipped_root().glob("*_sets/*/items.jsonl"))
    return {p.parent.name: f"{PREFIX}{p.relative_to(shipped_root())}" for p in files}


def find_recipe(name: str | Path) -> Path:
    """Return the recipe file: an existing path first, then a shipped recipe's name or file name.

    Raises:
        InputError: neither exists, or it is no path.
    """
    path = user_path(str(name))
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.suffix in ("", ".yaml"):
        return shipped[path.stem]
    raise InputError(
        f"recipe `{name}` is neither a file nor a shipped recipe{did_you_mean(path.stem, shipped)}; shipped are "
        + ", ".join(shipped)
    )

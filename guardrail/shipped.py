"""Files that ship with the package: recipes, eval sets, rehearsal sets, callbacks, launch files."""

from pathlib import Path

from guardrail.errors import InputError

__all__ = ["PREFIX", "find_recipe", "resolve", "shipped_recipes", "shipped_root"]

PREFIX = "shipped:"
"""Marks a path inside the package's own files, for example `shipped:eval_sets/toy-redline-300`."""


def shipped_root() -> Path:
    """Return the folder that holds the shipped folders: the package in a wheel, else the repository."""
    package = Path(__file__).parent
    return package if (package / "recipes").is_dir() else package.parent


def resolve(path: str, relative_to: Path) -> Path:
    """Return the absolute path of a recipe's path: shipped, absolute, or relative to a folder."""
    if path.startswith(PREFIX):
        return (shipped_root() / path.removeprefix(PREFIX)).resolve()
    return (relative_to / Path(path).expanduser()).resolve()


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name."""
    return {p.stem: p for p in sorted((shipped_root() / "recipes").glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """Return the recipe file: an existing path first, then a shipped recipe's name or file name.

    Raises:
        InputError: neither exists.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.stem in shipped and path.suffix in ("", ".yaml"):
        return shipped[path.stem]
    raise InputError(
        f"recipe `{name}` is neither a file nor a shipped recipe; shipped are {', '.join(shipped)}"
    )

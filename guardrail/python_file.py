"""A file of Python that the user names: read by its path and carried out, as their own code."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from guardrail.errors import InputError

__all__ = ["python_file"]


def python_file(path: Path, what: str) -> ModuleType:
    """Return the module of a file, which is run: take none from whom you do not trust.

    Args:
        path: Of the file.
        what: It is called in messages, such as `reward file`.

    Raises:
        InputError: no such file, or it fails while it is read.
    """
    name = f"guardrail_{what.replace(' ', '_')}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{what} `{path}` does not exist; give the path of a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the user's look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{what} `{path}` cannot be read ({type(error).__name__}: {error}); mend it, or put what it imports on PYTHONPATH"
        ) from error
    return module

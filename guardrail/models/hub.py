"""Where a model comes from: a folder, Hugging Face or ModelScope; the weights hash is the same for all."""

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from guardrail.errors import InputError
from guardrail.shipped import install_command

__all__ = ["Hub", "is_hub_name", "model_folder"]

Hub = Literal["huggingface", "modelscope"]

_LIBRARIES = {"huggingface": "huggingface_hub", "modelscope": "modelscope"}
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""What a run needs of a model's repository; weights in other forms stay there."""


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of a hub's, `ORG/MODEL` or `ORG/MODEL@REVISION`."""
    parts = name.split("@", 1)[0].split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~", "/"))


def model_folder(name: str, hub: Hub) -> Path:
    """Return the local folder of a hub's model, downloaded into the hub's own cache if it is not there.

    Args:
        name: `ORG/MODEL`, with `@REVISION` for a branch, tag or commit.
        hub: Where to look.

    Raises:
        InputError: the hub cannot be reached and the cache lacks the model, there is no such model,
            or ModelScope's library is not installed.
    """
    model, _, revision = name.partition("@")
    try:
        download: Any = import_module(_LIBRARIES[hub]).snapshot_download
    except ImportError as error:
        raise InputError(
            f"`{name}` from {hub} needs its library; run {install_command(hub)}"
        ) from error

    def get(**cached: bool) -> Path:
        return Path(download(model, revision=revision or None, allow_patterns=_FILES, **cached))

    # Both libraries raise errors of a dozen kinds; whatever it was, a cached copy will do.
    try:
        return get()
    except Exception as error:
        try:
            return get(local_files_only=True)
        except Exception:
            said = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(
                f"cannot get model `{name}` from {hub}: {said}; check name and network, or download "
                "the model and give the path of its folder"
            ) from error

"""Which model is this: hashes of weights, tokenizer and chat template, without loading the model."""

import hashlib
import json
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.read_back import read_json

__all__ = [
    "AVERAGED_FILE",
    "adapter_base",
    "averaged_from",
    "chat_template_sha256",
    "file_sha256",
    "is_adapter",
    "model_fingerprint",
    "own_weights_sha256",
    "require_model",
    "weight_files",
    "weights_sha256",
]

AVERAGED_FILE = "averaged.json"
"""Says of a model that `guardrail average` made what it was made from."""
_CHUNK_BYTES = 1 << 22
_LARGEST_FACTS = 1 << 20
"""Bytes of `averaged.json`."""


def file_sha256(path: Path) -> str:
    """Return a file's hash."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _tensors(path: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Tensor name → dtype, shape, first and last byte, from a safetensors header."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(size))
    header.pop("__metadata__", None)
    start = 8 + size
    return {
        name: (entry["dtype"], entry["shape"], *(start + o for o in entry["data_offsets"]))
        for name, entry in header.items()
    }


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter instead of a whole model."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def averaged_from(folder: Path) -> dict[str, Any] | None:
    """Return what a model was averaged from, `model`, `share` and, of a whole one, `base`; None where the folder does not say."""
    try:
        facts = read_json(folder / AVERAGED_FILE, _LARGEST_FACTS)
        model, share, base = facts["model"], facts["share"], facts.get("base")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(model, str) or not isinstance(share, float):
        return None
    return {"model": model, "share": share} | ({"base": base} if isinstance(base, str) else {})


def adapter_base(folder: Path) -> Path:
    """Return the model folder below a PEFT adapter; the folder itself where it is a whole model.

    Raises:
        InputError: the adapter names a base that is no folder here.
    """
    if not is_adapter(folder):
        return folder
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = Path(str(config["base_model_name_or_path"]))
    if not (base / "config.json").is_file():
        raise InputError(
            f"adapter `{folder}` sits on `{base}`, which is no model folder here; mend "
            "`base_model_name_or_path` in its adapter_config.json, or merge the adapter"
        )
    return base


def require_model(folder: Path) -> None:
    """Refuse a folder that holds neither a whole model nor an adapter.

    Raises:
        InputError: it has no config.json and no adapter_config.json.
    """
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise InputError(
            f"`{folder}` is neither a model folder (config.json) nor an adapter (adapter_config.json)"
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's or an adapter's own weights, in the order of their names.

    Raises:
        InputError: the folder holds no `*.safetensors` file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"model folder `{folder}` holds no *.safetensors weights")
    return files


def own_weights_sha256(folder: Path) -> str:
    """Return one hash of a folder's own safetensors weights, whatever the sharding; of an adapter without its base.

    Tensors are hashed in the order of their names: name, dtype, shape, bytes. A copy from another hub, or with other
    shard sizes, has the same hash; another precision has another.

    Raises:
        InputError: the folder holds no `*.safetensors` file.
    """
    return _hash_files(*_unchanged(weight_files(folder)))


def weights_sha256(folder: Path) -> str:
    """Return one hash of a model folder's weights (`own_weights_sha256`); an adapter's is of its own and its base's.

    Raises:
        InputError: the folder holds no `*.safetensors` file, or an adapter's base is not here.
    """
    own = own_weights_sha256(folder)
    if is_adapter(folder):
        return hashlib.sha256(f"{own}|{weights_sha256(adapter_base(folder))}".encode()).hexdigest()
    return own


def _unchanged(files: list[Path]) -> tuple[tuple[Path, ...], tuple[tuple[int, int], ...]]:
    """Files, with sizes and times: 16 GB are not read twice in one process."""
    stats = [path.stat() for path in files]
    return tuple(files), tuple((s.st_size, s.st_mtime_ns) for s in stats)


@lru_cache(maxsize=16)
def _hash_files(files: tuple[Path, ...], unchanged: tuple[tuple[int, int], ...]) -> str:
    """Hash the tensors of the files; sizes and times in the key, for 16 GB are read in minutes."""
    where = {name: (path, entry) for path in files for name, entry in _tensors(path).items()}
    digest = hashlib.sha256()
    for name in sorted(where):
        path, (dtype, shape, first, last) = where[name]
        digest.update(f"{name}|{dtype}|{shape}|".encode())
        with path.open("rb") as file:
            file.seek(first)
            left = last - first
            while left:
                chunk = file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise InputError(f"`{path}` is cut short inside tensor `{name}`")
                digest.update(chunk)
                left -= len(chunk)
    return digest.hexdigest()


def _chat_template(folder: Path) -> str:
    template = folder / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if config.is_file():
        found = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if found is not None:
            return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    raise InputError(
        f"model folder `{folder}` has no chat template; use the chat model, not a bare base"
    )


def chat_template_sha256(folder: Path) -> str:
    """Return the hash of a model folder's chat template.

    Raises:
        InputError: it has none.
    """
    return hashlib.sha256(_chat_template(folder).encode("utf-8")).hexdigest()


def model_fingerprint(folder: str | Path) -> dict[str, str]:
    """Return the hashes that tie anchors to one model: `weights`, `tokenizer`, `chat_template`.

    Raises:
        InputError: the folder, its weights, its tokenizer.json or its chat template is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"model folder `{folder}` does not exist; give the path of a model folder")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise InputError(
            f"model folder `{folder}` has no tokenizer.json (a fast tokenizer is needed)"
        )
    return {
        "weights": weights_sha256(folder),
        "tokenizer": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
        "chat_template": chat_template_sha256(folder),
    }

"""A saved model that is judged: a checkpoint or an adapter from disk, and who answers for it, this process or a server."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guardrail.anchors.store import Anchors, Manifest
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.served_checkpoint import served_checkpoint
from guardrail.engines.vllm_client import VllmServer
from guardrail.engines.vllm_server import ServerEngine
from guardrail.errors import InputError
from guardrail.models.fingerprint import require_model
from guardrail.models.load import load_model, on_accelerator, where_there_is_room
from guardrail.sets.items import Item, items_sha256, read_items

__all__ = ["answering", "load_finished", "placed_engine", "stored_items"]


def load_finished(
    model: Path,
    base: Path | None,
    quantization: dict[str, Any] | None,
    *,
    merged: bool,
    dtype: Any = "auto",
) -> tuple[Any, Any, Path]:
    """Return model and tokenizer of a checkpoint or of a PEFT adapter on its base, and the template's folder.

    An adapter that was trained on a quantised base is judged on it, unmerged, and so it is compared with a server's.

    Args:
        model: Its folder.
        base: The model an adapter sits on; None: the one it names.
        quantization: Of the base, as the anchors' manifest has it.
        merged: Whether an adapter's weights are added to its base's, which answers faster and rounds otherwise.
        dtype: Of the weights; by default what they were saved in.

    Raises:
        InputError: the folder is no model's, or the adapter's base is not here.
    """
    adapter = model / "adapter_config.json"
    if not adapter.is_file():
        require_model(model)
        return *load_model(model, dtype, quantization=quantization), model
    from peft import PeftModel

    if base is None:
        named = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        base = Path(str(named))
    if not (base / "config.json").is_file():
        raise InputError(
            f"adapter `{model}` sits on `{base}`, which is no model folder here; give it with `--base`"
        )
    weights, tokenizer = load_model(base, dtype, quantization=quantization)
    adapted = PeftModel.from_pretrained(weights, str(model))
    merged = merged and not quantization
    return adapted.merge_and_unload() if merged else adapted, tokenizer, base


def placed_engine(
    weights: Any, tokenizer: Any, manifest: Manifest, server: VllmServer | None
) -> InProcessEngine:
    """Return a loaded model as an engine with the anchors' decoding, on this machine's accelerator if that is free."""
    weights.eval()
    place = on_accelerator if server is None else where_there_is_room
    return InProcessEngine(
        place(weights), tokenizer, manifest.decoding, manifest.profile, manifest.batch_size
    )


@contextlib.contextmanager
def answering(
    local: InProcessEngine,
    server: VllmServer | None,
    served_as: str | None,
    model: Path,
    anchors: Anchors,
    rehearsal: Sequence[Item],
) -> Iterator[tuple[ServerEngine | None, dict[str, Any] | None]]:
    """Give for the body the server that answers and what is known of it; None twice: the weights here do.

    Raises:
        InputError: as `served_checkpoint`.
    """
    if server is None:
        yield None, None
        return
    with served_checkpoint(server, served_as, model, local, anchors, rehearsal) as found:
        yield found


def stored_items(anchors: Path, file: str, sha256: str) -> list[Item]:
    """Return the items that lie beside anchors: `red-line.jsonl` or `rehearsal.jsonl`.

    Args:
        anchors: Their folder.
        file: Which.
        sha256: Of the items that the anchors answer, by their manifest.

    Raises:
        InputError: they are not there, or are others.
    """
    if not (anchors / file).is_file():
        raise InputError(
            f"anchors `{anchors}` were made without their items ({file}); run `guardrail anchor RECIPE --rebuild`"
        )
    items = read_items(anchors / file)
    if items_sha256(items) != sha256:
        raise InputError(
            f"`{anchors / file}` does not hold the items that the anchors answer; run `guardrail anchor RECIPE --rebuild`"
        )
    return items

"""Who answered the looks of a run: which engine, in which version, with which model and precision."""

from typing import Literal

from guardrail.judge.verdict import Facts
from guardrail.report.run_data import RunData, text_or_none

__all__ = ["LookEngine", "look_engine"]

_KINDS: dict[str, Literal["in_process", "rollout", "sidecar", "server"]] = {
    "in-process": "in_process",
    "the trainer's vLLM": "rollout",
    "a sidecar": "sidecar",
    "vllm-server": "server",
}
"""What a ledger's header calls them."""


class LookEngine(Facts):
    """Who answered the looks; None for what the ledger does not tell."""

    kind: Literal["in_process", "rollout", "sidecar", "server"] | None
    """The training process or that of `guardrail look`, the trainer's vLLM, `guardrail serve`, a vLLM server."""
    version: str | None
    """Package and version: vLLM's where one answered, else that of transformers."""
    model: str | None
    """As a server names it; without a server the weights in training answer."""
    dtype: str | None
    """Of the forwards, where the model in training answered."""


def look_engine(data: RunData) -> LookEngine:
    """Return who answered the looks, a server by what the newest of them says."""
    started = data.started
    kind = _KINDS.get(str(started.get("engine")))
    served = next((k.served for k in reversed(data.looks) if k.served), None)
    served = served or (started.get("served") if kind == "server" else None)
    versions, precision = (
        found if isinstance(found := started.get(key), dict) else {}
        for key in ("versions", "precision")
    )
    package = "vllm" if kind in ("rollout", "server") or served else "transformers"
    found = served.get("version") if isinstance(served, dict) else versions.get(package)
    named = served.get("root") or served.get("name") if isinstance(served, dict) else None
    # A sidecar that loads the model itself may have other packages than the training, whose header this is.
    known = found is not None and (kind != "sidecar" or served)
    return LookEngine(
        kind=kind,
        version=f"{package} {found!s:.80}" if known else None,
        model=text_or_none(named),
        dtype=text_or_none(precision.get("forwards")) if kind == "in_process" else None,
    )

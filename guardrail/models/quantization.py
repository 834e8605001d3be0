"""How a model's weights are quantised, in words that compare: QLoRA's base is another model than the whole one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrail.models.fingerprint import adapter_base

__all__ = ["quantization_of_folder", "quantization_words"]


def quantization_words(settings: Mapping[str, Any] | None) -> str:
    """Return settings of a quantised model in words, empty for one that is not: equal words, equal weights.

    Args:
        settings: Arguments of transformers' `BitsAndBytesConfig`, or the `quantization_config` of a config.json; what
            has to do with memory and speed alone is left out.
    """
    if not settings:
        return ""
    method = settings.get("quant_method") or "bitsandbytes"
    method = str(
        getattr(method, "value", method)
    )  # a loaded model has an enumeration's member there
    if method != "bitsandbytes":
        bits = settings.get("bits") or settings.get("w_bit")
        return f"{method} {bits}-bit" if bits else method
    kept_whole = settings.get("llm_int8_skip_modules") or ()
    said = f", {', '.join(sorted(kept_whole))} not quantised" if kept_whole else ""
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        kind = settings.get("bnb_4bit_quant_type") or "fp4"
        double = " twice" if settings.get("bnb_4bit_use_double_quant") else ""
        computed = str(settings.get("bnb_4bit_compute_dtype") or "float32").removeprefix("torch.")
        return f"bitsandbytes 4-bit {kind}{double}, computed in {computed}{said}"
    threshold = float(settings.get("llm_int8_threshold", 6.0))
    return f"bitsandbytes 8-bit, outliers above {threshold:g}{said}"


def quantization_of_folder(folder: str | Path) -> str:
    """Return how the weights in a model's folder are quantised, in the same words; an adapter's base counts."""
    config = json.loads((adapter_base(Path(folder)) / "config.json").read_text(encoding="utf-8"))
    return quantization_words(config.get("quantization_config"))

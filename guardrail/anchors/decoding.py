"""How answers are decoded; pinned by the anchors and used by every look."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Decoding"]


class Decoding(BaseModel):
    """Decoding settings of golds, replicates and looks."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    mode: Literal["greedy", "sampled"] = "sampled"
    """Greedy needs one replicate; sampled needs several (`replicates`)."""
    temperature: float = Field(default=0.7, gt=0, le=2)
    """Only used when sampled."""
    top_p: float = Field(default=0.8, gt=0, le=1)
    """Only used when sampled; Qwen3's advice without thinking is 0.7, 0.8, 20."""
    top_k: int = Field(default=20, ge=0)
    """Only used when sampled; 0 keeps every token."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=2)
    """1 punishes no repetition. The model's own generation_config.json never has a say."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longer answers are cut and their finish reason is `length`."""

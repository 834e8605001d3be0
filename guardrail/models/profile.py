"""What a model's answers are made with besides its weights: stop tokens, padding, template, thinking."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Profile"]


class Profile(BaseModel):
    """How one model opens and ends its turns; pinned by the anchors and shared by looks and training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop: tuple[int, ...]
    """Tokens that end an answer: those of tokenizer, generation_config, config and chat template together."""
    pad: int
    """Padding token; where the tokenizer has none, a stop token, which attention masks hide."""
    thinking: bool
    """`enable_thinking` the prompts are rendered with."""
    heeds_thinking: bool
    """Whether the chat template changes with `enable_thinking`."""
    opened: str
    """The thinking block that the prompt itself opens and the answer goes on with, empty if none."""
    system_turns: bool
    """Whether the chat template takes a system turn."""
    alternating: bool
    """Whether it insists that user and assistant take turns."""
    vocabulary: int
    """Rows of the output layer: token ids lie below it."""

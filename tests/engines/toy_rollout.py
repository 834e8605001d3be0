"""A copy of a model in the place of a trainer's vLLM: it is handed weights, and may keep some it should give up."""

import copy
import math
from typing import Any

import torch

from guardrail.engines.decode import answer_tokens
from guardrail.engines.rollout_weights import Written


class ToyRollout:
    """Writes with the weights handed over last; `RolloutVllm` for tests, without a vLLM."""

    def __init__(self, model: Any, *, dtype: torch.dtype | None = None) -> None:
        """Keep the trainer's model, whose weights are handed over, and begin with a copy of it."""
        self.model, self.mine = model, copy.deepcopy(model)
        self.dtype = dtype
        self.takes = True
        """Whether it takes the weights of the moment."""
        self.keeps = ""
        """Parameters whose names hold this stay behind."""
        self.ends_after: int | None = None
        """Tokens after which it ends every text, whatever it was asked for."""
        self.gives_logprobs = True
        self.asked: list[int] = []
        """How many prompts came in each call."""

    def write(self, prompts, decoding, profile, seed):
        self.asked.append(len(prompts))
        if self.takes:
            self._take()
        most = decoding.max_new_tokens if self.ends_after is None else self.ends_after
        short = decoding.model_copy(update={"max_new_tokens": most})
        own = self.mine if self.dtype is None else copy.deepcopy(self.mine).to(self.dtype)
        own.eval()
        with torch.no_grad():
            texts = answer_tokens(own, prompts, short, profile.stop, seed=seed)
            return [self._written(own, p, t) for p, t in zip(prompts, texts, strict=True)]

    def _take(self) -> None:
        new = dict(self.model.named_parameters())
        for name, parameter in self.mine.named_parameters():
            if not self.keeps or self.keeps not in name:
                parameter.data.copy_(new[name].data)

    def _written(self, own, prompt, text):
        if not self.gives_logprobs:
            return Written(text, [math.nan] * len(text))
        logits = own(input_ids=torch.tensor([[*prompt, *text]])).logits[0, len(prompt) - 1 : -1]
        chosen = torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(text)[:, None])
        return Written(text, chosen[:, 0].tolist())

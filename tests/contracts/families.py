"""Real families of models: architecture and settings, chat template, special tokens and their roles.

What is not named here is what transformers' configuration of the class says. Templates are the families' own
(templates/README.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models as it is released."""

    name: str
    config: Callable[..., Any]
    settings: dict[str, Any]
    """Of the configuration: what the released model has and the class does not have by default."""
    template: str
    """File below templates/."""
    eos: str
    """The tokenizer's."""
    stops: tuple[str, ...]
    """generation_config's: the first one ends the turns the template writes."""
    pad: str | None
    bos: str | None = None
    special: tuple[str, ...] = ()
    """Further special tokens."""
    added: tuple[str, ...] = ()
    """Tokens of their own that decode to text, as Qwen3's `<think>` does."""
    adds_bos: bool = False
    """Whether the tokenizer itself begins a text with `bos`."""
    final_norm: float = 1.0
    """Factor of the last norm, for logits as far apart as the others'."""
    thinking: str = "none"
    """`switch`: the template heeds `enable_thinking`; `opens`: it opens a thought in every prompt."""


_QWEN = {
    "eos": "<|im_end|>",
    "stops": ("<|im_end|>", "<|endoftext|>"),
    "pad": "<|endoftext|>",
    "special": ("<|im_start|>",),
}
_QWEN3 = _QWEN | {"template": "qwen3.jinja", "added": ("<think>", "</think>")}
_ROPE_1M = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}

FAMILIES = {
    family.name: family
    for family in (
        Family(
            "qwen3",
            transformers.Qwen3Config,
            {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, **_ROPE_1M},
            thinking="switch",
            **_QWEN3,
        ),
        Family(
            "qwen3-thinking",
            transformers.Qwen3Config,
            {
                "tie_word_embeddings": False,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {"rope_type": "default", "rope_theta": 5e6},
            },
            thinking="opens",
            **_QWEN3,
        ),
        Family(
            "qwen3-moe",
            transformers.Qwen3MoeConfig,
            {
                "tie_word_embeddings": False,
                "rms_norm_eps": 1e-6,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 48,
                "norm_topk_prob": True,
                "decoder_sparse_step": 1,
                "router_aux_loss_coef": 0.001,
                **_ROPE_1M,
            },
            thinking="switch",
            **_QWEN3,
        ),
        Family(
            "qwen2.5",
            transformers.Qwen2Config,
            {"tie_word_embeddings": True, "rms_norm_eps": 1e-6, **_ROPE_1M},
            template="qwen2_5.jinja",
            **_QWEN,
        ),
        Family(
            "gemma3",
            transformers.Gemma3TextConfig,
            {
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-6,
                "sliding_window": 16,  # shorter than a prompt, as 512 is than a long one
                "layer_types": ["sliding_attention", "full_attention"],
                "query_pre_attn_scalar": 16,
                "hidden_activation": "gelu_pytorch_tanh",
                # Its embeddings are scaled up: at 0.3 a random model only repeats what it read.
                "initializer_range": 0.05,
            },
            template="gemma3.jinja",
            eos="<eos>",
            stops=("<end_of_turn>", "<eos>"),
            pad="<pad>",
            bos="<bos>",
            special=("<start_of_turn>",),
            adds_bos=True,
            final_norm=6.0,
        ),
        Family(
            "llama3",
            transformers.LlamaConfig,
            {
                "tie_word_embeddings": False,
                "rms_norm_eps": 1e-5,
                "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
            },
            template="llama3.jinja",
            eos="<|end_of_text|>",
            stops=("<|eot_id|>", "<|end_of_text|>"),
            pad=None,
            bos="<|begin_of_text|>",
            special=("<|start_header_id|>", "<|end_header_id|>"),
            adds_bos=True,
        ),
        Family(
            "glm4",
            transformers.Glm4Config,
            {
                "tie_word_embeddings": False,
                "rms_norm_eps": 1e-5,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "partial_rotary_factor": 0.5,
                },
            },
            template="glm4moe.jinja",
            eos="<|endoftext|>",
            stops=("<|user|>", "<|endoftext|>", "<|observation|>"),
            pad="<|endoftext|>",
            special=("[gMASK]", "<sop>", "<|assistant|>", "<|system|>"),
            added=("<think>", "</think>", "/nothink"),
            thinking="switch",
        ),
    )
}

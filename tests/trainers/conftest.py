"""A real SFTTrainer on a Qwen3 of a few thousand parameters, small enough for float64 proofs."""

import datasets
import numpy as np
import pytest
import torch
import transformers
import trl
from peft import LoraConfig

from guardrail.anchors.store import TopK
from guardrail.kl.divergence import reference_topk
from guardrail.kl.token_losses import rehearsal_samples
from guardrail.shipped import shipped_root

transformers.utils.logging.disable_progress_bar()
datasets.disable_progress_bars()

ADAPTER = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
"""Of random weights, so that a model on it is another than the one below."""
WORDS = ["还款", "逾期", "您好", "今天", "周五", "分期", "本金", "可以"]


@pytest.fixture(scope="session")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")


def tiny_model(tokenizer, seed: int, dtype=torch.float64):
    torch.manual_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.5,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return transformers.Qwen3ForCausalLM(config).to(dtype)


def made_rows() -> list[dict[str, object]]:
    rng = np.random.default_rng(5)
    made = []
    for _ in range(24):
        said = "".join(rng.choice(WORDS, 3))
        made.append(
            {
                "messages": [
                    {"role": "user", "content": said},
                    {"role": "assistant", "content": "".join(rng.choice(WORDS, 4))},
                ]
            }
        )
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random base on disk, for GRPO; each module has its own."""
    from tests.trainers.grpo.grpo_fixtures import save_base

    return save_base(tmp_path_factory.mktemp("grpo") / "base")


@pytest.fixture
def rows() -> list[dict[str, object]]:
    return made_rows()


@pytest.fixture
def make_trainer(tmp_path, tokenizer, rows):
    def make(*, peft_config=None, data=None, **arguments):
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 4,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "use_cpu": True,
            "bf16": False,
            "seed": 3,
            "max_length": 64,
        }
        return trl.SFTTrainer(
            model=tiny_model(tokenizer, seed=1),
            args=trl.SFTConfig(**(defaults | arguments)),
            train_dataset=datasets.Dataset.from_list(data or rows),
            processing_class=tokenizer,
            peft_config=peft_config,
        )

    return make


def foreign_samples(tokenizer):
    """Rehearsal samples whose reference is another random model: KL well above 0.1 nats."""
    reference = tiny_model(tokenizer, seed=2)
    prompts, golds, topk = {}, {}, {}
    for number, (asked, gold) in enumerate(
        [("你好", "您好"), ("今天周几", "周五"), ("分期", "可以")]
    ):
        item = f"r-{number}"
        prompts[item] = tokenizer(asked).input_ids
        golds[item] = [*tokenizer(gold).input_ids, tokenizer.eos_token_id]
        row = torch.tensor([prompts[item] + golds[item]])
        with torch.no_grad():
            logits = reference(input_ids=row).logits[0, len(prompts[item]) - 1 : -1]
        ids, logprobs, tail = reference_topk(logits, len(tokenizer))
        topk[item] = TopK(ids.int().numpy(), logprobs.numpy(), tail.numpy())
    return rehearsal_samples(prompts, golds, topk)


def naive_kl_term(model, samples, weight: float) -> torch.Tensor:
    """weight * sum over samples and gold tokens of KL(p || q), divided by the tokens."""
    total, tokens = 0.0, 0
    for sample in samples.values():
        row = torch.tensor([[*sample.prompt, *sample.gold]])
        logits = model(input_ids=row).logits[0, len(sample.prompt) - 1 : -1]
        for position in range(len(sample.gold)):
            logq = torch.log_softmax(logits[position], -1)
            logp = torch.empty_like(logq)
            ids, logprobs = (
                getattr(sample.reference, name)[position] for name in ("ids", "logprobs")
            )
            logp[torch.from_numpy(ids).long()] = torch.from_numpy(logprobs).to(logq.dtype)
            total = total + (logp.exp() * (logp - logq)).sum()
            tokens += 1
    return weight * total / tokens


@pytest.fixture
def samples(tokenizer):
    return foreign_samples(tokenizer)

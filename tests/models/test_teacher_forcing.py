"""The one teacher-forced path against a forward of each row alone, with all its logits."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from guardrail.models import teacher_forcing
from guardrail.models.teacher_forcing import (
    ForwardBudget,
    answer_logits,
    each_answer,
    micro_batches,
    undisturbed,
)

pytestmark = [
    pytest.mark.trl1,
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),  # its name in 5.19
]
WORDS = 97
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "initializer_range": 0.4,
}
FAMILIES = {
    "Qwen3": lambda: transformers.Qwen3Config(**SMALL),
    "Gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, sliding_window=6),
    "Llama": lambda: transformers.LlamaConfig(**SMALL),
    "Glm4": lambda: transformers.Glm4Config(**SMALL),
    "Qwen3Moe": lambda: transformers.Qwen3MoeConfig(
        **SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8
    ),
}
PROMPTS = [[5, 9, 13], [7], [11, 2, 3, 8, 19, 23, 4, 6], [31, 14, 15, 9, 26]]
GOLDS = [[41, 42], [3, 1, 4, 1, 5, 9, 2, 6, 5], [27], [53, 58, 97 - 1, 9]]


def model_of(family: str, **changes) -> torch.nn.Module:
    torch.manual_seed(3)
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    # Grouped matrix products know no float64.
    options = {"dtype": torch.float64, "experts_implementation": "eager"}
    return transformers.AutoModelForCausalLM.from_config(config, **options)


def alone(model, prompt, gold) -> torch.Tensor:
    """The logits of one row without padding, all positions built."""
    whole = model(input_ids=torch.tensor([prompt + gold]), use_cache=False).logits[0]
    return whole[len(prompt) - 1 : -1]


@pytest.mark.parametrize("family", FAMILIES)
def test_right_padded_rows_have_the_logits_each_has_alone(family):
    model = model_of(family).eval()
    found = answer_logits(model, PROMPTS, GOLDS, pad_id=0)
    for logits, prompt, gold in zip(found, PROMPTS, GOLDS, strict=True):
        expected = alone(model, prompt, gold)
        assert logits.shape == (len(gold), WORDS)
        # Rotary angles and norms are computed in float32 whatever the weights.
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_no_logits_of_prompts_are_built():
    model, built = model_of("Qwen3"), []
    model.lm_head.register_forward_hook(lambda module, args, out: built.append(out.shape[1]))
    answer_logits(model, [[5] * 40, [6] * 41], [[1, 2, 3], [4, 5]], pad_id=0)
    assert built == [3]


def test_a_model_that_cannot_choose_positions_gives_the_same_and_says_so_once(caplog):
    class Plain(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
            self.__dict__["inner"], self.config = inner, inner.config

        def forward(self, input_ids, attention_mask, use_cache):
            return self.inner(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
            )

    inner = model_of("Qwen3").eval()
    for _ in range(2):
        found = answer_logits(Plain(inner), PROMPTS, GOLDS, pad_id=0)
    for logits, expected in zip(found, answer_logits(inner, PROMPTS, GOLDS, pad_id=0), strict=True):
        torch.testing.assert_close(logits, expected)
    assert sum("logits of prompts too" in line for line in caplog.messages) == 1


def test_micro_batches_hold_each_row_once_and_keep_within_the_budget():
    rows = [(10, 5), (300, 8), (12, 5), (11, 4), (290, 10), (40, 200)]
    budget = ForwardBudget(tokens=700, logits=4 * 1000 * 60)
    batches = micro_batches(rows, 1000, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        width = max(sum(rows[i]) for i in batch)
        first = min(rows[i][0] for i in batch)
        fits = (
            len(batch) * width <= 700 and 4 * len(batch) * (width - first) * 1000 <= budget.logits
        )
        assert fits or len(batch) == 1
    assert len(batches) == 3, batches  # three short, two long, and the one beyond any budget


def test_answers_come_in_the_callers_order_whatever_the_budget():
    model = model_of("Qwen3").eval()
    means = [
        each_answer(
            model,
            PROMPTS,
            GOLDS,
            lambda row, logits: (row, float(logits.mean())),
            pad_id=0,
            budget=budget,
        )
        for budget in (ForwardBudget(1, 1), ForwardBudget(4096, 2**28))
    ]
    assert [row for row, _ in means[0]] == [0, 1, 2, 3]
    for one, all_at_once in zip(*means, strict=True):
        assert one[1] == pytest.approx(all_at_once[1], abs=1e-6)


def test_out_of_memory_halves_the_budget_and_goes_on(caplog):
    model = model_of("Qwen3").eval()
    own, sizes = model.forward, []

    def narrow(input_ids, **rest):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("no room for so many rows")
        return own(input_ids=input_ids, **rest)

    model.forward = narrow
    rows = each_answer(model, PROMPTS * 3, GOLDS * 3, lambda row, logits: row, pad_id=0)
    assert rows == list(range(12))
    assert max(sizes) > 2 >= sizes[-1]
    assert "goes on with" in caplog.text

    def nothing_fits(**rest):
        raise torch.OutOfMemoryError("not even one")

    model.forward = nothing_fits
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        each_answer(model, PROMPTS, GOLDS, lambda row, logits: row, pad_id=0)


def noisy_policy(*, checkpointing: bool | None = None):
    """LoRA dropout, attention dropout and NEFTune's noise: all that training does at random."""
    model = model_of("Qwen3", attention_dropout=0.3)
    adapter = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.5, init_lora_weights=False
    )
    torch.manual_seed(4)
    policy = get_peft_model(model, adapter, autocast_adapter_dtype=False)
    policy.train()
    embeddings = policy.get_input_embeddings()
    embeddings.neftune_noise_alpha = 5.0
    embeddings.register_forward_hook(transformers.integrations.neftune.neftune_post_forward_hook)
    if checkpointing is not None:
        policy.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        policy.enable_input_require_grads()
    return policy


def loss_and_gradients(policy, calm) -> tuple[float, torch.Tensor]:
    policy.zero_grad()
    with calm(policy):
        logits = answer_logits(policy, PROMPTS, GOLDS, pad_id=0)
    loss = sum(row.log_softmax(-1)[:, 3].sum() for row in logits)
    loss.backward()
    trained = [p.grad.flatten() for p in policy.parameters() if p.requires_grad]
    return float(loss.detach()), torch.cat(trained)


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_noise_of_training_is_lifted_in_the_forward_and_when_it_is_computed_again(reentrant):
    policy = noisy_policy(checkpointing=reentrant)
    modes = [module.training for module in policy.modules()]
    functions = [getattr(m, "_gradient_checkpointing_func", None) for m in policy.modules()]
    loss, gradient = loss_and_gradients(policy, undisturbed)
    assert [module.training for module in policy.modules()] == modes
    assert functions == [getattr(m, "_gradient_checkpointing_func", None) for m in policy.modules()]

    still = noisy_policy()
    still.eval()
    expected, wanted = loss_and_gradients(still, undisturbed)
    assert loss == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-9)


def test_layers_stay_checkpointed_while_noise_is_lifted():
    policy = noisy_policy(checkpointing=False)
    runs = []
    layer = policy.get_base_model().model.layers[0]
    layer.mlp.register_forward_pre_hook(lambda *args: runs.append(policy.training))
    loss_and_gradients(policy, undisturbed)
    assert runs == [False, True], "computed again in the backward pass, where the model trains"


def test_the_budget_is_one_for_all(monkeypatch):
    monkeypatch.setattr(teacher_forcing, "BUDGET", ForwardBudget(1, 1))
    assert micro_batches([(3, 2)] * 4, WORDS) == [[0], [1], [2], [3]]

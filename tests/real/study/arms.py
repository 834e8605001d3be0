"""The arms of the study as data: what each does beside the task's own loss, and which rates it is tried at."""

from dataclasses import dataclass, field
from typing import Any, Literal

Beside = Literal["nothing", "task KL", "source answers"]
Gate = Literal["none", "mean score", "answer probability"]

SWEEP = (1.0, 1.5)
"""Rates of an arm of the main cell, as factors of the study's; between them the rate of equal domain loss is found.

What is added to a loss makes an arm learn no faster, so the rate of SFT alone is where an arm's sweep begins.
"""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train. With a `recipe` it is the product's; else TRL's trainer with something beside its loss."""

    about: str
    about_zh: str
    recipe: dict[str, Any] | None = None
    """Keys of the recipe, one level deep."""
    injected: Literal["rehearsal", "general"] = "rehearsal"
    """The short tasks' rehearsal set with general prompts, or the general prompts alone, whose golds are longer."""
    looks: int = 0
    """Looks at all looked-at items during the run, tripwires between them; 0: a lean one before and after it, no action."""
    beside: Beside = "nothing"
    weight: float = 0.0
    """Of the KL on the task's rows, or the share of source answers among all samples."""
    gate: Gate = "none"
    factors: tuple[float, ...] = SWEEP
    steps: float = 1.0
    """Factor of the study's steps."""
    rate_of: str | None = None
    """Runs at that arm's rate of equal domain loss, once it is known."""
    domain: str = "medical"
    averaged: bool = False
    """Its weights are averaged with base's afterwards, by the share that meets the target's domain loss (WiSE-FT, arXiv 2109.01903)."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of the trainer, over the study's own."""
    grpo: bool = False

    @property
    def watched(self) -> bool:
        """Whether the guard only looks: then a checkpoint a look is kept and evaluated."""
        return self.recipe is not None and self.recipe.get("mode") == "watch"


def _kl(fraction: float, **more: Any) -> dict[str, Any]:
    return {"fraction": fraction, **more}


MAIN = {
    "nothing": Arm("SFT alone", "只做 SFT", factors=(1.0,)),
    "averaged": Arm(
        "SFT alone, its weights averaged with base's",
        "只做 SFT，再把权重和原始模型取平均",
        averaged=True,
        factors=(1.5,),
    ),
    "kl3": Arm("KL-only samples, 3 %", "只算 KL 的样本，3%", recipe={"rehearsal": _kl(0.03)}),
    "slow": Arm(
        "half the rate, twice the steps", "学习率减半、步数加倍", factors=(0.5,), steps=2.0
    ),
    "slow-kl3": Arm(
        "half the rate, twice the steps, KL-only samples, 3 %",
        "学习率减半、步数加倍，加只算 KL 的样本，3%",
        recipe={"rehearsal": _kl(0.03)},
        factors=(0.5,),
        steps=2.0,
    ),
    "kl3-ladder": Arm(
        "KL-only samples, 3 %, with looks and ladder",
        "只算 KL 的样本，3%，加评测和处置阶梯",
        recipe={"rehearsal": _kl(0.03)},
        looks=4,
        factors=(),
        rate_of="kl3",
    ),
    "ce-golds": Arm(
        "cross-entropy on base's own answers, 3 %",
        "在原始模型自己的回答上算交叉熵，3%",
        recipe={"rehearsal": _kl(0.03, loss="ce")},
    ),
    # ASFT's idea without its reweighting of the loss.
    "task-kl": Arm(
        "KL on the task's rows",
        "在任务行上算 KL",
        beside="task KL",
        weight=0.05,
        factors=(1.0, 0.93),  # it learns a little more than SFT alone
    ),
}
"""Three seeds each, at the rate of equal domain loss; the ladder at that of the same samples without it."""

_ONE = (1.0,)
_SLOW: dict[str, Any] = {"factors": _ONE, "rate_of": "slow-kl3", "steps": 2.0}
_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
_GRPO = {"per_device_train_batch_size": 16, "num_generations": 8, "max_completion_length": 48}

SINGLE = {
    "kl3-general": Arm(
        "KL-only samples of general prompts alone, 3 %",
        "只算 KL 的样本，只用通用题，3%",
        recipe={"rehearsal": _kl(0.03)},
        injected="general",
        factors=(1.2,),
    ),
    "soup-way": Arm(
        "source answers, 10 %; after an epoch stopped if the mean score fell by 0.05",
        "来源答案，10%；每轮之后，平均分掉了 0.05 就停",
        beside="source answers",
        weight=0.10,
        gate="mean score",
        factors=_ONE,
        rate_of="ce-golds",
    ),
    "pyrecall-way": Arm(
        "source answers, 10 %; after an epoch rolled back if the mean answer probability fell by 0.10",
        "来源答案，10%；每轮之后，回答的平均概率掉了 0.10 就退回",
        beside="source answers",
        weight=0.10,
        gate="answer probability",
        factors=_ONE,
        rate_of="ce-golds",
    ),
    "kl3-heavy": Arm(
        "KL-only samples, 3 %, weight 4",
        "只算 KL 的样本，3%，权重 4",
        recipe={"rehearsal": _kl(0.03, weight=4.0)},
        factors=_ONE,
        rate_of="kl3",
    ),
    "kl5": Arm(
        "KL-only samples, 5 %",
        "只算 KL 的样本，5%",
        recipe={"rehearsal": _kl(0.05)},
        factors=_ONE,
        rate_of="kl3",
    ),
    "slow-kl1": Arm(
        "half the rate, twice the steps, KL-only samples, 1 %",
        "学习率减半、步数加倍，只算 KL 的样本，1%",
        recipe={"rehearsal": _kl(0.01)},
        **_SLOW,
    ),
    "slow-by-need": Arm(
        "half the rate, twice the steps, KL-only samples, 3 %, by need",
        "学习率减半、步数加倍，只算 KL 的样本，3%，按需抽",
        recipe={"rehearsal": _kl(0.03, order="by need")},
        **_SLOW,
    ),
    "grpo": Arm("GRPO alone", "只做 GRPO", factors=(0.33,), steps=0.3, grpo=True, arguments=_GRPO),
    "grpo-beta": Arm(
        "GRPO, beta 0.04",
        "GRPO，beta 0.04",
        factors=(0.33,),
        steps=0.3,
        grpo=True,
        arguments={**_GRPO, "beta": 0.04},
    ),
    "grpo-anchored": Arm(
        "GRPO, golds beside the loss, 5 %",
        "GRPO，损失之外加原始模型的回答，5%",
        recipe={"rehearsal": _kl(0.05, grpo="anchored")},
        factors=(0.33,),
        steps=0.3,
        grpo=True,
        arguments=_GRPO,
    ),
    "grpo-literal": Arm(
        "GRPO, general prompts among the rollouts, 5 %",
        "GRPO，通用题混进采样，5%",
        recipe={"rehearsal": _kl(0.05, grpo="literal")},
        factors=(0.33,),
        steps=0.3,
        grpo=True,
        arguments={**_GRPO, "beta": 0.001},
    ),
    "finance": Arm(
        "SFT alone, finance", "金融：只做 SFT", factors=_ONE, rate_of="nothing", domain="finance"
    ),
    "finance-kl3": Arm(
        "KL-only samples, 3 %, finance",
        "金融：只算 KL 的样本，3%",
        recipe={"rehearsal": _kl(0.03)},
        factors=_ONE,
        rate_of="kl3",
        domain="finance",
    ),
    "finance-ce-golds": Arm(
        "cross-entropy on base's own answers, 3 %, finance",
        "金融：在原始模型自己的回答上算交叉熵，3%",
        recipe={"rehearsal": _kl(0.03, loss="ce")},
        factors=_ONE,
        rate_of="ce-golds",
        domain="finance",
    ),
    "lora": Arm("LoRA alone", "只做 LoRA", factors=(7.0,), arguments={"lora": _LORA}),
    "lora-kl3": Arm(
        "LoRA, KL-only samples, 3 %",
        "LoRA，只算 KL 的样本，3%",
        recipe={"rehearsal": _kl(0.03)},
        factors=(7.0,),
        arguments={"lora": _LORA},
    ),
    "source": Arm(
        "cross-entropy on others' answers the base was tuned on, 3 %",
        "在原始模型学过的他人回答上算交叉熵，3%",
        beside="source answers",
        weight=0.03,
        factors=_ONE,
        rate_of="ce-golds",
    ),
    "slow-stratified": Arm(
        "half the rate, twice the steps, KL-only samples, 3 %, each ability by its share",
        "学习率减半、步数加倍，只算 KL 的样本，3%，按能力分层",
        recipe={"rehearsal": _kl(0.03, order="stratified")},
        **_SLOW,
    ),
    "slow-reverse": Arm(
        "half the rate, twice the steps, KL(policy || base), 3 %",
        "学习率减半、步数加倍，反向 KL，3%",
        recipe={"rehearsal": _kl(0.03, reference="frozen", direction="reverse")},
        **_SLOW,
    ),
    "task-kl-heavy": Arm(
        "KL on the task's rows, weight 0.5",
        "在任务行上算 KL，权重 0.5",
        beside="task KL",
        weight=0.5,
        factors=_ONE,
        rate_of="task-kl",
    ),
}
"""One seed each: more where 3 % kept nothing, less and other orders where it kept all."""

FIRST = ("kl3-general",)
"""Of them, what the main cell's first seed asks for: do longer golds keep more."""

_WATCHED = {"recipe": {"mode": "watch"}, "looks": 6}

WATCHED = {
    "watched": Arm("SFT alone, watched", "只做 SFT，只评测", factors=_ONE, **_WATCHED),
    "watched-still": Arm(
        "rate 0, watched", "学习率为 0，只评测", factors=(0.0,), steps=0.1, **_WATCHED
    ),
    "watched-own": Arm(
        "SFT on base's own answers, watched",
        "在原始模型自己的回答上做 SFT，只评测",
        factors=_ONE,
        domain="own",
        **_WATCHED,
    ),
}
"""Nothing injected and no action: when would the guard have spoken, against the loss of others' answers at that step.

Three seeds each. In the last two every level above ok is a false alarm, or nearly: base's own answers sharpen it a little."""

ARMS = MAIN | SINGLE | WATCHED

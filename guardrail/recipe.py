"""The recipe: the YAML that describes one guarded run, checked once, defaults visible."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from guardrail.anchors.decoding import Decoding
from guardrail.errors import InputError, did_you_mean
from guardrail.files import write_whole
from guardrail.judge.ladder import LadderConfig
from guardrail.judge.look_values import default_metric_rules
from guardrail.judge.rule import Budget, DriftConfig
from guardrail.ledger.file import RESOLVED_FILE
from guardrail.models.fingerprint import is_adapter
from guardrail.models.hub import Hub, is_hub_name, model_folder
from guardrail.probes.metrics import METRICS
from guardrail.recipe_yaml import read_yaml, shown, with_changes
from guardrail.redaction import HIDDEN, is_secret, redacted
from guardrail.shipped import PREFIX, find_recipe, resolve

__all__ = [
    "Drift",
    "Lineage",
    "Margin",
    "Recipe",
    "Tracking",
    "read_recipe",
    "recorded_recipe",
    "require_rows",
    "with_model_folders",
    "write_resolved_recipe",
]

BEST_BESIDE = (
    "`load_best_model_at_end` does not go with `looks.engine: sidecar`: the model it loads is a checkpoint that has had its "
    "look, and what stands last would be another than what was judged last; leave it away, the report names the last ok "
    "checkpoint"
)
SAFE_FRACTION = 0.05
MOST_FRACTION = 0.10


_LADDER = LadderConfig()
_DRIFT = DriftConfig(metrics={}, planned_looks=1)
"""Defaults of the two sections: those of ladder and rule, which stand there alone."""


_DIRECTS_KEYS = re.compile(
    r"WANDB_(BASE_URL|API_KEY|ENTITY)|SWANLAB_\w*(HOST|KEY)|TRACKIO_\w+|HF_(ENDPOINT|TOKEN\w*)|HUGGING_?FACE_\w+"
    r"|MODELSCOPE_(DOMAIN|API_TOKEN|ENDPOINT)|GUARDRAIL_\w+|\w*_PROXY|NETRC|(SSL_CERT|REQUESTS_CA|CURL_CA)_\w+",
    re.IGNORECASE,
)
"""Variables that no recipe sets for its user."""
_LOADS_CODE = re.compile(
    r"PATH|LD_\w+|DYLD_\w+|PYTHON(PATH|STARTUP|HOME|USERBASE|BREAKPOINT|INSPECT|EXECUTABLE|PLATLIBDIR)|BASH_ENV|ENV|SHELL"
    r"|GCONV_PATH|CUDA_INJECTION\w*|NCCL_\w*PLUGIN\w*|\w+_PRELOAD"
)
"""Variables that say which code a process runs."""


_NAME = re.compile(r"[^\W_][\w.-]*")
_LONGEST_NAME = 150
"""Bytes: what is made beside a run's folder puts words to its name, and file systems take 255."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`seed: yes` is a slip, which pydantic would take for 1."""
        wanted = cls.model_fields[str(info.field_name)].annotation
        kinds = {wanted, *get_args(wanted)}
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"a number is wanted, got {str(value).lower()}")
        return value


class Sets(_Section):
    """What is judged and what is injected."""

    red_line: str
    """JSONL of the red-line items: only ever evaluated."""
    rehearsal: str
    """JSONL of the rehearsal items: injected, never judged."""
    benchmarks: tuple[str, ...] = ()
    """Files of benchmark questions (CMMLU, C-Eval): must not stand in the training data; multiple-choice
    ones are scored at each look as a reference."""


class Train(_Section):
    """The user's own training."""

    data: str | None = None
    """Rows as the trainer takes them (`messages`; prompt and completion; `text`; for GRPO a `prompt`, or `messages`, whose last
    assistant turn is then left out), or in any shape and file that `guardrail sets import` reads (Alpaca, ShareGPT, query and
    response, content parts; JSONL, a JSON array, CSV, xlsx, parquet): those become `messages`, other columns stay, and both what was
    rewritten and what was left out is counted."""
    rewards: tuple[str, ...] = ()
    """Reward functions of GRPO, each `FILE.py:FUNCTION` or `MODULE:FUNCTION`."""
    lora: dict[str, Any] | None = None
    """Arguments of peft's `LoraConfig`; left out: full fine-tuning, or the start model's own adapter."""
    quantization: dict[str, Any] | None = None
    """Arguments of transformers' `BitsAndBytesConfig`: anchors and training (LoRA) load the model so (QLoRA)."""
    order: Literal["shuffled", "curriculum"] = "shuffled"
    """In which order rows are trained on: `shuffled`, as the trainer draws them, or `curriculum`, general → long tail → safety by
    each row's column `stage` (`guardrail data curriculum` writes it), shuffled within a stage, the same in every epoch."""
    held_out: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the rows kept out of SFT to measure the domain loss; 0 measures none."""
    allow_overlap: tuple[str, ...] = ()
    """Ids of red-line items or benchmark questions that may share text with the training data."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Handed to the trainer untouched: to SFTConfig or GRPOConfig, or as the flags of `swift`, where a list is several
    values and null leaves a flag out; `rlhf_type: grpo` makes it `swift rlhf`."""

    @field_validator("rewards")
    @classmethod
    def _names_a_function(cls, rewards: tuple[str, ...]) -> tuple[str, ...]:
        for spec in rewards:
            place, _, name = spec.rpartition(":")
            if not place or not name.isidentifier():
                raise ValueError(
                    f"a reward function is `FILE.py:FUNCTION` or `MODULE:FUNCTION`, got `{spec}`"
                )
        return rewards


class Launch(_Section):
    """How `guardrail run` starts the training; several processes and nodes wait until the anchors are made."""

    launcher: Literal["in process", "accelerate", "torchrun", "swift"] | None = None
    """What starts the processes. Left out: `swift` for `trainer: ms-swift`, else `in process` where there is one, and
    `torchrun` where there are several."""
    processes: int = Field(default=1, ge=1)
    """Processes on each node, one a GPU."""
    nodes: int = Field(default=1, ge=1)
    """Machines. `guardrail run` is typed on each, with NODE_RANK, MASTER_ADDR and, if not 29500, MASTER_PORT set there."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables of the processes, beside those that are set anyway; none that says where keys and records go, or what code is run."""

    @field_validator("environment")
    @classmethod
    def _keys_go_where_the_user_says(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if _DIRECTS_KEYS.fullmatch(name):
                raise ValueError(
                    f"`launch.environment` sets {name:.80}, which says where your keys and records go; a recipe may not: "
                    "take it out, and set it in your own environment if it is meant"
                )
            if _LOADS_CODE.fullmatch(name):
                raise ValueError(
                    f"`launch.environment` sets {name:.80}, which says what code is run; a recipe may not: take it out, and "
                    "set it in your own environment if it is meant"
                )
        return environment


class Rehearsal(_Section):
    """KL-only samples."""

    fraction: float = Field(default=0.03, gt=0, lt=1)
    """Rehearsal share of all samples seen; 0.01 to 0.05, up to 0.10 with `allow_large_fraction`."""
    allow_large_fraction: bool = False
    """Says that a fraction above 0.05 is meant."""
    grpo: Literal["literal", "anchored", "both"] | None = None
    """What GRPO injects: `literal`, general prompts among the rollouts on which only the KL acts; `anchored`,
    golds in a micro-batch of their own, as in SFT; or both, each at `fraction`. Left out: `literal` wherever
    the KL reference is at hand (`beta` above 0, or LoRA on it, then with the adapter off) and no setting of
    the trainer's is in the way, else `anchored`; the run says which and why."""
    order: Literal["shuffled", "stratified", "by need"] = "shuffled"
    """Which golds come next: all in one `shuffled` pass after the other; `stratified`, so that every beginning of a pass holds each
    ability by its share; or `by need`, where an ability whose KL is above the others' is drawn up to three times as
    often. The fraction stays exact. Prompts among GRPO's rollouts are always shuffled."""
    weight: float = Field(default=1.0, gt=0)
    """The KL weight at boost 1; the ladder multiplies it."""
    loss: Literal["kl", "ce"] = "kl"
    """`kl` to the reference, or cross-entropy on the golds for comparison."""
    reference: Literal["stored", "adapter off", "frozen"] = "stored"
    """The KL reference: its stored top-k log-probabilities, the model under a disabled LoRA adapter, or a
    second copy in memory."""
    direction: Literal["forward", "reverse"] = "forward"
    """`forward` is KL(reference || policy); `reverse` needs the reference's full logits, so not `stored`."""
    top_k: int | None = Field(default=None, ge=1)
    """Reference log-probabilities stored a token; left out: as few as keep the KL error within 1 %."""

    @model_validator(mode="after")
    def _reverse_has_all_logits(self) -> Self:
        if self.direction == "reverse" and self.reference == "stored":
            raise ValueError(
                "`rehearsal.direction: reverse` needs the reference's full logits, and stored top-k "
                "log-probabilities do not bound it; set `rehearsal.reference` to `adapter off` or `frozen`"
            )
        return self

    @model_validator(mode="after")
    def _order_has_its_measure(self) -> Self:
        if self.order == "by need" and self.loss != "kl":
            raise ValueError(
                f"`rehearsal.order: by need` goes by the KL of the samples, which `loss: {self.loss}` does not "
                "measure; set `order: stratified` or `loss: kl`"
            )
        if self.order != "shuffled" and self.grpo == "literal":
            raise ValueError(
                f"`rehearsal.order: {self.order}` orders golds, and `grpo: literal` injects none; remove "
                "`order`, or set `grpo` to `anchored` or `both`"
            )
        return self

    @model_validator(mode="after")
    def _fraction_in_bounds(self) -> Self:
        if self.fraction < 0.01 or self.fraction > MOST_FRACTION:
            raise ValueError(
                f"`rehearsal.fraction` must lie between 0.01 and {MOST_FRACTION:.2f}, got "
                f"{self.fraction:g}; 0.03 suits most runs"
            )
        if self.fraction > SAFE_FRACTION and not self.allow_large_fraction:
            raise ValueError(
                f"`rehearsal.fraction` above {SAFE_FRACTION:.2f} must be meant, got {self.fraction:g}; "
                "set `rehearsal.allow_large_fraction: true` or lower it"
            )
        return self


class Looks(_Section):
    """When and how the red-line set is answered."""

    engine: Literal["in process", "sidecar"] = "in process"
    """Who answers: the training itself, which waits for it, or `sidecar`, a `guardrail serve RUN` elsewhere that judges
    each saved checkpoint while the training goes on; its verdicts are applied when they come."""
    every_steps: int = Field(default=100, ge=1)
    """Optimizer steps between two looks; a look also falls on every save and on the end."""
    tripwire_every_steps: int | None = Field(default=None, ge=0)
    """Steps between two tripwires; left out: as many as keep them within 1 % of the training; 0 sets none."""
    tripwire_task_prompts: int = Field(default=16, ge=0)
    """Prompts of the new task the tripwire also watches; 0: none."""
    early_look_kl: float = Field(default=0.1, ge=0)
    """Nats a token: a tripwire above this, and twice what it was at the last look, brings a look forward;
    0 never does."""
    replicates: int | None = Field(default=None, ge=1)
    """Base answers an item; by default 4 when sampled, 1 when greedy."""
    samples: int | None = Field(default=None, ge=1)
    """Current answers an item at each look, averaged; more see smaller drops. Left out: as many as keep looks within 3 % of
    the run's steps, 1 to 4, settled at the first look after the start; 1 when greedy."""
    reserve: int = Field(default=4, ge=0)
    """Looks kept for early ones; part of the plan the error budget is spent over."""
    batch_size: int | None = Field(default=None, ge=1)
    """Prompts answered together at most; left out: as many as memory holds and the device is fast with."""
    benchmark_questions: int = Field(default=200, ge=0)
    """Multiple-choice questions of `sets.benchmarks` scored at each look: a reference line, never judged;
    0 asks none."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How answers are decoded, by base and by every look."""


class Margin(_Section):
    """Tolerated and critical mean harm of one metric."""

    margin: float = Field(ge=0)
    critical: float = Field(ge=0)

    @model_validator(mode="after")
    def _critical_is_more(self) -> Self:
        if self.critical < self.margin:
            raise ValueError(
                f"`critical` must not be below `margin`, got {self.critical} < {self.margin}"
            )
        return self


class Drift(_Section):
    """Margins and error budgets of the drift rule."""

    margins: dict[str, Margin] = Field(default_factory=dict)
    """metric → margins; metrics left out keep their defaults."""
    warn_overall: float = Field(default=_DRIFT.overall.warn, gt=0, lt=1)
    """Probability of any false warning over the whole run, from streams over all items."""
    warn_by_ability: float = Field(default=_DRIFT.by_ability.warn, gt=0, lt=1)
    """The same from streams of single abilities."""
    halt_overall: float = Field(default=_DRIFT.overall.halt, gt=0, lt=1)
    """Probability of a false halt over the whole run, from streams over all items."""
    halt_by_ability: float = Field(default=_DRIFT.by_ability.halt, gt=0, lt=1)
    """The same from streams of single abilities."""
    min_items: int = Field(default=_DRIFT.min_items, ge=2)
    """A stream with fewer items is reported, never tested."""
    min_clusters: int = Field(default=_DRIFT.min_units, ge=2)
    """So is one with fewer clusters; an item without a cluster is one of its own."""

    @model_validator(mode="after")
    def _knows_the_metrics(self) -> Self:
        known = [metric.name for metric in METRICS]
        for name in self.margins:
            if name not in known:
                raise ValueError(
                    f"unknown metric `{name}`{did_you_mean(name, known)}; known are {', '.join(known)}"
                )
        return self

    def config(self, planned_looks: int, seed: int) -> DriftConfig:
        """Return the drift rule's constants for so many looks; `seed` is of the bootstrap."""
        margins = {name: (m.margin, m.critical) for name, m in self.margins.items()}
        return DriftConfig(
            metrics=default_metric_rules(margins),
            planned_looks=planned_looks,
            overall=Budget(self.warn_overall, self.halt_overall),
            by_ability=Budget(self.warn_by_ability, self.halt_by_ability),
            min_items=self.min_items,
            min_units=self.min_clusters,
            seed=seed,
        )


class Probes(_Section):
    """A business's own probes."""

    files: tuple[str, ...] = ()
    """Python files of probes, margins and a cluster rule, run as reward functions are; each probe is judged at looks, on red-line
    items that have a `case`, and shares the error budget."""


class Ladder(_Section):
    """Constants of the ladder."""

    raise_factor: float = Field(default=_LADDER.raise_factor, gt=1)
    """What a raise multiplies the KL weight by."""
    max_boost: float = Field(default=_LADDER.max_boost, ge=1)
    """Largest multiple of `rehearsal.weight`."""
    relax_factor: float = Field(default=_LADDER.relax_factor, gt=0, lt=1)
    """What a clean stretch multiplies the boost by."""
    clean_looks_to_relax: int = Field(default=_LADDER.clean_looks_to_relax, ge=1)
    """Clean looks in a row after which the boost is relaxed."""
    lr_factor: float = Field(default=_LADDER.lr_factor, gt=0, lt=1)
    """What a cut multiplies the learning rate by; it is never raised again."""
    max_lr_cuts: int = Field(default=_LADDER.max_lr_cuts, ge=0)
    """Cuts of the learning rate a run may have."""
    cooldown_looks: int = Field(default=_LADDER.cooldown_looks, ge=0)
    """Looks after a raise in which the same level does nothing more."""
    persistent_serious_looks: int = Field(default=_LADDER.persistent_serious_looks, ge=1)
    """Serious looks after the second cut that count as critical."""
    max_relapses: int = Field(default=_LADDER.max_relapses, ge=1)
    """Relapses after relaxing that end relaxing for this run."""
    beta: Literal["keep", "raise"] = "keep"
    """Whether a raise also multiplies GRPO's own `beta`, which acts on the task's rows."""


class Tracking(_Section):
    """Where a tracker puts the run. Which trackers there are, the trainer's `report_to` says."""

    project: str | None = None
    """W&B project; by default W&B's own choice or WANDB_PROJECT."""
    entity: str | None = None
    """W&B user or team that owns the project; by default the account's own."""
    group: str | None = None
    """Runs of one group stand together in W&B."""
    tags: tuple[str, ...] = ()
    """Labels W&B filters runs by."""
    run_name: str | None = None
    """What trackers call the run; by default the run folder's name."""
    endpoint: str | None = None
    """Address of a W&B server, such as https://wandb.example.com; one that is not W&B's own must stand in WANDB_BASE_URL
    too, since your key goes there."""
    end_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds a tracker gets at the end of a run to take what is left; then the run ends without it."""


class Lineage(_Section):
    """The run that this one repairs."""

    run: str
    """Its folder."""
    look: int = Field(ge=0)
    """Number of the look whose answers chose the abilities; those to the reserved slice did not."""
    step: int = Field(ge=0)
    """Of that look."""
    answers: str
    """Their file in the folder."""
    answers_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of that file."""
    red_line_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the red-line items, which must be the same for the two to be compared."""
    drifted: tuple[str, ...] = ()
    """Streams above ok without the reserved slice, `METRIC/GROUP` each."""
    abilities: tuple[str, ...] = ()
    """Abilities that rehearsal items were made for."""
    items: int = Field(ge=0)
    """How many were made."""
    probes_sha256: tuple[str, ...] = ()
    """Of the files of `probes.files` that judged it: a business's metrics are compared where they are the same."""


class Recipe(_Section):
    """One guarded run. Paths are relative to the recipe file; `shipped:` means inside the package."""

    name: str
    """Names the run folder: letters and digits of any script, `.`, `_` and `-`, such as `客服微调-1`."""
    trainer: Literal["trl-sft", "trl-grpo", "ms-swift"] = "trl-sft"
    """Which trainer is guarded: TRL's SFTTrainer or GRPOTrainer, or ms-swift's `swift sft` and `swift rlhf`."""
    mode: Literal["guard", "watch"] = "guard"
    """`guard` injects and acts; `watch` only looks and changes nothing."""
    hub: Hub | None = None
    """Where models named `ORG/MODEL` or `ORG/MODEL@REVISION` come from; left out, models are folders."""
    gold_base: str
    """Folder or hub name of the original model whose abilities are to be kept."""
    start_model: str | None = None
    """Folder or hub name of the model training starts from, or an adapter's folder; by default the gold base."""
    kl_reference: str | None = None
    """Folder or hub name of the model the KL pulls to, or an adapter's folder; by default the gold base."""
    thinking: bool = False
    """`enable_thinking` of the chat template, pinned for anchors and looks."""
    seed: int = Field(default=0, ge=0)
    """Seeds the trainer, the rehearsal order and sampled answers."""
    sets: Sets
    train: Train = Field(default_factory=Train)
    anchors: str | None = None
    """Folder of the anchors, relative to where the command runs; by default anchors/NAME."""
    launch: Launch = Field(default_factory=Launch)
    language: Literal["zh", "en"] = "zh"
    """Of report and terminal: `zh` or `en`."""
    on_inherited: Literal["refuse", "judge_new"] = "refuse"
    """What a start model already beyond the margin means: stop, or judge new harm only."""
    on_error: Literal["halt", "continue"] = "halt"
    """What an error while looking means: stop with a checkpoint, or log, count and go on."""
    rehearsal: Rehearsal = Field(default_factory=Rehearsal)
    looks: Looks = Field(default_factory=Looks)
    drift: Drift = Field(default_factory=Drift)
    probes: Probes = Field(default_factory=Probes)
    ladder: Ladder = Field(default_factory=Ladder)
    tracking: Tracking = Field(default_factory=Tracking)
    lineage: Lineage | None = None
    """The run that this one repairs, as `guardrail data repair` writes it: the report then tells before and after on the reserved slice
    of the red line; not written by hand."""

    @field_validator("name")
    @classmethod
    def _can_name_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a run's name has letters and digits of any script, `.`, `_` and `-`, and begins with a letter or digit, such as "
                f"`客服微调-1`, got {shown(name)}"
            )
        if len(name.encode()) > _LONGEST_NAME:
            raise ValueError(
                f"a run's name has at most {_LONGEST_NAME} bytes, that is {_LONGEST_NAME} Latin letters or {_LONGEST_NAME // 3} "
                f"Chinese characters, got {len(name.encode())}"
            )
        return name

    @model_validator(mode="after")
    def _one_truth_for_arguments(self) -> Self:
        given = self.train.arguments
        if "seed" in given and given["seed"] != self.seed:
            raise ValueError(
                f"`seed` is {self.seed} and `train.arguments.seed` is {given['seed']}; keep one of them"
            )
        for name in ("output_dir", "run_name", "resume_from_checkpoint"):
            if name in given:
                raise ValueError(
                    f"`train.arguments.{name}` is set by the run folder; remove it (use --out or --resume)"
                )
        return self

    @model_validator(mode="after")
    def _sidecar_fits(self) -> Self:
        if self.looks.engine == "sidecar" and self.train.arguments.get("load_best_model_at_end"):
            raise ValueError(BEST_BESIDE)
        return self

    @model_validator(mode="after")
    def _train_fits_the_trainer(self) -> Self:
        train = self.train
        if self.trainer == "ms-swift":
            given = [name for name in ("rewards", "lora", "held_out") if getattr(train, name)]
            if given:
                raise ValueError(
                    f"`train.{given[0]}` is not used with `trainer: ms-swift`, which has flags of its own for it; "
                    "remove it and set them in `train.arguments`"
                )
        if self.trainer == "trl-grpo" and train.held_out:
            raise ValueError("`train.held_out` measures a loss, which GRPO has none of; remove it")
        if self.trainer == "trl-sft" and train.rewards:
            raise ValueError("`train.rewards` is for GRPO; set `trainer: trl-grpo`, or remove it")
        return self

    @model_validator(mode="after")
    def _launcher_fits_the_trainer(self) -> Self:
        launch, swift = self.launch, self.trainer == "ms-swift"
        if (self.launcher == "swift") != swift:
            raise ValueError(
                f"`launch.launcher: {launch.launcher}` does not start `trainer: {self.trainer}`; "
                + ("leave it out" if swift else "leave it out, or take torchrun or accelerate")
            )
        if self.launcher == "in process" and launch.processes * launch.nodes > 1:
            raise ValueError(
                f"`launch.launcher: in process` is one process, and there are {launch.processes} on each of "
                f"{launch.nodes} nodes; take torchrun or accelerate"
            )
        return self

    @model_validator(mode="after")
    def _quantised_weights_are_not_trained(self) -> Self:
        if self.train.quantization is None:
            return self
        if self.rehearsal.reference == "frozen":
            raise ValueError(
                "`rehearsal.reference: frozen` does not go with `train.quantization`; use `stored`, the default, or "
                "`adapter off`"
            )
        adapter = self.train.lora is not None or is_adapter(
            Path(self.start_model or self.gold_base)
        )
        if self.trainer != "ms-swift" and not adapter:
            raise ValueError(
                "`train.quantization` needs an adapter, since quantised weights cannot be trained; set `train.lora`"
            )
        return self

    @model_validator(mode="after")
    def _grpo_keys_are_for_grpo(self) -> Self:
        if self.trainer != "trl-sft":
            return self
        if self.rehearsal.grpo is not None:
            raise ValueError(
                "`rehearsal.grpo` is for GRPO; SFT injects golds. Remove it, or set `trainer: trl-grpo` "
                "or `trainer: ms-swift`"
            )
        if self.ladder.beta == "raise":
            raise ValueError(
                "`ladder.beta: raise` is for GRPO; SFT has no beta. Remove it, or set `trainer: trl-grpo` "
                "or `trainer: ms-swift`"
            )
        return self

    @property
    def launcher(self) -> str:
        """What starts the training: `in process`, `accelerate`, `torchrun` or `swift`."""
        if self.launch.launcher is not None:
            return self.launch.launcher
        if self.trainer == "ms-swift":
            return "swift"
        return "in process" if self.launch.processes * self.launch.nodes == 1 else "torchrun"

    @property
    def replicates(self) -> int:
        """Base answers an item, gold not counted."""
        if self.looks.replicates is not None:
            return self.looks.replicates
        return 4 if self.looks.decoding.mode == "sampled" else 1

    def drift_config(self, planned_looks: int) -> DriftConfig:
        """Return the drift rule's constants for a run of so many looks."""
        return self.drift.config(planned_looks, self.seed)

    def ladder_config(self) -> LadderConfig:
        """Return the ladder's constants."""
        return LadderConfig(**self.ladder.model_dump(exclude={"beta"}))


def _hidden(section: Any, above: str = "") -> str | None:
    """The first key whose secret was left out when the recipe was written; None without one."""
    if not isinstance(section, dict):
        return above[:-1] if section == HIDDEN else None
    found = (_hidden(value, f"{above}{name}.") for name, value in section.items())
    return next((key for key in found if key), None)


def _with_absolute_paths(train: Train, absolute: Callable[[str], str]) -> Train:
    """Data, reward functions in files, and shipped files among the arguments; modules are left as they are."""
    files = [spec.rpartition(":") for spec in train.rewards]
    return train.model_copy(
        update={
            "data": None if train.data is None else absolute(train.data),
            "rewards": tuple(
                f"{absolute(file)}:{name}" if file.endswith(".py") else f"{file}:{name}"
                for file, _, name in files
            ),
            "arguments": {
                name: absolute(value)
                if isinstance(value, str) and value.startswith(PREFIX)
                else value
                for name, value in train.arguments.items()
            },
        }
    )


_LONGEST_ERROR = 3000
_MOST_ERRORS = 20
"""Said at once; the rest is said when these are mended."""


def _printable(part: int | str) -> str:
    """A part of a key as a line can show it."""
    return "".join(c if c.isprintable() else "?" for c in str(part)[:80])


def _meant(key: str) -> str:
    """The key that an unknown one was probably meant to be: one of that name elsewhere, or one spelt much like it."""
    known = list(_keys(Recipe, ""))
    section, _, name = key.rpartition(".")
    beside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == section]
    if found := did_you_mean(name, beside):
        return found.replace("`", f"`{section}.", 1) if section else found
    elsewhere = [k for k in known if k.rpartition(".")[2] == name]
    if len(elsewhere) == 1:
        return f" (did you mean `{elsewhere[0]}`?)"
    if not section and name in _ARGUMENTS:
        return f" (did you mean `train.arguments.{name}`?)"
    return did_you_mean(key, known)


_ARGUMENTS = {
    "learning_rate",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "save_steps",
    "report_to",
    "beta",
}
"""Arguments of trainers that people write beside the recipe's own keys; which there are, the trainer says."""


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _all_errors(error: ValidationError) -> str:
    lines = []
    for entry in error.errors()[:_MOST_ERRORS]:
        key = ".".join(_printable(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            lines.append(f"unknown key `{key}`{_meant(key)}; remove it or mend its spelling")
        elif entry["type"] == "missing":
            lines.append(f"key `{key}` is missing")
        else:
            message = " ".join(entry["msg"].removeprefix("Value error, ").split())
            got = "" if "got" in message or not key else f", got {shown(redacted(entry['input']))}"
            got = "" if is_secret(key) else got
            lines.append(f"key `{key}`: {message}{got}" if key else message)
    said = "; ".join(lines)
    return said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]}…"


def with_model_folders(recipe: Recipe) -> Recipe:
    """Return the recipe with every hub name replaced by a local folder, downloaded if need be.

    Raises:
        InputError: a model cannot be had, or a folder holds no model.
    """
    found: dict[str, str] = {}
    for key in ("gold_base", "start_model", "kl_reference"):
        name = str(getattr(recipe, key))
        if recipe.hub and not Path(name).is_absolute():
            found[key] = str(model_folder(name, recipe.hub))
            continue
        adapter = key != "gold_base" and is_adapter(Path(name))
        if not adapter and not (Path(name) / "config.json").is_file():
            raise InputError(
                f"`{key}`: `{name}` is no model folder (no config.json); give the path of a model's "
                "folder, or set `hub: huggingface` or `hub: modelscope` and give its name there"
            )
    return recipe.model_copy(update=found)


def read_recipe(name: str | Path, *, changes: Sequence[str] = (), **overrides: Any) -> Recipe:
    """Return the recipe of a file or a shipped name, its paths made absolute.

    Args:
        name: A file, or the name of a shipped recipe.
        changes: `KEY=VALUE` each, as of `--set` (`recipe_yaml.with_changes`).
        overrides: Top-level keys that replace those of the file, such as `seed` or `mode`.

    Raises:
        InputError: no such recipe, broken YAML, or one or more keys break a rule; all are named.
    """
    path = find_recipe(name)
    content = with_changes(read_yaml(path), changes)
    if hidden := _hidden(content):
        raise InputError(
            f"recipe `{path}`: `{hidden}` is hidden ({HIDDEN}), as in what a run writes; give it with --set {hidden}=..., "
            "or take it out"
        )
    try:
        recipe = Recipe.model_validate({**content, **overrides})
    except ValidationError as error:
        raise InputError(f"recipe `{path}`: {_all_errors(error)}") from error
    except OSError as error:  # a model's name that no file can have
        raise InputError(f"recipe `{path}`: {error.strerror}, `{error.filename!s:.80}`") from error
    folder = path.parent.resolve()

    def absolute(value: str) -> str:
        return str(resolve(value, folder))

    def model(value: str) -> str:
        is_folder = resolve(value, folder).is_dir()
        return value if recipe.hub and is_hub_name(value) and not is_folder else absolute(value)

    return recipe.model_copy(
        update={
            "gold_base": model(recipe.gold_base),
            "start_model": model(recipe.start_model or recipe.gold_base),
            "kl_reference": model(recipe.kl_reference or recipe.gold_base),
            "sets": Sets(
                red_line=absolute(recipe.sets.red_line),
                rehearsal=absolute(recipe.sets.rehearsal),
                benchmarks=tuple(map(absolute, recipe.sets.benchmarks)),
            ),
            "probes": Probes(files=tuple(map(absolute, recipe.probes.files))),
            "train": _with_absolute_paths(recipe.train, absolute),
            "anchors": str(resolve(recipe.anchors or f"anchors/{recipe.name}", Path.cwd())),
        }
    )


def recorded_recipe(run: Path, recorded: Any) -> Recipe:
    """Return the recipe in a ledger's header, as the run had it.

    Raises:
        InputError: it is none.
    """
    try:
        return Recipe.model_validate(recorded)
    except ValidationError as error:
        raise InputError(
            f"the recipe in the ledger of `{run}` is none ({len(error.errors())} errors, such as at "
            f"`{'.'.join(map(str, error.errors()[0]['loc'])):.80}`); restore the ledger from a copy"
        ) from error


def require_rows(recipe: Recipe) -> None:
    """Refuse a TRL recipe that `guardrail run` cannot train by; a script brings rows of its own.

    Raises:
        InputError: it names no rows.
    """
    # The flags of ms-swift may name rows; `swift_arguments` looks.
    if recipe.train.data is None and recipe.trainer != "ms-swift":
        raise InputError(
            f"key `train.data` is missing, and `guardrail run` with `trainer: {recipe.trainer}` needs it; set it in the "
            "recipe or with --set train.data=rows.jsonl"
        )


def write_resolved_recipe(recipe: Recipe, run: Path) -> None:
    """Write the recipe with every default in it and no secret into a run folder, which is made."""
    run.mkdir(parents=True, exist_ok=True)
    text = json.dumps(redacted(recipe.model_dump(mode="json")), ensure_ascii=False, indent=2)
    write_whole(run / RESOLVED_FILE, text + "\n")

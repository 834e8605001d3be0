"""The seam into ms-swift 4.6: what `--callbacks guardrail` does in `swift sft` and `swift rlhf` (GRPO).

ms-swift builds its callbacks inside the trainer's constructor, when there is no model yet, so the guard
is attached at `on_init_end`. Model, data, learning rate and steps come from the swift command line. Of
the recipe the guard's own keys count: `gold_base`, `start_model`, `kl_reference`, `hub`, `thinking`,
`seed`, `mode`, `sets`, `anchors`, `rehearsal`, `looks`, `drift`, `ladder`, `on_inherited`, `on_error`
and `train.allow_overlap`. The rest of `train` and `launch` make the command line where `guardrail run` starts it
(swift_arguments.py), and are ignored here.

Hooks: `callbacks_map` and `on_init_end` (public), the first at which there is a trainer; `template` (public), which renders
rows in place of the tokenizer. What joins the loss is `compute_loss` (trl/sft.py) and, in GRPO, grpo.py here.
"""

import json
import logging
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from guardrail.anchors.store import Anchors
from guardrail.errors import InputError
from guardrail.guard.ranks import Ranks
from guardrail.guard.resume import last_complete_checkpoint
from guardrail.guard.state import STATE_FILE, GuardState
from guardrail.ledger.file import FILE_NAME
from guardrail.recipe import Recipe, read_recipe
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.checks.rendering import Render
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.grpo.forms import attach_golds
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.kl_only.recipe_samples import recipe_samples
from guardrail.trainers.ms_swift.command_line import check_run, find_kind, swift_form
from guardrail.trainers.ms_swift.grpo import (
    KlOnlyRollouts,
    attach_kl_only,
    count_completions,
)
from guardrail.trainers.ms_swift.swift_vllm import swift_vllm
from guardrail.trainers.ms_swift.written_rows import written_reading
from guardrail.trainers.seam import Seam
from guardrail.trainers.trl.sft import attach_kl

__all__ = [
    "CHANGES_VARIABLE",
    "RECIPE_VARIABLE",
    "SwiftGuardCallback",
    "attach_swift",
    "recipe_from_environment",
]

logger = logging.getLogger(__name__)

RECIPE_VARIABLE = "GUARDRAIL_RECIPE"
"""Environment variable that names the recipe; `swift` has no option for it."""
CHANGES_VARIABLE = "GUARDRAIL_RECIPE_CHANGES"
"""A JSON list of `KEY=VALUE`, what `guardrail run --set` changes of it."""


def recipe_from_environment() -> Recipe:
    """Return the recipe that `GUARDRAIL_RECIPE` names: a file, or a shipped recipe's name.

    Raises:
        InputError: the variable is not set, there is no such recipe, or the recipe breaks a rule.
    """
    name = os.environ.get(RECIPE_VARIABLE, "")
    if not name:
        raise InputError(
            f"the environment variable {RECIPE_VARIABLE} is not set; name the guard's recipe in it: "
            f"{RECIPE_VARIABLE}=recipe.yaml swift sft ... --callbacks guardrail"
        )
    try:
        return read_recipe(name, changes=json.loads(os.environ.get(CHANGES_VARIABLE, "[]")))
    except InputError as error:
        raise InputError(f"{RECIPE_VARIABLE}={name}: {error}") from error


class SwiftGuardCallback(GuardCallback):
    """The guard's callback, with what differs in ms-swift's trainers."""

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Write the loss on ms-swift's held-out rows to the ledger; one that is no number is none."""
        loss = float((metrics or {}).get("eval_loss", math.nan))
        if math.isfinite(loss):
            self.guard.ledger.append("domain_loss", state.global_step, held_out=loss)


def _resume_checkpoint(arguments: Any) -> Path | None:
    """Return the checkpoint of `--resume_from_checkpoint`, or None for a run that begins.

    A resumed run goes on in its own folder: it has one ledger, and its last ok checkpoint stays in reach.

    Raises:
        InputError: the checkpoint holds no guard state, the output folder is not the one it lies in, or
            a run that begins would write into another's folder.
    """
    folder, given = Path(arguments.output_dir), arguments.resume_from_checkpoint
    if not given:
        if (folder / FILE_NAME).is_file():
            newest = last_complete_checkpoint(folder)
            go_on = "" if newest is None else f"go on with `--resume_from_checkpoint {newest}`, or "
            raise InputError(
                f"`--output_dir {folder}` already holds a guarded run; {go_on}give another folder"
            )
        return None
    checkpoint = Path(given)
    if not (checkpoint / STATE_FILE).is_file():
        newest = last_complete_checkpoint(checkpoint.parent)
        hint = "start anew" if newest is None else f"the newest complete one is `{newest}`"
        raise InputError(
            f"`--resume_from_checkpoint {checkpoint}` holds no {STATE_FILE}: it was saved without the "
            f"guard, or the save was cut off; {hint}"
        )
    if folder.resolve() != checkpoint.parent.resolve():
        raise InputError(
            f"`{checkpoint}` is to be resumed, and the output folder is `{folder}`; a run goes on in its own "
            f"folder: add `--output_dir {checkpoint.parent} --add_version false`"
        )
    return checkpoint


def _renders(trainer: Any) -> dict[str, Render]:
    """ms-swift renders rows with a template of its own, not with the tokenizer's."""
    template = trainer.template

    def render(chat: list[dict[str, str]]) -> Sequence[int]:
        mode = template.mode
        template.set_mode("transformers")  # a prompt to be answered, as looks ask it
        try:
            return list(template.encode({"messages": [dict(turn) for turn in chat]})["input_ids"])
        finally:
            template.set_mode(mode)

    return {"ms-swift's template (`--template`, `--system`, `--enable_thinking`)": render}


def _roll_out(
    guarded: GuardedRecipe,
    trainer: Any,
    form: Form,
    state: GuardState,
    ranks: Ranks,
    anchors: Anchors,
) -> KlOnlyRollouts:
    """KL-only prompts in the rollouts of ms-swift's GRPOTrainer."""
    rollouts = recipe_samples(guarded, trainer, anchors, state, ranks, kind=KlOnlyRollouts)
    chats = {item.id: item.chat() for item in guarded.rehearsal}
    attach_kl_only(trainer, rollouts, chats=chats, thinking=guarded.recipe.thinking)
    return rollouts


def attach_swift(trainer: Any, recipe: Recipe) -> GuardCallback:
    """Guard a trainer of ms-swift; call at `on_init_end`. Everything is written to its output folder.

    Args:
        trainer: A `Seq2SeqTrainer` or `GRPOTrainer`, constructed but for what follows `on_init_end`.
        recipe: The guard's recipe.

    Raises:
        InputError: this ms-swift or one of its options cannot be guarded, recipe and command line name
            different models, the data hold judged items, or the anchors do not fit.
    """
    kind = find_kind(trainer)
    guardrail = Guardrail.from_recipe(recipe)
    check_run(trainer, kind, guardrail)
    guardrail.reading = written_reading(Path(trainer.args.output_dir))
    if not (Path(str(guardrail.recipe.anchors)) / "manifest.json").is_file():
        logger.warning(
            "anchors `%s` are absent and are made now, with another copy of the base in memory; "
            "`guardrail anchor RECIPE` makes them beforehand",
            guardrail.recipe.anchors,
        )
    checkpoint = _resume_checkpoint(trainer.args)
    folder = shlex.quote(str(trainer.args.output_dir))
    go_on = (
        f"the same command with --resume_from_checkpoint {folder}/checkpoint-N --output_dir {folder} "
        "--add_version false"
    )
    seam = Seam(
        attach_kl,
        renders=_renders,
        callback=SwiftGuardCallback,
        packages=("ms-swift",),
        go_on=go_on,
    )
    if kind == "grpo":
        join = partial(attach_golds, count=count_completions)
        seam = replace(seam, join=join, form=swift_form, rollouts=_roll_out, vllm=swift_vllm)
    return guardrail.attach(trainer, resume=checkpoint or False, seam=seam)

"""A whole rehearsal of a recipe, as plain facts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.ledger.file import Record
from guardrail.recipe import Recipe, read_recipe, require_rows, with_model_folders
from guardrail.rehearse.estimate import Timings, estimate
from guardrail.rehearse.small_run import own_folder, swift_options, write_small_recipe
from guardrail.rehearse.stage_results import StageResult
from guardrail.rehearse.stages import Stages
from guardrail.sets.items import read_items

__all__ = ["rehearse"]


def rehearse(
    recipe_name: str,
    out: Path | None,
    *,
    launcher: str,
    command: tuple[str, ...],
    changes: Sequence[str] = (),
    limit_s: float,
    verbose: bool,
    on_begin: Callable[[str], None],
    on_result: Callable[[StageResult], None],
) -> dict[str, Any]:
    """Carry out a rehearsal and return what was seen; it is also written to `rehearsal.json` in its folder.

    Args:
        recipe_name: A file, or a shipped recipe's name.
        out: The rehearsal's folder; by default runs/NAME-rehearsal. What an earlier rehearsal left there goes.
        launcher: What stands before `guardrail run`; empty: this Python.
        changes: What was given as `--set`.
        command: The `swift` command of a recipe with `trainer: ms-swift`.
        limit_s: Seconds after which a command counts as hung.
        verbose: Tell of a failed command the last lines it printed.
        on_begin: Told what begins.
        on_result: Told what was seen at each stage.

    Returns:
        `folder`, `passed`, `stages`; `profile` and `estimate` where the run came so far.

    Raises:
        InputError: the recipe breaks a rule, its kind of trainer does not go with `launcher` or `command`, or the
            folder holds something else.
    """
    recipe = with_model_folders(read_recipe(recipe_name, changes=changes))
    if (recipe.trainer == "ms-swift") != bool(command):
        raise InputError(
            "a recipe with `trainer: ms-swift` is rehearsed with its command, and no other is: guardrail "
            "rehearse RECIPE -- swift sft --model ... (`guardrail run RECIPE --print-command` prints it)"
        )
    require_rows(recipe)
    if launcher and command:
        raise InputError("`--launcher` is for `guardrail run`; the command after `--` has its own")
    folder = (out or Path("runs") / f"{recipe.name}-rehearsal").resolve()
    own_folder(folder)
    run = Stages(
        folder,
        write_small_recipe(recipe, folder),
        launcher,
        command,
        limit_s,
        verbose,
        on_begin,
        on_result,
    )
    run.run_all()
    stages = [{"name": s.name, "passed": s.passed, "seen": s.seen} for s in run.results]
    facts = {
        "recipe": recipe.name,
        "folder": str(folder),
        "passed": all(result.passed for result in run.results),
        "stages": stages,
        "profile": _profile(recipe, run.started) if run.started else None,
        "estimate": _estimate(recipe, run, command) if run.epochs_a_step else None,
    }
    text = json.dumps(facts, ensure_ascii=False, indent=2)
    write_whole(folder / "rehearsal.json", text + "\n")
    return facts


def _profile(recipe: Recipe, records: list[Record]) -> dict[str, Any]:
    """What the run resolved of its model, in words."""
    started = next(r for r in records if r["kind"] == "started")
    test: Record = next((r for r in records if r["kind"] == "kl_self_test"), {})
    profile = started["profile"]
    tokenizer = AutoTokenizer.from_pretrained(recipe.gold_base, local_files_only=True)

    def named(token: int) -> str:
        return f"{tokenizer.convert_ids_to_tokens(token)} ({token})"

    return {
        "answers_end_at": [named(token) for token in profile["stop"]],
        "pad": named(profile["pad"]),
        "template_opens_thinking": profile["opened"].strip() or None,
        "thinking_pinned": profile["thinking"],
        "template_heeds_thinking": profile["heeds_thinking"],
        "precision": started["precision"],
        "base_answers_in": test.get("anchors_dtype"),
        "engine": started["engine"],
        "processes": started["processes"],
        "device": started["device"],
    }


def _estimate(recipe: Recipe, run: Stages, command: tuple[str, ...]) -> dict[str, Any]:
    of = {kind: [r for r in run.started if r["kind"] == kind] for kind in ("log", "look")}
    before, after = of["log"][0]["seconds"], of["log"][1]["seconds"]
    guarding = {"looks", "tripwires", "benchmark"}
    step = {what: after.get(what, 0.0) - before.get(what, 0.0) for what in {"train", *guarding}}
    wires = [r["seconds"] for r in run.started if r["kind"] == "tripwire"]
    found = Timings(
        items=len(read_items(run.folder / "red-line.jsonl")),
        pass_s=run.pass_s,
        look_s=of["look"][1]["seconds"],
        tripwire_s=wires[-1] if wires else 0.0,
        step_s=max(0.0, step.pop("train") - sum(step.values())),
        processes=run.started[0]["processes"],
        steps_an_epoch=1 / run.epochs_a_step,
    )
    saves = {"save_steps": recipe.looks.every_steps}  # as `guardrail run` has it
    arguments = swift_options(command) if command else saves | recipe.train.arguments
    return estimate(recipe, arguments, found)

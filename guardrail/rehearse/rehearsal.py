"""A whole rehearsal of a recipe, as plain facts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.ledger.file import Record
from guardrail.recipe import Recipe, read_recipe, with_model_folders
from guardrail.rehearse.estimate import Measured, estimate
from guardrail.rehearse.path import Legs
from guardrail.rehearse.small_run import own_folder, swift_options, write_small_recipe
from guardrail.rehearse.stations import Station
from guardrail.sets.items import read_items

__all__ = ["rehearse"]


def rehearse(
    recipe_name: str,
    out: Path | None,
    *,
    launcher: str,
    command: tuple[str, ...],
    limit_s: float,
    verbose: bool,
    on_leg: Callable[[str], None],
    on_station: Callable[[Station], None],
) -> dict[str, Any]:
    """Carry out a rehearsal and return what was seen; it is also written to `rehearsal.json` in its folder.

    Args:
        recipe_name: A file, or a shipped recipe's name.
        out: The rehearsal's folder; by default runs/NAME-rehearsal. What an earlier rehearsal left there goes.
        launcher: What stands before `guardrail run`; empty: this Python.
        command: The `swift` command of a recipe with `trainer: ms-swift`.
        limit_s: Seconds after which a leg counts as hung.
        verbose: Tell of a failed leg the last lines it printed.
        on_leg: Told what begins.
        on_station: Told what was seen at each station.

    Returns:
        `folder`, `held`, `stations`; `profile` and `estimate` where the run came so far.

    Raises:
        InputError: the recipe breaks a rule, its kind of trainer does not go with `launcher` or `command`, or the
            folder holds something else.
    """
    recipe = with_model_folders(read_recipe(recipe_name))
    if (recipe.trainer == "ms-swift") != bool(command):
        raise InputError(
            "a recipe with `trainer: ms-swift` is rehearsed with its command, and no other is: guardrail "
            "rehearse RECIPE -- swift sft --model ..."
        )
    if launcher and command:
        raise InputError("`--launcher` is for `guardrail run`; the command after `--` has its own")
    folder = (out or Path("runs") / f"{recipe.name}-rehearsal").resolve()
    own_folder(folder)
    legs = Legs(
        folder,
        write_small_recipe(recipe, folder),
        launcher,
        command,
        limit_s,
        verbose,
        on_leg,
        on_station,
    )
    legs.walk()
    stations = [{"name": s.name, "held": s.held, "seen": s.seen} for s in legs.stations]
    facts = {
        "recipe": recipe.name,
        "folder": str(folder),
        "held": all(station.held for station in legs.stations),
        "stations": stations,
        "profile": _profile(recipe, legs.started) if legs.started else None,
        "estimate": _estimate(recipe, legs, command) if legs.epochs_a_step else None,
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


def _estimate(recipe: Recipe, legs: Legs, command: tuple[str, ...]) -> dict[str, Any]:
    of = {kind: [r for r in legs.started if r["kind"] == kind] for kind in ("log", "look")}
    before, after = of["log"][0]["seconds"], of["log"][1]["seconds"]
    guarding = {"looks", "tripwires", "benchmark"}
    step = {what: after.get(what, 0.0) - before.get(what, 0.0) for what in {"train", *guarding}}
    wires = [r["seconds"] for r in legs.started if r["kind"] == "tripwire"]
    found = Measured(
        items=len(read_items(legs.folder / "red-line.jsonl")),
        pass_s=legs.pass_s,
        look_s=of["look"][1]["seconds"],
        tripwire_s=wires[-1] if wires else 0.0,
        step_s=max(0.0, step.pop("train") - sum(step.values())),
        processes=legs.started[0]["processes"],
        steps_an_epoch=1 / legs.epochs_a_step,
    )
    saves = {"save_steps": recipe.looks.every_steps}  # as `guardrail run` has it
    arguments = swift_options(command) if command else saves | recipe.train.arguments
    return estimate(recipe, arguments, found)

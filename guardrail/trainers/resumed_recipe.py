"""Whether a run that goes on is still the run that began: its recipe against the one in its ledger.

What starts the processes, what trackers show and in which language is no part of what a run does, and neither is
where a file of the same content lies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.guard.resume import checkpoint_step
from guardrail.ledger.file import FILE_NAME, newest_header, read_ledger
from guardrail.recipe_yaml import flat
from guardrail.redaction import HIDDEN, is_secret, redacted

__all__ = ["CHANGED_RECIPE_VARIABLE", "changed_header", "changed_recipe_allowed", "recipe_changes"]

CHANGED_RECIPE_VARIABLE = "GUARDRAIL_CHANGED_RECIPE"
"""Set to 1 it says what `--changed-recipe` says; `swift` has no option for it."""

_APART = ("launch.", "tracking.", "language", "anchors", "hub")
_FREE = ("train.arguments.", "train.lora.", "train.quantization.", "drift.margins.")
"""Sections whose keys are the user's: one that is new is a difference, and not of a later version."""
_BY_CONTENT = {
    "sets.red_line": "red_line_sha256",
    "sets.rehearsal": "rehearsal_sha256",
    "train.data": "training_sha256",
    "probes.files": "probes_sha256",
    "gold_base": "weights.gold_base",
    "kl_reference": "weights.kl_reference",
    "start_model": "weights.start_model",
}
"""Keys whose values are paths → what the header says of the content."""
_FIXED = ("sets.red_line", "gold_base", "looks.decoding", "thinking", "trainer")
"""What a run is measured by: with another one it is another run."""


def changed_recipe_allowed(variables: Mapping[str, str]) -> bool:
    """Return whether the environment says that a recipe was changed on purpose."""
    return variables.get(CHANGED_RECIPE_VARIABLE, "") == "1"


def recipe_changes(
    run: Path, checkpoint: Path | None, header: dict[str, Any], *, allowed: bool
) -> list[dict[str, Any]]:
    """Return each key in which a resumed run's recipe differs from the one it had at that checkpoint.

    Args:
        run: The run folder.
        checkpoint: The one to go on from, None for the start.
        header: What a run of the recipe of now would begin its ledger with.
        allowed: Whether somebody said that the change is meant.

    Raises:
        InputError: there are differences, and nobody said so, or one is in what the run is measured by.
    """
    step = -1 if checkpoint is None else checkpoint_step(checkpoint)
    records = read_ledger(run)
    begun = newest_header(records, step)
    if not isinstance(begun.get("recipe"), dict):
        raise InputError(
            f"ledger `{run / FILE_NAME}` does not say which recipe the run began with; give another folder"
        )
    before, now = flat(begun), flat(redacted(header))
    changes = []
    for key in sorted({k for k in (*before, *now) if k.startswith("recipe.")}):
        name = key.removeprefix("recipe.")
        if name.startswith(_APART) or before.get(key) == now.get(key):
            continue
        if key not in before and not name.startswith(_FREE):
            continue
        content = _BY_CONTENT.get(name)
        if content is not None and before.get(content) == now.get(content) is not None:
            continue
        changes.append({"key": name, "before": before.get(key), "after": now.get(key)})
    told = {change["key"] for change in changes}
    for name, content in _BY_CONTENT.items():  # the same path, and something else in it
        was, found = before.get(content), now.get(content)
        if name in told or content not in before or was == found:
            continue
        if isinstance(was, list) and isinstance(found, list):  # a digest a file
            files = zip(now[f"recipe.{name}"], was, found, strict=True)
            changes += [
                {"key": name, "file": file, "before": old, "after": new}
                for file, old, new in files
                if old != new
            ]
        else:
            changes.append({"key": name, "before": was, "after": found})
    for change in changes:
        if is_secret(str(change["key"])):
            change |= {"before": HIDDEN, "after": HIDDEN}
    _refuse(run, changes, allowed=allowed)
    return changes


def _refuse(run: Path, changes: list[dict[str, Any]], *, allowed: bool) -> None:
    said = [
        f"`{c['key']}`{f' ({file})' if (file := c.get('file')) else ''} was {c['before']!r:.80} and is {c['after']!r:.80}"
        for c in changes[:6]
    ]
    more = f" and {len(changes) - 6} more" if len(changes) > 6 else ""
    fixed = [c["key"] for c in changes if str(c["key"]).startswith(_FIXED)]
    if fixed:
        raise InputError(
            f"`{run}` cannot go on with this recipe: {'; '.join(said)}{more}. A run is measured by `{fixed[0]}`; begin a run of "
            "its own in another folder"
        )
    if changes and not allowed:
        raise InputError(
            f"`{run}` began with another recipe: {'; '.join(said)}{more}. Take the one it began with, or say that the change "
            f"is meant: --changed-recipe, attach(changed_recipe=True), or {CHANGED_RECIPE_VARIABLE}=1 with `swift`; it is "
            "then recorded in the ledger"
        )


def changed_header(header: dict[str, Any]) -> dict[str, Any]:
    """Return what `recipe_changed` repeats of a header: the recipe and what its files hold."""
    names = ("recipe", "probe_clusters", *(n.partition(".")[0] for n in _BY_CONTENT.values()))
    return {name: header[name] for name in names if name in header}

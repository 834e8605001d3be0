"""By whose margins and error budgets `guardrail look` judges: those of the run a model is from, of a recipe that the user names, or the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from guardrail.errors import InputError
from guardrail.judge.look_values import with_business
from guardrail.judge.rule import DriftConfig
from guardrail.ledger.file import FILE_NAME, newest_header, read_ledger
from guardrail.ledger.records import LookRuleFacts
from guardrail.models.fingerprint import averaged_from
from guardrail.probes.business_probes import NO_BUSINESS, BusinessProbes, read_business
from guardrail.recipe import Drift, Margin, Recipe, read_recipe, recorded_recipe
from guardrail.shipped import find_recipe

__all__ = ["LookRule", "header_of_run", "look_rule", "run_of"]


@dataclass(frozen=True, slots=True)
class LookRule:
    """The rule of one look; without arguments the defaults."""

    facts: LookRuleFacts = field(default_factory=lambda: LookRuleFacts(of="defaults"))
    """Whose it is, as the ledger and the report say it."""
    drift: Drift = field(default_factory=Drift)
    business: BusinessProbes = NO_BUSINESS
    """A business's own probes, of a recipe that the user names."""
    language: Literal["zh", "en"] | None = None
    """The recipe's; None where there is none."""

    def config(self, seed: int) -> DriftConfig:
        """Return the drift rule's constants with the whole budget on one look; `seed` is of the bootstrap."""
        return with_business(self.drift.config(planned_looks=1, seed=seed), self.business)


def run_of(model: Path) -> Path | None:
    """Return the folder of the run whose checkpoint a model is, or from whose checkpoint it was averaged; None for neither."""
    averaged = averaged_from(model)
    checkpoint = Path(averaged["model"]) if averaged else model
    # A run's checkpoints lie in `checkpoints`, those of ms-swift in the run folder.
    for folder in checkpoint.resolve().parents[:2]:
        try:
            if (folder / FILE_NAME).is_file():
                return folder
        except OSError:  # a name no file system takes
            return None
    return None


def header_of_run(run: Path) -> dict[str, Any]:
    """Return the header of a run, as its resumes changed it on purpose.

    Raises:
        InputError: its ledger is damaged.
    """
    return newest_header(read_ledger(run))


def look_rule(
    model: Path, recipe: str | None, margins: Mapping[str, tuple[float, float]]
) -> LookRule:
    """Return the rule to judge a model by.

    Args:
        model: A checkpoint's, an adapter's or an averaged model's folder.
        recipe: File or shipped name, in place of the run's; its probes are carried out, as `guardrail run` does.
        margins: metric → (margin, critical) in place of the rule's.

    Raises:
        InputError: the recipe, or what the run recorded of its own, cannot be read.
    """
    run = None if recipe is not None else run_of(model)
    changed = tuple(margins)
    if recipe is not None:
        named = read_recipe(recipe)
        facts = LookRuleFacts(of="recipe", path=str(find_recipe(recipe).resolve()), changed=changed)
        return _of_recipe(named, facts, margins, read_business(named.probes.files))
    if run is None:
        facts = LookRuleFacts(of="defaults", changed=changed)
        return LookRule(facts, _with_margins(Drift(), margins))
    try:
        recorded = recorded_recipe(run, header_of_run(run).get("recipe"))
    except InputError as error:
        raise InputError(f"{error}; or name the recipe to judge by: --recipe RECIPE") from error
    # A run folder may be a stranger's: no code that it names is carried out.
    facts = LookRuleFacts(
        of="run", path=str(run), changed=changed, probes_left_out=len(recorded.probes.files)
    )
    return _of_recipe(recorded, facts, margins, NO_BUSINESS)


def _of_recipe(
    recipe: Recipe,
    facts: LookRuleFacts,
    margins: Mapping[str, tuple[float, float]],
    business: BusinessProbes,
) -> LookRule:
    return LookRule(facts, _with_margins(recipe.drift, margins), business, recipe.language)


def _with_margins(drift: Drift, margins: Mapping[str, tuple[float, float]]) -> Drift:
    given = {
        metric: Margin(margin=margin, critical=critical)
        for metric, (margin, critical) in margins.items()
    }
    return drift.model_copy(update={"margins": {**drift.margins, **given}})

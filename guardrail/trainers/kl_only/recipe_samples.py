"""Which KL-only samples a run gets: what recipe, anchors and the form of a GRPO run make of the rehearsal set."""

from typing import Any, TypeVar

from guardrail.anchors.store import Anchors
from guardrail.engines.in_process import encode_prompts
from guardrail.guard.ranks import Ranks
from guardrail.guard.state import GuardState, Seen
from guardrail.kl.token_losses import Reference, rehearsal_samples
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.grpo.forms import BothForms
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.kl_only.normalised_kl_term import Injection
from guardrail.trainers.kl_only.references import wanted_reference
from guardrail.trainers.kl_only.samples import KlOnly, RehearsalSamples
from guardrail.trainers.seam import Seam

__all__ = ["inject", "recipe_samples"]

Samples = TypeVar("Samples", bound=RehearsalSamples)


def inject(
    guarded: GuardedRecipe,
    trainer: Any,
    seam: Seam,
    form: Form | None,
    anchors: Anchors,
    state: GuardState,
    ranks: Ranks,
) -> KlOnly:
    """Put KL-only samples into the training; `form` is GRPO's alone."""
    rollouts = None
    if seam.rollouts is not None and form is not None and form.name != "anchored":
        rollouts = seam.rollouts(guarded, trainer, form, state, ranks, anchors)
        if form.name == "literal":
            return rollouts
    golds = recipe_samples(
        guarded,
        trainer,
        anchors,
        state,
        ranks,
        kind=Injection,
        reference=wanted_reference(guarded.recipe, trainer, anchors.manifest.profile.pad),
        seen=None if rollouts is None else state.golds,
    )
    seam.join(trainer, golds)
    return golds if rollouts is None else BothForms(rollouts, golds)


def recipe_samples(
    guarded: GuardedRecipe,
    trainer: Any,
    anchors: Anchors,
    state: GuardState,
    ranks: Ranks,
    *,
    kind: type[Samples],
    reference: Reference | None = None,
    seen: Seen | None = None,
) -> Samples:
    """Return the rehearsal samples as a form of a kind, which is not yet part of the training."""
    prompts = encode_prompts(
        trainer.processing_class,
        [item.chat() for item in guarded.rehearsal],
        thinking=guarded.recipe.thinking,
    )
    ids = [item.id for item in guarded.rehearsal]
    golds = {i: anchors.answers[i][0].token_ids for i in ids}
    options = guarded.recipe.rehearsal
    return kind(
        rehearsal_samples(dict(zip(ids, prompts, strict=True)), golds, anchors.topk),
        state,
        fraction=options.fraction,
        weight=options.weight,
        loss=options.loss,
        seed=guarded.recipe.seed,
        pad_id=anchors.manifest.profile.pad,
        direction=options.direction,
        reference=reference,
        rank=ranks.rank,
        world_size=ranks.size,
        seen=seen,
        order=options.order,
        abilities={item.id: item.ability for item in guarded.rehearsal},
    )

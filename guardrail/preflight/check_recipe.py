"""`guardrail check`: the preflight, and what it lets one say of a run before it costs anything."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from guardrail.models.fingerprint import is_adapter
from guardrail.preflight.expected_cost import Training, expected_cost, planned_steps, rounded
from guardrail.preflight.preflight import preflight
from guardrail.recipe import Recipe
from guardrail.sets.build.compose import passes_per_prompt
from guardrail.trainers.ms_swift.swift_rows import first_swift_rows
from guardrail.trainers.trl.first_rows import first_rows
from guardrail.trainers.trl.grpo_form import recipe_form
from guardrail.trainers.trl.trl_arguments import refused_without_gpu

__all__ = ["FEW_ROWS", "check_recipe"]

FEW_ROWS = 50
"""Training rows below which a model learns these rows and hardly what they have in common."""


def check_recipe(recipe: Recipe, run: Path | None = None) -> dict[str, Any]:
    """Return what is known of a recipe's run, into that folder where it is known; how many rows other datasets of ms-swift have is not.

    `refused_here` is there where the recipe is sound and a run on this machine would be refused all the same, and says why.

    Raises:
        InputError: as `preflight`, or the trainer's template refuses one of the first rows.
    """
    guardrail, rows, where, arguments, reading = preflight(recipe, run)
    found, items = guardrail.recipe, len(guardrail.rehearsal)
    facts: dict[str, Any] = {"recipe": recipe.name}
    swift = recipe.trainer == "ms-swift"
    if arguments is not None:
        facts["trains"] = _trained(found, arguments)
    grpo = recipe.trainer == "trl-grpo" or "rlhf_type" in recipe.train.arguments
    lengths = None
    if swift and arguments is not None:
        lengths = first_swift_rows(arguments, list(zip(where, rows, strict=True)), grpo=grpo)
    elif recipe.train.data is None and not swift:
        facts["training_rows"] = (
            "none in the recipe: a script with `Guardrail.from_recipe` brings its own, `guardrail run` needs `train.data`"
        )
    elif rows:
        lengths = first_rows(found, rows, where, getattr(arguments, "max_length", None))
    count = held_out = 0
    if reading is not None and not recipe.train.arguments.get(
        "dataset"
    ):  # ms-swift's others are not counted
        count = reading.kept
        held_out = 0 if grpo else round(count * recipe.train.held_out)  # as `split_rows`
        facts |= {
            "training_rows": count - held_out,
            **({"held_out_rows": held_out} if held_out else {}),
            **reading.facts(),
            "passes_per_prompt_and_epoch": rounded(
                passes_per_prompt(count - held_out, recipe.rehearsal.fraction, items), 2
            ),
        }
    if lengths is not None:
        facts["first_rows"] = lengths.said
    facts |= {
        "red_line_items": len(guardrail.red_line),
        "rehearsal_items": items,
        "rehearsal_fraction": recipe.rehearsal.fraction,
        "anchors": guardrail.anchors_standing(),
    }
    if recipe.trainer == "trl-grpo" and recipe.mode == "guard":
        facts["kl_only_samples"] = recipe_form(found).sentence
    gaps = _gaps(rows, where) if recipe.trainer == "trl-grpo" else []
    training, trained = None, count - held_out
    if lengths is not None:
        sequences, tokens = trained, lengths.mean
        longest = getattr(arguments, "max_length", None)
        if getattr(arguments, "packing", False) and longest and not grpo:
            sequences, tokens = ceil(trained * tokens / longest), float(longest)
        training = Training(
            arguments,
            tokens,
            steps=_steps(recipe, arguments, sequences, grpo=grpo),
            lora=recipe.train.lora is not None
            or getattr(arguments, "tuner_type", "full") != "full",
            grpo=grpo,
        )
    facts |= expected_cost(found, len(guardrail.red_line), items, training)
    if guardrail.anchors_exist():  # they cost nothing any more
        facts.pop("anchors_minutes", None)
    no_gpu = None if swift else refused_without_gpu(recipe, ranks=_ranks(recipe))
    if no_gpu:
        facts["refused_here"] = no_gpu
    facts["warnings"] = [
        *([f"a run on this machine would be refused: {no_gpu}"] if no_gpu else []),
        *gaps,
        *([] if swift or grpo else _packed_together(recipe, arguments)),
        *(_too_few(trained, arguments, ranks=_ranks(recipe), grpo=grpo) if trained else []),
        *(_hardly_injected(recipe, training) if training is not None else []),
        *facts["warnings"],
    ]
    return facts


def _trained(recipe: Recipe, arguments: Any) -> str:
    """Which weights a run trains; ms-swift trains an adapter where nobody says so."""
    if recipe.trainer == "ms-swift":
        tuner = arguments.tuner_type
        said = "all weights" if tuner == "full" else f"an adapter ({tuner})"
        if recipe.train.arguments.get("tuner_type") is not None:
            return said
        return f"{said}, as ms-swift does where `tuner_type` is left out; `tuner_type: full` trains all weights"
    adapter = recipe.train.lora is not None or is_adapter(Path(str(recipe.start_model)))
    return "an adapter (lora)" if adapter else "all weights"


def _samples_a_step(arguments: Any, ranks: int) -> int:
    per_device: int = arguments.per_device_train_batch_size
    return per_device * int(arguments.gradient_accumulation_steps) * ranks


def _hardly_injected(recipe: Recipe, training: Training) -> list[str]:
    """A sentence where so few samples are trained on that the fraction of them makes no rehearsal sample, or one."""
    if recipe.mode != "guard" or training.steps is None:
        return []
    taken = training.steps * _samples_a_step(training.arguments, _ranks(recipe))
    samples = taken // (training.arguments.num_generations if training.grpo else 1)
    due = passes_per_prompt(samples, recipe.rehearsal.fraction, 1)
    if due >= 2:
        return []
    return [
        f"{samples} samples are trained on, of which `rehearsal.fraction` {recipe.rehearsal.fraction:g} makes {due:.1f} rehearsal "
        "samples: nothing will hold the model; train longer, or set a larger fraction"
    ]


def _too_few(rows: int, arguments: Any, *, ranks: int, grpo: bool) -> list[str]:
    """A sentence where there are too few rows to learn from.

    Args:
        rows: That are trained on.
        arguments: Read by the trainer's own class.
        ranks: Of the run.
        grpo: Whether they are prompts, of which a step takes several completions each.
    """
    step = _samples_a_step(arguments, ranks)
    if not grpo and rows < step:
        return [
            f"{rows} training rows do not fill one optimizer step, which takes {step}: little can be learned from so few; give "
            "more rows, or lower `per_device_train_batch_size` or `gradient_accumulation_steps`"
        ]
    if rows < FEW_ROWS:
        return [
            f"{rows} training rows are few: a model learns these by heart and hardly what they have in common; some hundred are usual"
        ]
    return []


def _packed_together(recipe: Recipe, arguments: Any) -> list[str]:
    """A sentence where the rows of a packed sequence may see one another."""
    strategy = getattr(arguments, "packing_strategy", "bfd")
    if getattr(arguments, "packing", False) and strategy == "wrapped":
        return [
            "`packing_strategy: wrapped` cuts rows anywhere, and those in one sequence see one another; leave it away, so that rows "
            "stay whole (`bfd`)"
        ]
    if not getattr(arguments, "packing", False) and not getattr(arguments, "padding_free", False):
        return []
    named = recipe.train.arguments.get("model_init_kwargs") or {}
    attention = named.get("attn_implementation") if isinstance(named, dict) else None
    if attention is not None and "flash" in str(attention):
        return []
    key = "packing" if arguments.packing else "padding_free"
    return [
        f"`{key}` without flash attention: TRL says of other attention that rows in one sequence may see one another; set "
        f"`train.arguments.model_init_kwargs: {{attn_implementation: flash_attention_2}}`, or `{key}: false`"
    ]


def _gaps(rows: Sequence[Mapping[str, Any]], where: Sequence[str]) -> list[str]:
    """A sentence for each column that holds nothing in some rows, for which rewards are handed None."""
    said = []
    for column in rows[0] if rows else ():
        empty = [place for row, place in zip(rows, where, strict=True) if row[column] is None]
        if empty:
            said.append(
                f"column `{column}` is empty in {len(empty)} of {len(rows)} training rows, the first {empty[0]}; rewards are given "
                "None there"
            )
    return said


def _steps(recipe: Recipe, arguments: Any, rows: int, *, grpo: bool) -> int | None:
    """Optimizer steps of the run as trainers count them; None where rows are not known, or are counted in completions.

    Args:
        recipe: Checked.
        arguments: Read by the trainer's own class.
        rows: That are trained on, or the sequences that packing makes of them.
        grpo: Whether it is GRPO.
    """
    if arguments.max_steps <= 0 and (grpo or not rows):
        return None
    batches = ceil(rows / _ranks(recipe) / arguments.per_device_train_batch_size)
    return planned_steps(vars(arguments), ceil(batches / arguments.gradient_accumulation_steps))


def _ranks(recipe: Recipe) -> int:
    return recipe.launch.processes * recipe.launch.nodes

"""`guardrail data generate` by models that the stage trains itself: back-translation and data distillation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardrail.cli.data_options import (
    AskedOptions,
    PromptsOption,
    RowsArgument,
    StageOptions,
    grouped,
    numbers,
    progress_bar,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import Answerer, Costs
    from guardrail.data.rows import DataRow

__all__ = ["back_translation_command", "data_distillation_command"]

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", help="Recipe of TRL's SFT whose start model and arguments train the rounds."
    ),
]


@grouped
def back_translation_command(
    answers: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    seeds: Annotated[Path, typer.Option(help="Pairs of instruction and answer.")],
    recipe: RecipeOption,
    keep: Annotated[str, typer.Option(help="Rows kept in each trained round.")] = "200,300",
    no_tags: Annotated[
        bool, typer.Option("--no-tags", help="No system turns that tell seeds from augmented rows.")
    ] = False,
    prompts: PromptsOption = None,
) -> None:
    """Find instructions for answers by a trained reverse model, curated in trained rounds (arXiv 2308.06259).

    ANSWERS are rows whose answers count. The models Myx, M0, M1, M2 are trained below the folder; a finished one is
    not trained again. With `--server` a reverse model that is only prompted stands beside the trained one.

    Example: `guardrail data generate back-translation texts.jsonl --seeds seeds.jsonl --recipe qwen3-8b-sft-lora --out data/back`
    """
    from guardrail.data.generate.back_translation import back_translation
    from guardrail.data.prompt_templates import Prompts

    counts = numbers("--keep", keep, int, "200,300")
    rounds, templates = _Rounds(recipe, stage), Prompts(prompts)
    beside = [asking.endpoint(stage)] if asking.server else []
    with progress_bar("models", len(counts) + 2) as done:
        made = back_translation(
            rounds.train,
            templates,
            stage.rows([seeds]),
            stage.rows(answers),
            keep=counts,
            prompted=beside[0] if beside else None,
            tagged=not no_tags,
            seed=stage.seed,
            on_stage=lambda name: done(len(rounds.folders)),
        )
    stage.finish(
        made,
        [*rounds.costs, *(one.costs for one in beside)],
        method="back-translation",
        keep=counts,
        recipe=recipe,
        models=rounds.folders,
        **templates.record(),
    )


@grouped
def data_distillation_command(
    unlabelled: RowsArgument,
    stage: StageOptions,
    labelled: Annotated[Path, typer.Option(help="Rows with right answers.")],
    recipe: RecipeOption,
    confidence: Annotated[
        float, typer.Option(help="From which a pseudo-label is kept, 0 to 1.")
    ] = 0.8,
    rounds: Annotated[int, typer.Option(min=1, help="Of labelling and training again.")] = 2,
) -> None:
    """Train a teacher, let it label prompts, keep what it is sure of, train again on both, and repeat.

    Example: `guardrail data generate data-distillation prompts.jsonl --labelled rows.jsonl --recipe qwen3-8b-sft-lora --out data/distilled`
    """
    from guardrail.data.generate.data_distillation import data_distillation

    teachers = _Rounds(recipe, stage)
    with progress_bar("teachers", rounds + 1) as done:
        made = data_distillation(
            teachers.train,
            stage.rows([labelled]),
            stage.rows(unlabelled, answered=False),
            least_confidence=confidence,
            rounds=rounds,
            seed=stage.seed,
            on_stage=lambda name: done(len(teachers.folders)),
        )
    stage.finish(
        made,
        teachers.costs,
        method="data-distillation",
        rounds=rounds,
        confidence=confidence,
        recipe=recipe,
        models=teachers.folders,
    )


class _Rounds:
    """The models of trained rounds below a stage's folder, each asked in this process."""

    def __init__(self, recipe: str, stage: StageOptions) -> None:
        from guardrail.recipe import read_recipe

        self._recipe, self._stage = read_recipe(recipe), stage
        self.folders: dict[str, str] = {}
        self.costs: list[Costs] = []
        """Not the models themselves: one is in memory at a time."""

    def train(self, rows: "Sequence[DataRow]", name: str) -> "Answerer":
        from guardrail.data.trained_model import LocalAnswerer, train_on

        folder = train_on(self._recipe, rows, self._stage.out / "models" / name)
        self.folders[name] = str(folder)
        answerer = LocalAnswerer(
            folder, thinking=self._recipe.thinking, judged=self._stage.judged_text
        )
        self.costs.append(answerer.costs)
        return answerer

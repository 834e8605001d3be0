"""`guardrail data spin`: self-play, by a server one iteration at a time, or trained in this process."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrail.cli.common import quiet_libraries
from guardrail.cli.data_options import (
    AskedOptions,
    RowsArgument,
    StageOptions,
    grouped,
    progress_bar,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import Costs
    from guardrail.data.rows import DataRow
    from guardrail.data.stage_folder import Made
    from guardrail.recipe import Recipe

__all__ = ["spin_command"]


@grouped
def spin_command(
    rows: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe of TRL's SFT: its start model plays, and is trained in this process."
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="To be played with `--recipe`, 2 by default.")
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option(
            help="With `--server`, from iteration 1 on: folder of the iteration before; its pairs are trained along."
        ),
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="Folder of anchors: base's golds are played for as well, to keep them."),
    ] = None,
    general_share: Annotated[
        float | None,
        typer.Option(help="Share of those golds among all rows, at most 0.1; 0.03 by default."),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(min=0.0, help="Of DPO; by default 0.1, as in the paper.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="In place of the recipe's; the paper's is 5e-7, then 1e-7 from t = 2."
        ),
    ] = None,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Of an answer at most.")] = 1024,
) -> None:
    """Pair each row's answer with what the model says in its place, train it to tell them apart, and again (SPIN, arXiv 2401.01335).

    The model should be fine-tuned on the rows already. An iteration is trained on its pairs and those of the one before, as in the
    paper: preferences.jsonl is for TRL's DPO, preferences.swift.jsonl for ms-swift's. With `--recipe` each iteration's model is trained on them unguarded, below the folder in `models/`: look at the
    last one with `guardrail look` before you use it. An iteration without a pair is the last. With `--server` one iteration is made, and you train.

    Example: `guardrail data spin rows.jsonl --recipe qwen3-8b-sft-lora --iterations 2 --learning-rate 5e-7 --out data/spin`

    An iteration by a server: `guardrail data spin rows.jsonl --server http://127.0.0.1:8000 --previous data/spin-0 --out data/spin-1`
    """
    from guardrail.data.generate.spin import gold_rows, mix_in, newest_iteration, play, with_golds
    from guardrail.errors import InputError

    if (recipe is None) == (asking.server is None):
        raise InputError(
            "SPIN needs an opponent: give `--recipe` to play and train here, or `--server` for one iteration"
        )
    training = {"iterations": iterations, "beta": beta, "learning-rate": learning_rate}
    if recipe is None and (name := next((k for k, v in training.items() if v is not None), None)):
        raise InputError(
            f"`--{name}` is about training here; leave it out with `--server`, or give `--recipe`"
        )
    if recipe is not None and previous is not None:
        raise InputError(
            "`--previous` is about one iteration by a server; with `--recipe` say with `--iterations` how many are played"
        )
    if anchors is None and general_share is not None:
        raise InputError(
            "`--general-share` is about base's golds; give their folder with `--anchors`"
        )
    iterations = iterations or 2
    beta = 0.1 if beta is None else beta
    general_share = 0.03 if general_share is None else general_share
    given = stage.rows(rows)
    if anchors is not None:
        golds = stage.judged_text.without_judged_rows(gold_rows(anchors))
        given = with_golds(given, golds, general_share, stage.seed)
    if recipe is None:
        iteration = 0
        before: list[DataRow] = []
        if previous is not None:
            newest, before = newest_iteration(stage.rows([previous / "rows.jsonl"]), previous)
            iteration = newest + 1
        with progress_bar("answers", len(given)) as done:
            asked = asking.endpoint(stage, done)
            made = play(
                asked, given, iteration, name=asked.model, seed=stage.seed, max_tokens=answer_tokens
            )
        mix_in(made, before)
        costs = [asked.costs]
        settings: dict[str, Any] = {"model": asked.model, "iteration": iteration}
        settings["previous"] = None if previous is None else str(previous)
    else:
        from guardrail.recipe import read_recipe

        quiet_libraries()
        played = _InThisProcess(
            stage, read_recipe(recipe), given, beta, learning_rate, answer_tokens
        )
        with progress_bar("iterations", iterations) as done:
            made = played.through(iterations, done)
        costs = played.costs
        settings = {"recipe": recipe, "iterations": iterations, "beta": beta}
    stage.finish(made, costs, method="spin", answer_tokens=answer_tokens, **settings)


@dataclass
class _InThisProcess:
    """Iterations below a stage's folder: `iteration-t/` has its rows and what is trained on, `models/iteration-t` the model t began with."""

    stage: StageOptions
    recipe: "Recipe"
    rows: "list[DataRow]"
    beta: float
    learning_rate: float | None
    answer_tokens: int

    def __post_init__(self) -> None:
        from guardrail.data.preference_training import require_trainable

        require_trainable(self.recipe)
        self.costs: list[Costs] = []

    def through(self, iterations: int, done: Any) -> "Made":
        """Return the pairs of all iterations, each once; what an earlier try finished is not done again.

        An iteration from the second on that leaves no pair is the last: SPIN has arrived.
        """
        from guardrail.data.generate.spin import as_pair
        from guardrail.data.preference_training import train_on_pairs
        from guardrail.data.stage_folder import Made
        from guardrail.errors import InputError

        whole = Made(facts={"iterations": [], "models": []})
        model = Path(str(self.recipe.start_model))
        before: list[DataRow] = []
        for number in range(iterations):
            made = self._pairs(number, model, before)
            mixed = {"mixed_in": made.facts["mixed_in"]}
            whole.rows += made.rows
            whole.dropped += made.dropped
            whole.preferences += [as_pair(row) for row in made.rows]
            whole.facts["iterations"].append({"iteration": number, **made.funnel(), **mixed})
            before = made.rows
            if not made.preferences and number:
                break
            if not made.preferences:
                raise InputError(
                    f"iteration {number} leaves no pair of {len(self.rows)} rows ({made.funnel()['lost']}); where all are cut give more "
                    "`--answer-tokens`, where all are equal there is nothing to learn from these rows"
                )
            model, without = train_on_pairs(
                self.recipe,
                made.preferences,
                model,
                self.stage.out / "models" / f"iteration-{number + 1}",
                beta=self.beta,
                learning_rate=self.learning_rate,
            )
            whole.facts["models"].append(str(model))
            whole.facts["arguments_left_out"] = without
            done(number + 1)
        return whole

    def _pairs(self, number: int, model: Path, before: "list[DataRow]") -> "Made":
        from guardrail.data.generate.spin import as_pair, mix_in, play
        from guardrail.data.preference_training import training_settings
        from guardrail.data.select.row_faults import drop_judged
        from guardrail.data.stage_folder import read_stage, write_stage
        from guardrail.data.trained_model import LocalAnswerer
        from guardrail.sets.lint.duplicates import hash64

        stage, folder = self.stage, self.stage.out / f"iteration-{number}"
        settings = {
            "iteration": number,
            "opponent": str(model),
            "rows": f"{hash64(''.join(row.id for row in self.rows)):016x}",
            "answer_tokens": self.answer_tokens,
            "seed": stage.seed,
            **training_settings(self.recipe, self.beta, self.learning_rate),
        }
        found = read_stage(folder, settings)
        if found is not None:
            made, costs = found
        else:
            opponent = LocalAnswerer(model, thinking=self.recipe.thinking, judged=stage.judged_text)
            made = play(
                opponent,
                self.rows,
                number,
                name=f"iteration-{number}",
                seed=stage.seed,
                max_tokens=self.answer_tokens,
            )
            costs = opponent.costs
        clean = drop_judged(made, stage.judged_text)
        clean.preferences = [as_pair(row) for row in clean.rows]
        mix_in(clean, before)
        if found is None:
            write_stage(folder, clean, costs, settings)
        self.costs.append(costs)
        return clean

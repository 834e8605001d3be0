"""The command line of the generators: `guardrail data generate METHOD`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.common import ConcurrencyOption, JsonFlag, clear_errors
from guardrail.cli.data_options import (
    BenchmarkOption,
    EndpointOption,
    JudgedOption,
    JudgeOption,
    ModelNameOption,
    OutOption,
    PromptsOption,
    RowsArgument,
    SeedOption,
    ThinkingOption,
    endpoints,
    judged_prompts,
    progress_bar,
    tell,
    together,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import Answerer, Costs
    from guardrail.data.rows import DataRow
    from guardrail.data.stage_folder import Made

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make rows by a method. Run again as it was, a stage goes on where it was killed.",
)

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", help="Recipe of TRL's SFT whose start model and arguments train the rounds."
    ),
]
LicenceOption = Annotated[str, typer.Option(help="Licence of what is made.")]


def _rows(paths: Sequence[Path], *, answered: bool = True) -> "list[DataRow]":
    from guardrail.data.rows import read_data_rows

    return [row for path in paths for row in read_data_rows(path, answered=answered)]


def _finish(
    out: Path,
    made: "Made",
    costs: "Costs | None",
    settings: dict[str, Any],
    judged: list[str] | None,
    benchmark: list[Path] | None,
    *,
    as_json: bool,
) -> None:
    """Take out what shares text with a judged item, write the stage, tell it."""
    from guardrail.data.select.row_faults import drop_judged
    from guardrail.data.stage_folder import write_stage

    apart = drop_judged(made, judged_prompts(judged, benchmark))
    tell(write_stage(out, apart, costs, settings), as_json=as_json)


@app.command("self-instruct")
def self_instruct_command(
    seeds: RowsArgument,
    out: OutOption,
    rows: Annotated[int, typer.Option(help="Rows wanted.")] = 1000,
    quotas: Annotated[
        Path | None,
        typer.Option(
            help="YAML of quotas over task, style, form and lengths; by default the shipped one."
        ),
    ] = None,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Grow a pool of tasks from seeds (Self-Instruct, arXiv 2212.10560).

    Example: `guardrail data generate self-instruct seeds.jsonl --server http://127.0.0.1:8000 --rows 2000 --out data/c0`
    """
    with clear_errors():
        from guardrail.data.diversity import read_quotas
        from guardrail.data.generate.self_instruct import SelfInstructOptions, self_instruct
        from guardrail.data.prompt_templates import Prompts

        given, templates = _rows(seeds), Prompts(prompts)
        options = SelfInstructOptions(rows, seed, quotas=read_quotas(quotas))
        with progress_bar("rows", rows) as done:
            asked, _ = endpoints(server, served_as, None, concurrency, out, thinking=thinking)
            made = self_instruct(
                asked,
                templates,
                given,
                options,
                model=asked.model,
                on_round=lambda number, count: done(count),
            )
        settings = {
            "method": "self-instruct",
            "rows": rows,
            "seed": seed,
            "model": asked.model,
            **templates.record(),
        }
        _finish(out, made, asked.costs, settings, judged, benchmark, as_json=as_json)


@app.command("evol-instruct")
def evol_instruct_command(
    rows: RowsArgument,
    out: OutOption,
    rounds: Annotated[int, typer.Option(min=1, help="Four in the paper.")] = 4,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    judge: JudgeOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Evolve questions in depth and breadth, and merge all rounds (Evol-Instruct, arXiv 2304.12244).

    Example: `guardrail data generate evol-instruct data/c0/rows.jsonl --server http://127.0.0.1:8000 --out data/evolved`
    """
    with clear_errors():
        from guardrail.data.generate.evol_instruct import evol_instruct
        from guardrail.data.prompt_templates import Prompts

        given, templates = _rows(rows), Prompts(prompts)
        with progress_bar("rounds", rounds) as done:
            asked, judging = endpoints(
                server, served_as, judge, concurrency, out, thinking=thinking
            )
            made = evol_instruct(
                asked,
                judging,
                templates,
                given,
                model=asked.model,
                rounds=rounds,
                seed=seed,
                on_round=lambda number, count: done(number),
            )
        settings = {
            "method": "evol-instruct",
            "rounds": rounds,
            "seed": seed,
            "model": asked.model,
            "judge": judging.model,
        }
        _finish(
            out,
            made,
            together(asked, judging),
            {**settings, **templates.record()},
            judged,
            benchmark,
            as_json=as_json,
        )


@app.command("step-back")
def step_back_command(
    rows: RowsArgument,
    out: OutOption,
    documents: Annotated[
        list[Path] | None,
        typer.Option(help="Text or Markdown to retrieve facts from; may be repeated."),
    ] = None,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    judge: JudgeOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Answer from the principle behind a question, and compare with answering directly (arXiv 2310.06117).

    Example: `guardrail data generate step-back questions.jsonl --server http://127.0.0.1:8000 --out data/step-back`
    """
    with clear_errors():
        from guardrail.data.generate.retrieval import Passages, read_passages
        from guardrail.data.generate.step_back import step_back
        from guardrail.data.prompt_templates import Prompts

        given, templates = _rows(rows, answered=False), Prompts(prompts)
        passages = Passages(read_passages(documents)) if documents else None
        with progress_bar("replies", 5 * len(given)) as done:
            asked, judging = endpoints(
                server, served_as, judge, concurrency, out, thinking=thinking, on_reply=done
            )
            made = step_back(
                asked, judging, templates, given, model=asked.model, passages=passages, seed=seed
            )
        settings = {
            "method": "step-back",
            "seed": seed,
            "model": asked.model,
            "judge": judging.model,
            **templates.record(),
        }
        _finish(out, made, together(asked, judging), settings, judged, benchmark, as_json=as_json)


@app.command("grounded")
def grounded_command(
    documents: Annotated[
        list[Path], typer.Argument(metavar="DOCUMENTS...", help="Text or Markdown, UTF-8.")
    ],
    out: OutOption,
    licence: LicenceOption = "LicenseRef-own",
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Retrieve knowledge for this; may be repeated. None takes every passage."
        ),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions a passage.")] = 3,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Ask and answer from documents; every answer's span must stand in them word for word.

    Example: `guardrail data generate grounded rules/*.md --server http://127.0.0.1:8000 --out data/grounded`
    """
    with clear_errors():
        from guardrail.data.generate.grounded import grounded
        from guardrail.data.generate.retrieval import Passages, read_passages
        from guardrail.data.prompt_templates import Prompts

        passages, templates = Passages(read_passages(documents)), Prompts(prompts)
        with progress_bar("replies", None) as done:
            asked, _ = endpoints(
                server, served_as, None, concurrency, out, thinking=thinking, on_reply=done
            )
            made = grounded(
                asked,
                templates,
                passages,
                model=asked.model,
                licence=licence,
                topics=topic or (),
                questions_each=questions,
                seed=seed,
            )
        settings = {
            "method": "grounded",
            "seed": seed,
            "model": asked.model,
            "documents": [str(d) for d in documents],
        }
        _finish(
            out,
            made,
            asked.costs,
            {**settings, **templates.record()},
            judged,
            benchmark,
            as_json=as_json,
        )


@app.command("answers")
def answers_command(
    rows: RowsArgument,
    out: OutOption,
    how: Annotated[
        Literal["plain", "reasoning", "teachers"],
        typer.Option(help="Plain, with reasoning, or the best of several."),
    ] = "plain",
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="A further model there, for `--how teachers`; may be repeated."),
    ] = None,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    judge: JudgeOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Have prompts answered: plainly, with the teacher's reasoning, or by several teachers of whom a judge takes the best.

    Example: `guardrail data generate answers prompts.jsonl --how reasoning --server http://127.0.0.1:8000 --out data/answered`
    """
    with clear_errors():
        from guardrail.data.chat_endpoint import ChatEndpoint
        from guardrail.data.generate.answers import Teacher, answers
        from guardrail.data.prompt_templates import Prompts
        from guardrail.errors import InputError

        if (how == "teachers") != bool(teacher):
            raise InputError(
                "`--how teachers` and at least one `--teacher NAME` beside `--served-as` go together"
            )
        given, templates = _rows(rows, answered=False), Prompts(prompts)
        with progress_bar("replies", None) as done:
            asked, judging = endpoints(
                server, served_as, judge, concurrency, out, thinking=thinking, on_reply=done
            )
            others = [
                ChatEndpoint(
                    asked.server, name, out / f"asked-{n}.jsonl", thinking=thinking, on_reply=done
                )
                for n, name in enumerate(teacher or (), 2)
            ]
            teachers = [Teacher(one.model, one) for one in (asked, *others)]
            made = answers(teachers, judging, templates, given, how=how, seed=seed)
        settings = {
            "method": f"answers-{how}",
            "seed": seed,
            "teachers": [t.name for t in teachers],
            "judge": judging.model,
        }
        _finish(
            out,
            made,
            together(asked, judging, *others),
            {**settings, **templates.record()},
            judged,
            benchmark,
            as_json=as_json,
        )


@app.command("people-and-model")
def people_and_model_command(
    tasks: RowsArgument,
    out: OutOption,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: ThinkingOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Write three answers to each task on a sheet for people; run again when it is filled in, and it is read back.

    The sheet is sheet.xlsx in the folder; rows.jsonl and preferences.jsonl come of it.

    Example: `guardrail data generate people-and-model tasks.jsonl --server http://127.0.0.1:8000 --out data/people`
    """
    with clear_errors():
        from guardrail.cli.common import console
        from guardrail.data.generate.people_and_model import read_sheet, three_answers, write_sheet

        given, sheet = _rows(tasks, answered=False), out / "sheet.xlsx"
        with progress_bar("answers", 3 * len(given)) as done:
            asked, _ = endpoints(
                server, served_as, None, concurrency, out, thinking=thinking, on_reply=done
            )
            three = three_answers(asked, given, seed=seed)
        if not sheet.exists():
            write_sheet(sheet, given, three)
            console.print(f"sheet: {sheet}; fill it in, and run the command again", soft_wrap=True)
            return
        made = read_sheet(sheet, given, three, model=asked.model)
        settings = {"method": "people-and-model", "seed": seed, "model": asked.model}
        _finish(out, made, asked.costs, settings, judged, benchmark, as_json=as_json)


@app.command("magpie")
def magpie_command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of the served model, for its chat template."),
    ],
    out: OutOption,
    rows: Annotated[int, typer.Option(help="Chats that are begun.")] = 1000,
    turns: Annotated[
        str, typer.Option(help="Shares of chats with one exchange, two, …")
    ] = "0.7,0.2,0.1",
    system: Annotated[
        list[str] | None,
        typer.Option(help="A system turn that steers what is asked; may be repeated."),
    ] = None,
    server: EndpointOption = None,
    served_as: ModelNameOption = None,
    concurrency: ConcurrencyOption = 16,
    thinking: Annotated[
        bool, typer.Option("--thinking/--no-thinking", help="Thinking mode of the template.")
    ] = False,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Let the model write the user's turns itself (Magpie, arXiv 2406.08464); needs vLLM's raw completions.

    Example: `guardrail data generate magpie models/Qwen3-8B --server http://127.0.0.1:8000 --rows 2000 --out data/magpie`
    """
    with clear_errors():
        from guardrail.data.generate.magpie import magpie, user_opening
        from guardrail.errors import InputError
        from guardrail.models.end_of_turn import resolve_profile
        from guardrail.models.load import load_tokenizer

        try:
            shares = [float(part) for part in turns.split(",")]
        except ValueError as error:
            raise InputError(f"`--turns {turns}` must be shares such as 0.7,0.2,0.1") from error
        tokenizer = load_tokenizer(model)
        stop = tokenizer.convert_ids_to_tokens(
            list(resolve_profile(model, tokenizer, thinking=thinking).stop)
        )
        with progress_bar("replies", None) as done:
            asked, _ = endpoints(
                server, served_as, None, concurrency, out, thinking=thinking, on_reply=done
            )
            made = magpie(
                asked.complete,
                asked,
                lambda chat: user_opening(tokenizer, chat, thinking=thinking),
                stop=stop,
                rows=rows,
                turns=shares,
                systems=system or ("",),
                model=asked.model,
                seed=seed,
            )
        settings = {
            "method": "magpie",
            "rows": rows,
            "turns": shares,
            "seed": seed,
            "model": asked.model,
        }
        _finish(out, made, asked.costs, settings, judged, benchmark, as_json=as_json)


@app.command("back-translation")
def back_translation_command(
    answers: RowsArgument,
    out: OutOption,
    seeds: Annotated[Path, typer.Option(help="Pairs of instruction and answer.")],
    recipe: RecipeOption,
    keep: Annotated[str, typer.Option(help="Rows kept in each trained round.")] = "200,300",
    no_tags: Annotated[
        bool, typer.Option("--no-tags", help="No system turns that tell seeds from augmented rows.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="A prompted reverse model beside the trained one."
        ),
    ] = None,
    served_as: ModelNameOption = None,
    concurrency: ConcurrencyOption = 16,
    prompts: PromptsOption = None,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find instructions for answers by a trained reverse model, curated in trained rounds (arXiv 2308.06259).

    ANSWERS are rows whose answers count. The models Myx, M0, M1, M2 are trained below the folder; a finished one is
    not trained again.

    Example: `guardrail data generate back-translation texts.jsonl --seeds seeds.jsonl --recipe qwen3-8b-sft-lora --out data/back`
    """
    with clear_errors():
        from guardrail.data.generate.back_translation import back_translation
        from guardrail.data.prompt_templates import Prompts
        from guardrail.errors import InputError
        from guardrail.recipe import read_recipe

        if not all(part.strip().isdigit() for part in keep.split(",")):
            raise InputError(f"`--keep {keep}` must be numbers of rows such as 200,300")
        counts = [int(part) for part in keep.split(",")]
        read, templates = read_recipe(recipe), Prompts(prompts)
        rounds = _Rounds(read, out)
        asked = endpoints(server, served_as, None, concurrency, out)[0] if server else None
        with progress_bar("models", len(counts) + 2) as done:
            made = back_translation(
                rounds.train,
                templates,
                _rows([seeds]),
                _rows(answers),
                keep=counts,
                prompted=asked,
                tagged=not no_tags,
                seed=seed,
                on_stage=lambda name: done(len(rounds.folders)),
            )
        settings = {
            "method": "back-translation",
            "keep": counts,
            "recipe": recipe,
            "models": rounds.folders,
            **templates.record(),
        }
        _finish(out, made, rounds.costs(asked), settings, judged, benchmark, as_json=as_json)


@app.command("data-distillation")
def data_distillation_command(
    unlabelled: RowsArgument,
    out: OutOption,
    labelled: Annotated[Path, typer.Option(help="Rows with right answers.")],
    recipe: RecipeOption,
    confidence: Annotated[
        float, typer.Option(help="From which a pseudo-label is kept, 0 to 1.")
    ] = 0.8,
    rounds: Annotated[int, typer.Option(min=1, help="Of labelling and training again.")] = 2,
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Train a teacher, let it label prompts, keep what it is sure of, train again on both, and repeat.

    Example: `guardrail data generate data-distillation prompts.jsonl --labelled rows.jsonl --recipe qwen3-8b-sft-lora --out data/distilled`
    """
    with clear_errors():
        from guardrail.data.generate.data_distillation import data_distillation
        from guardrail.recipe import read_recipe

        teachers = _Rounds(read_recipe(recipe), out)
        with progress_bar("teachers", rounds + 1) as done:
            made = data_distillation(
                teachers.train,
                _rows([labelled]),
                _rows(unlabelled, answered=False),
                least_confidence=confidence,
                rounds=rounds,
                seed=seed,
                on_stage=lambda name: done(len(teachers.folders)),
            )
        settings = {
            "method": "data-distillation",
            "rounds": rounds,
            "confidence": confidence,
            "recipe": recipe,
            "models": teachers.folders,
        }
        _finish(out, made, teachers.costs(None), settings, judged, benchmark, as_json=as_json)


class _Rounds:
    """The models of trained rounds below a stage's folder, and what asking them cost."""

    def __init__(self, recipe: Any, out: Path) -> None:
        self._recipe, self._out = recipe, out
        self.folders: dict[str, str] = {}
        self._asked: list[Any] = []

    def train(self, rows: "Sequence[DataRow]", name: str) -> "Answerer":
        from guardrail.data.trained_model import LocalAnswerer, train_on

        folder = train_on(self._recipe, rows, self._out / "models" / name)
        self.folders[name] = str(folder)
        answerer = LocalAnswerer(folder, thinking=self._recipe.thinking)
        self._asked.append(answerer)
        return answerer

    def costs(self, beside: Any) -> "Costs":
        return together(*self._asked, *([beside] if beside else []))

"""The command line of the generators: `guardrail data generate METHOD`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from guardrail.cli.common import console
from guardrail.cli.data_options import (
    AskedOptions,
    JudgeOption,
    PromptsOption,
    RowsArgument,
    StageOptions,
    grouped,
    numbers,
    progress_bar,
)
from guardrail.cli.data_trained_rounds import back_translation_command, data_distillation_command

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Make rows by a method. Run again as it was, a stage goes on where it was killed.",
)


@app.command("self-instruct")
@grouped
def self_instruct_command(
    seeds: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    rows: Annotated[int, typer.Option(help="Rows wanted.")] = 1000,
    quotas: Annotated[
        Path | None,
        typer.Option(
            help="YAML of quotas over task, style, form and lengths; by default the shipped one."
        ),
    ] = None,
    prompts: PromptsOption = None,
) -> None:
    """Grow a pool of tasks from seeds (Self-Instruct, arXiv 2212.10560).

    Example: `guardrail data generate self-instruct seeds.jsonl --server http://127.0.0.1:8000 --rows 2000 --out data/c0`
    """
    from guardrail.data.diversity import read_quotas
    from guardrail.data.generate.self_instruct import SelfInstructOptions, self_instruct
    from guardrail.data.prompt_templates import Prompts

    given, templates = stage.rows(seeds), Prompts(prompts)
    options = SelfInstructOptions(rows, stage.seed, quotas=read_quotas(quotas))
    with progress_bar("rows", rows) as done:
        asked = asking.endpoint(stage)
        made = self_instruct(
            asked,
            templates,
            given,
            options,
            model=asked.model,
            on_round=lambda number, count: done(count),
        )
    stage.finish(
        made,
        [asked.costs],
        method="self-instruct",
        rows=rows,
        model=asked.model,
        **templates.record(),
    )


@app.command("evol-instruct")
@grouped
def evol_instruct_command(
    rows: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    rounds: Annotated[int, typer.Option(min=1, help="Four in the paper.")] = 4,
    judge: JudgeOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Evolve questions in depth and breadth, and merge all rounds (Evol-Instruct, arXiv 2304.12244).

    Example: `guardrail data generate evol-instruct data/c0/rows.jsonl --server http://127.0.0.1:8000 --out data/evolved`
    """
    from guardrail.data.generate.evol_instruct import evol_instruct
    from guardrail.data.prompt_templates import Prompts

    given, templates = stage.rows(rows), Prompts(prompts)
    with progress_bar("rounds", rounds) as done:
        asked, judging = asking.endpoints(stage, judge)
        made = evol_instruct(
            asked,
            judging,
            templates,
            given,
            model=asked.model,
            rounds=rounds,
            seed=stage.seed,
            on_round=lambda number, count: done(number),
        )
    stage.finish(
        made,
        [asked.costs, judging.costs],
        method="evol-instruct",
        rounds=rounds,
        model=asked.model,
        judge=judging.model,
        **templates.record(),
    )


@app.command("step-back")
@grouped
def step_back_command(
    rows: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    documents: Annotated[
        list[Path] | None,
        typer.Option(help="Text or Markdown to retrieve facts from; may be repeated."),
    ] = None,
    judge: JudgeOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Answer from the principle behind a question, and compare with answering directly (arXiv 2310.06117).

    Example: `guardrail data generate step-back questions.jsonl --server http://127.0.0.1:8000 --out data/step-back`
    """
    from guardrail.data.generate.step_back import step_back
    from guardrail.data.prompt_templates import Prompts

    given, templates = stage.rows(rows, answered=False), Prompts(prompts)
    passages = stage.passages(documents) if documents else None
    with progress_bar("replies", 5 * len(given)) as done:
        asked, judging = asking.endpoints(stage, judge, done)
        made = step_back(
            asked, judging, templates, given, model=asked.model, passages=passages, seed=stage.seed
        )
    stage.finish(
        made,
        [asked.costs, judging.costs],
        method="step-back",
        model=asked.model,
        judge=judging.model,
        **templates.record(),
    )


@app.command("grounded")
@grouped
def grounded_command(
    documents: Annotated[
        list[Path], typer.Argument(metavar="DOCUMENTS...", help="Text or Markdown, UTF-8.")
    ],
    stage: StageOptions,
    asking: AskedOptions,
    licence: Annotated[str, typer.Option(help="Licence of what is made.")] = "LicenseRef-own",
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Retrieve knowledge for this; may be repeated. None takes every passage."
        ),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions a passage.")] = 3,
    prompts: PromptsOption = None,
) -> None:
    """Ask and answer from documents; every answer's span must stand in them word for word.

    Example: `guardrail data generate grounded rules/*.md --server http://127.0.0.1:8000 --out data/grounded`
    """
    from guardrail.data.generate.grounded import grounded
    from guardrail.data.prompt_templates import Prompts

    passages, templates = stage.passages(documents), Prompts(prompts)
    with progress_bar("replies", None) as done:
        asked = asking.endpoint(stage, done)
        made = grounded(
            asked,
            templates,
            passages,
            model=asked.model,
            licence=licence,
            topics=topic or (),
            questions_each=questions,
            seed=stage.seed,
        )
    stage.finish(
        made,
        [asked.costs],
        method="grounded",
        model=asked.model,
        documents=[str(d) for d in documents],
        **templates.record(),
    )


@app.command("answers")
@grouped
def answers_command(
    rows: RowsArgument,
    stage: StageOptions,
    asking: AskedOptions,
    how: Annotated[
        Literal["plain", "reasoning", "teachers"],
        typer.Option(help="Plain, with reasoning, or the best of several."),
    ] = "plain",
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="A further model there, for `--how teachers`; may be repeated."),
    ] = None,
    judge: JudgeOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Have prompts answered: plainly, with the teacher's reasoning, or by several teachers of whom a judge takes the best.

    Example: `guardrail data generate answers prompts.jsonl --how reasoning --server http://127.0.0.1:8000 --out data/answered`
    """
    from guardrail.data.generate.answers import Teacher, answers
    from guardrail.data.prompt_templates import Prompts
    from guardrail.errors import InputError

    if (how == "teachers") != bool(teacher):
        raise InputError(
            "`--how teachers` and at least one `--teacher NAME` beside `--served-as` go together"
        )
    given, templates = stage.rows(rows, answered=False), Prompts(prompts)
    with progress_bar("replies", None) as done:
        asked, judging = asking.endpoints(stage, judge, done)
        others = [
            asking.endpoint(stage, done, journal=f"asked-{n}.jsonl", name=name)
            for n, name in enumerate(teacher or (), 2)
        ]
        teachers = [Teacher(one.model, one) for one in (asked, *others)]
        made = answers(teachers, judging, templates, given, how=how, seed=stage.seed)
    stage.finish(
        made,
        [one.costs for one in (asked, judging, *others)],
        method=f"answers-{how}",
        teachers=[t.name for t in teachers],
        judge=judging.model,
        **templates.record(),
    )


@app.command("people-and-model")
@grouped
def people_and_model_command(
    tasks: RowsArgument, stage: StageOptions, asking: AskedOptions
) -> None:
    """Write three answers to each task on a sheet for people; run again when it is filled in, and it is read back.

    The sheet is sheet.xlsx in the folder; rows.jsonl and preferences.jsonl come of it.

    Example: `guardrail data generate people-and-model tasks.jsonl --server http://127.0.0.1:8000 --out data/people`
    """
    from guardrail.data.generate.people_and_model import read_sheet, three_answers, write_sheet

    given, sheet = stage.rows(tasks, answered=False), stage.out / "sheet.xlsx"
    with progress_bar("answers", 3 * len(given)) as done:
        asked = asking.endpoint(stage, done)
        three = three_answers(asked, given, seed=stage.seed)
    if not sheet.exists():
        write_sheet(sheet, given, three)
        console.print(f"sheet: {sheet}; fill it in, and run the command again", soft_wrap=True)
        return
    made = read_sheet(sheet, given, three, model=asked.model)
    stage.finish(made, [asked.costs], method="people-and-model", model=asked.model)


@app.command("magpie")
@grouped
def magpie_command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of the served model, for its chat template."),
    ],
    stage: StageOptions,
    asking: AskedOptions,
    rows: Annotated[int, typer.Option(help="Chats that are begun.")] = 1000,
    turns: Annotated[
        str, typer.Option(help="Shares of chats with one exchange, two, …")
    ] = "0.7,0.2,0.1",
    system: Annotated[
        list[str] | None,
        typer.Option(help="A system turn that steers what is asked; may be repeated."),
    ] = None,
) -> None:
    """Let the model write the user's turns itself (Magpie, arXiv 2406.08464); needs vLLM's raw completions.

    Example: `guardrail data generate magpie models/Qwen3-8B --server http://127.0.0.1:8000 --rows 2000 --out data/magpie`
    """
    from guardrail.data.generate.magpie import magpie, user_opening
    from guardrail.models.end_of_turn import resolve_profile
    from guardrail.models.load import load_tokenizer

    shares = numbers("--turns", turns, float, "0.7,0.2,0.1")
    tokenizer, thinking = load_tokenizer(model), bool(asking.thinking)
    stop = tokenizer.convert_ids_to_tokens(
        list(resolve_profile(model, tokenizer, thinking=thinking).stop)
    )
    with progress_bar("replies", None) as done:
        asked = asking.endpoint(stage, done)
        made = magpie(
            asked,
            lambda chat: user_opening(tokenizer, chat, thinking=thinking),
            stop=stop,
            rows=rows,
            turns=shares,
            systems=system or ("",),
            seed=stage.seed,
        )
    stage.finish(made, [asked.costs], method="magpie", rows=rows, turns=shares, model=asked.model)


@app.command("dialogues")
@grouped
def dialogues_command(
    stage: StageOptions,
    asking: AskedOptions,
    rows: Annotated[int, typer.Option(help="Dialogues asked for.")] = 200,
    scenes: Annotated[
        Path | None,
        typer.Option(help="YAML of acts, roles, causes, noise; by default the collection agent's."),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(help="The business's probes; by default the collection agent's."),
    ] = None,
    prompts: PromptsOption = None,
) -> None:
    """Write a business's dialogues in scenes: the agent's act, who is called, the root of it, noise (arXiv 2502.18228).

    Example: `guardrail data generate dialogues --server http://127.0.0.1:8000 --rows 500 --out data/dialogues`
    """
    from guardrail.data import business
    from guardrail.data.diversity import read_quotas
    from guardrail.data.generate.dialogues import dialogues
    from guardrail.data.prompt_templates import Prompts
    from guardrail.probes.business_probes import read_probes

    shipped, templates = Path(business.__file__).parent, Prompts(prompts)
    with progress_bar("dialogues", rows) as done:
        asked = asking.endpoint(stage, done)
        made = dialogues(
            asked,
            templates,
            read_quotas(scenes or shipped / "collection_scenes.yaml"),
            read_probes(probes or shipped / "collection_agent.py"),
            model=asked.model,
            rows=rows,
            seed=stage.seed,
        )
    stage.finish(
        made,
        [asked.costs],
        method="dialogues",
        rows=rows,
        model=asked.model,
        **templates.record(),
    )


app.command("back-translation")(back_translation_command)
app.command("data-distillation")(data_distillation_command)

"""`guardrail data repair`: after a run, rehearsal items for what drifted, and the recipe of the next run."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from guardrail.cli.common import ProbesOption, console
from guardrail.cli.data_options import (
    AskedOptions,
    PromptsOption,
    StageOptions,
    grouped,
    judged_prompts,
    progress_bar,
)

if TYPE_CHECKING:
    from guardrail.data.chat_endpoint import ChatEndpoint
    from guardrail.data.repair.drifted_abilities import Drifted
    from guardrail.live.terminal_words import TerminalWords

__all__ = ["repair_command"]

NOTHING_KEPT = 1
"""Exit code where an ability drifted and no row was kept for it."""


@grouped
def repair_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a guarded run.")],
    stage: StageOptions,
    asking: AskedOptions,
    rows: Annotated[
        int, typer.Option(min=1, help="Rehearsal items wanted for each ability that drifted.")
    ] = 40,
    rounds: Annotated[int, typer.Option(min=0, help="Of Evol-Instruct; 0 for none.")] = 1,
    probes: ProbesOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Make rehearsal items for the abilities that a run lost, and the recipe of the next run with them.

    The abilities are chosen by the drift rule over the newest look without the reserved slice, a fifth of the red line that
    never chooses. The run's own rehearsal items of these abilities are the seeds; the endpoint serves the gold base, or, where
    that is too small to write tasks, a larger model: golds are the gold base's in any case, made with the next run's anchors.
    Nothing near a judged item is kept. The next run's report tells before and after on the reserved slice. Exit code 1 where
    something drifted and no row was kept.

    Example: `guardrail data repair runs/collection --server http://127.0.0.1:8000 --out data/repair`

    Then: `guardrail run data/repair/recipe.yaml`
    """
    from guardrail.data.prompt_templates import Prompts
    from guardrail.data.repair.drifted_abilities import (
        drifted_abilities,
        read_drifted_run,
        run_items,
    )
    from guardrail.data.repair.rehearsal_candidates import rehearsal_candidates
    from guardrail.data.repair.repaired_recipe import RECIPE, REHEARSAL, write_next_run
    from guardrail.data.select.row_faults import drop_judged
    from guardrail.data.stage_folder import Made, take_away_earlier
    from guardrail.live.terminal_words import terminal_words
    from guardrail.report.page.phrases import Phrases
    from guardrail.report.page.texts import language_of

    data = read_drifted_run(run)
    red_line, rehearsal = run_items(data, "red_line"), run_items(data, "rehearsal")
    drifted = drifted_abilities(data, red_line, probes or ())
    sets = data.recipe_section("sets")
    benchmarks = [Path(one) for one in sets.get("benchmarks") or ()]
    # What must not get in: the run's own red line, reserved slice included, and what the user names beside it.
    stage = replace(
        stage,
        judged=[str(sets["red_line"]), *(stage.judged or ())],
        benchmark=[*benchmarks, *(stage.benchmark or ())],
    )
    told = {
        "run": str(data.run.resolve()),
        "name": data.name,
        "look": drifted.look.number,
        "step": drifted.look.step,
    }
    made, templates = Made(), Prompts(prompts)
    asked: list[ChatEndpoint] = []
    if drifted.abilities:
        known = judged_prompts(stage.judged, stage.benchmark)
        with progress_bar("replies", None) as done:
            asked = [asking.endpoint(stage, done)]
            made = rehearsal_candidates(
                asked[0],
                templates,
                rehearsal,
                stage.judged_text,
                list(known.values()),
                drifted.abilities,
                model=asked[0].model,
                rows=rows,
                rounds=rounds,
                run=told,
                seed=stage.seed,
            )
    sound = drop_judged(Made(made.rows), stage.judged_text)
    made.rows, made.dropped = sound.rows, [*made.dropped, *sound.dropped]
    recipe = None
    if made.rows:
        recipe = write_next_run(stage.out, data, drifted, red_line, rehearsal, made.rows)
    elif Path(str(sets["rehearsal"])).resolve() != (stage.out / REHEARSAL).resolve():
        # Where they are the same, recipe and set are what this very run was made with.
        take_away_earlier(stage.out, RECIPE, REHEARSAL)
    made.facts |= {
        "run": told,
        "drifted": drifted.as_dict(),
        "recipe": None if recipe is None else str(recipe),
    }
    language = language_of(data.recipe.get("language"))
    words = terminal_words(language)
    if not stage.as_json:
        console.print(_in_words(drifted, words), markup=False, highlight=False, soft_wrap=True)
        phrases = Phrases(language)
        for one in drifted.slice_sizes:
            if one.shows is not None:
                shows = phrases.slice_shows(one.group, one.n, one.shows)
                console.print(escape(str(shows)), highlight=False, soft_wrap=True)
    stage.finish(
        made,
        [one.costs for one in asked],
        method="repair",
        rows=rows,
        rounds=rounds,
        models=[one.model for one in asked],
        **templates.record(),
    )
    if recipe is None and drifted.abilities:
        if not stage.as_json:
            console.print(
                words(
                    "nothing was kept, so there is no next recipe; dropped.jsonl has every row with its reason. Where the gold base is "
                    "too small to write tasks, let a larger model write them (--server): golds are the gold base's in any case"
                ),
                markup=False,
                soft_wrap=True,
            )
        raise typer.Exit(NOTHING_KEPT)
    if recipe is not None and not stage.as_json:
        said = words("next run: {command}", command=f"guardrail run {shlex.quote(str(recipe))}")
        console.print(said, markup=False, soft_wrap=True)


def _in_words(drifted: "Drifted", words: "TerminalWords") -> str:
    """Return what drifted, in a sentence."""
    from guardrail.judge.verdict import UNTESTED

    asked = words(
        "look {look}, step {step}, {items} items ({reserved} more are reserved): ",
        look=drifted.look.number,
        step=drifted.look.step,
        items=drifted.items,
        reserved=drifted.reserved,
    )
    if not drifted.abilities:
        if drifted.level == UNTESTED:
            return asked + words("nothing could be tested to have drifted, nothing to repair")
        return asked + words("nothing is shown to have drifted, nothing to repair")
    names = words.joined([words.name("ability", one) for one in drifted.abilities], "comma")
    streams = words.joined([words.stream(one) for one in drifted.streams], "comma")
    if drifted.shown:
        return asked + words("{names} drifted; {streams} above ok", names=names, streams=streams)
    return asked + words(
        "{names} likely drifted (all items together did, no ability alone); {streams} above ok",
        names=names,
        streams=streams,
    )

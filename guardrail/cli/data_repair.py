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

__all__ = ["repair_command"]


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
    never chooses. The run's own rehearsal items of these abilities are the seeds; the endpoint must serve the gold base, which
    makes and answers. Nothing near a judged item is kept. The next run's report tells before and after on the reserved slice.

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
    if not stage.as_json:
        console.print(escape(drifted.in_words()), highlight=False, soft_wrap=True)
        phrases = Phrases(language_of(data.recipe.get("language")))
        for one in drifted.slice_sizes:
            if one.shows is not None:
                said = phrases.slice_shows(one.group, one.n, one.shows)
                console.print(escape(str(said)), highlight=False, soft_wrap=True)
    stage.finish(
        made,
        [one.costs for one in asked],
        method="repair",
        rows=rows,
        rounds=rounds,
        models=[one.model for one in asked],
        **templates.record(),
    )
    if recipe is not None and not stage.as_json:
        console.print(f"next run: guardrail run {shlex.quote(str(recipe))}", soft_wrap=True)

"""`guardrail data logs`: online interactions → rows of the next recipe."""

from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import console
from guardrail.cli.data_options import StageOptions, grouped

__all__ = ["logs_command"]


@grouped
def logs_command(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOG...", help="JSONL, CSV or whatever else `sets import` reads."),
    ],
    stage: StageOptions,
) -> None:
    """Turn online logs into training rows: scrubbed, filtered by feedback and fault, without duplicates and judged items.

    A row has `query`, `answer`, `thumbs` (up, down or empty; or `rating` 1 to 5), `correction`; `messages` for several turns; `arm`, `names`
    where known. A correction takes the answer's place, and makes a preference pair of the two. Read the rows before you train: names and
    addresses that nothing marks are not seen.

    Example: `guardrail data logs june.jsonl --out data/june`

    In the next recipe: `guardrail run RECIPE --set train.data=data/june/rows.jsonl`
    """
    from guardrail.data.online_logs import keep_good, read_logs

    read = stage.judged_text.without_judged_rows(read_logs(logs))
    made = keep_good(read)
    stage.finish(made, method="online-log", files=[str(path) for path in logs])
    if not stage.as_json:
        said = ", ".join(f"{count:,} {kind}" for kind, count in made.facts["scrubbed"].items())
        console.print(f"scrubbed: {said or 'nothing'}", highlight=False)

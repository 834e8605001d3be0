"""`guardrail data curriculum`: training rows in the order general, long tail, safety."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from guardrail.cli.common import JsonFlag, clear_errors, console, print_json
from guardrail.cli.data_options import (
    BenchmarkOption,
    JudgedOption,
    RowsArgument,
    SeedOption,
    StageOptions,
)

__all__ = ["curriculum_command"]

_WORDS = {
    "zh": {
        "general": "通用",
        "long_tail": "长尾",
        "safety": "安全",
        "rows": "行",
        "told by": "依据",
        "withheld": "与评测题文字重合，没有写出",
    },
    "en": {
        "general": "general",
        "long_tail": "long tail",
        "safety": "safety",
        "rows": "rows",
        "told by": "told by",
        "withheld": "kept out, sharing text with a judged item",
    },
}


def curriculum_command(
    rows: RowsArgument,
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write.")],
    judged: JudgedOption = None,
    benchmark: BenchmarkOption = None,
    seed: SeedOption = 0,
    lang: Annotated[Literal["zh", "en"], typer.Option("--lang", help="Language.")] = "zh",
    as_json: JsonFlag = False,
) -> None:
    """Give each training row its stage and write the rows general first, then long tail, then safety.

    A column `stage` wins; else a row's behaviours and hard scores tell. The recipe's `train.order: curriculum` trains in that
    order, in every epoch. Rows that share text with a judged item are left out. Read some rows of each stage before you train.

    Example: `guardrail data curriculum train.jsonl --out train.staged.jsonl`
    """
    with clear_errors():
        from guardrail.data.plan.curriculum_stage import in_curriculum_order
        from guardrail.files import write_whole

        text = StageOptions(out, judged, benchmark).judged_text
        ordered, told = in_curriculum_order(rows, seed, text)
        withheld = text.counts["rows read"]
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))
        counts = {stage: sum(why.values()) for stage, why in told.items()}
        if as_json:
            facts = {"rows": len(ordered), "stages": counts, "told_by": told, "withheld": withheld}
            print_json({**facts, "out": str(out)})
            return
        words = _WORDS[lang]
        table = Table("", words["rows"], words["told by"], box=None)
        for stage, why in told.items():
            most = sorted(why.items(), key=lambda one: -one[1])[:4]
            said = ", ".join(f"{name} {count:,}" for name, count in most)
            table.add_row(words[stage], f"{counts[stage]:,}", said)
        console.print(table)
        if withheld:
            console.print(f"{words['withheld']}: {withheld:,}", highlight=False)
        console.print(str(out), soft_wrap=True)

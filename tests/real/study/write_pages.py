"""Write the study's tables into the pages that show them, from the cells in docs/real-study.jsonl; nobody types their figures.

A page marks a table by `<!-- study: NAME -->` before and `<!-- /study -->` after it; TABLES has the names. The sentences around
them are written by hand.
Run: python -m tests.real.study.write_pages [--study runs/study]
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import typer

from tests.real.study.arms import ARMS, SINGLE, WATCHED
from tests.real.study.guarding_table import cost_table, detection_table
from tests.real.study.plan import equal_rates, rows_of
from tests.real.study.table import frontier, passed_by_kind, passed_interval, spread

ROOT = Path(__file__).parents[3]
CELLS, PICTURE = ROOT / "docs/real-study.jsonl", ROOT / "docs/real-study.svg"
PAGES = tuple(
    ROOT / f"{name}{ending}.md" for name in ("docs/real-study", "README") for ending in ("", "_zh")
)
MAIN_ORDER = ("nothing", "kl3", "kl3-ladder", "task-kl", "ce-golds", "slow", "slow-kl3", "averaged")
SHORT_ORDER = ("nothing", "kl3", "kl3-ladder", "ce-golds", "slow", "slow-kl3", "averaged")
KEPT_MOST = ("slow-kl3", "averaged")
"""Printed in bold."""

Language = Literal["en", "zh"]
Row = dict[str, Any]

_HEADS: dict[str, dict[Language, str]] = {
    "arms": {
        "en": "| arm | rate ÷ 3e-5 | steps | seeds | domain loss | others' answers, change | passed of 140 | of these, refusals of harmful requests |",
        "zh": "| 组 | 学习率 ÷ 3e-5 | 步数 | 种子数 | 领域损失 | 他人的回答，变化 | 通过（140 题） | 其中：拒绝有害请求 |",
    },
    "grpo": {
        "en": "| arm | steps | reward at the end | others' answers, change | passed of 140 | of these, refusals of harmful requests |",
        "zh": "| 组 | 步数 | 最后的奖励 | 他人的回答，变化 | 通过（140 题） | 其中：拒绝有害请求 |",
    },
    "short": {
        "en": "| tuned to the same domain loss | others' answers: change of loss, nats a token | items passed | refusals of harmful requests | seeds |",
        "zh": "| 学得一样多时 | 他人的回答：损失的变化（奈特/词元） | 题目通过 | 拒绝有害请求 | 种子数 |",
    },
}
_BASE: dict[Language, str] = {"en": "base", "zh": "原始模型"}


class Cells:
    """The cells of the study by arm, main arms at their rate of equal domain loss, and the bases by domain."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        bases = {row["seed"]: row for row in rows if row["arm"] == "base"}
        self.bases = {"medical": bases[0], "own": bases[0], "finance": bases.get(1)}
        equal = equal_rates(rows, bases[0]["settings"]["rate"])
        self.by_arm = {
            name: [
                row
                for row in rows
                if row["arm"] == name
                and (name in WATCHED or "passed" in row)
                and row["rate"] == equal.get(name, row)["rate"]
            ]
            for name in ARMS
        }

    def named(self, arms: tuple[str, ...], language: Language) -> dict[str, list[Row]]:
        """Return the arms that have cells, by their names in a language."""
        return {named(arm, language): self.by_arm[arm] for arm in arms if self.by_arm[arm]}


def named(arm: str, language: Language) -> str:
    return ARMS[arm].about if language == "en" else ARMS[arm].about_zh


def _head(kind: str, language: Language) -> list[str]:
    head = _HEADS[kind][language]
    return [head, "|" + "---|" * (head.count("|") - 1)]


def _change(rows: list[Row], base: Row) -> str:
    text = spread([row["others"]["loss"] - base["others"]["loss"] for row in rows], 3)
    return text if text.startswith("-") else f"+{text}"


def _arms(cells: Cells, arms: tuple[str, ...], language: Language) -> str:
    lines, base = _head("arms", language), None
    for arm in arms:
        rows, of = cells.by_arm[arm], cells.bases[ARMS[arm].domain]
        if not rows or of is None:
            continue
        if of is not base:
            base, passed = of, of["passed"]
            lines.append(
                f"| {_BASE[language]} | | | | {base['domain']['loss']:.3f} | 0 | {passed['all']:.3f} | {passed['harmful']:.2f} |"
            )
        name = named(arm, language)
        values = (
            f"**{name}**" if arm in KEPT_MOST else name,
            f"{rows[0]['rate'] / rows[0]['settings']['rate']:.2f}",
            str(rows[0]["trained"]["steps"]),
            str(len(rows)),
            spread([row["domain"]["loss"] for row in rows], 3),
            _change(rows, base),
            spread([row["passed"]["all"] for row in rows], 3),
            f"{fmean(row['passed']['harmful'] for row in rows):.2f}",
        )
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def _short(cells: Cells, language: Language) -> str:
    lines, base = _head("short", language), cells.bases["medical"]
    assert base is not None
    passed = base["passed"]
    lines.append(f"| {_BASE[language]} | 0 | {passed['all']:.0%} | {passed['harmful']:.0%} | |")
    for arm in SHORT_ORDER:
        rows, name = cells.by_arm[arm], named(arm, language)
        shares = (fmean(row["passed"][key] for row in rows) for key in ("all", "harmful"))
        told = " | ".join(f"{share:.0%}" for share in shares)
        name = f"**{name}**" if arm in KEPT_MOST else name
        lines.append(f"| {name} | {_change(rows, base)} | {told} | {len(rows)} |")
    return "\n".join(lines)


def _singles(cells: Cells, language: Language, domain: str) -> str:
    wanted = (n for n, arm in SINGLE.items() if arm.domain == domain and not arm.grpo)
    return _arms(cells, tuple(wanted), language)


def _grpo(cells: Cells, language: Language) -> str:
    lines, base = _head("grpo", language), cells.bases["medical"]
    assert base is not None
    passed = base["passed"]
    lines.append(f"| {_BASE[language]} | | | 0 | {passed['all']:.3f} | {passed['harmful']:.2f} |")
    for arm in (name for name, arm in SINGLE.items() if arm.grpo):
        for row in cells.by_arm[arm]:
            values = (
                named(arm, language),
                str(row["trained"]["steps"]),
                f"{row['trained']['last_log']['reward']:.2f}",
                _change([row], base),
                f"{row['passed']['all']:.3f}",
                f"{row['passed']['harmful']:.2f}",
            )
            lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def _kinds(cells: Cells, language: Language) -> str:
    base = cells.bases["medical"]
    assert base is not None
    return passed_by_kind(cells.named(MAIN_ORDER, language), base)


def _pairs(cells: Cells, language: Language) -> str:
    """Items passed by each main arm, less those of SFT alone and of cross-entropy on golds."""
    lines = [f"| | {named('nothing', language)} | {named('ce-golds', language)} |", "|---|---|---|"]
    for arm in MAIN_ORDER:
        told = []
        for other in ("nothing", "ce-golds"):
            mean, low, high = passed_interval(cells.by_arm[arm], cells.by_arm[other])
            told.append("" if arm == other else f"{mean:+.3f} ({low:+.3f} … {high:+.3f})")
        lines.append(f"| {named(arm, language)} | {' | '.join(told)} |")
    return "\n".join(lines)


def _cost(cells: Cells, language: Language) -> str:
    arms = (*MAIN_ORDER, "watched", "soup-way", "pyrecall-way")
    return cost_table(cells.named(arms, language))


def _detection(cells: Cells, language: Language) -> str:
    base = cells.bases["medical"]
    assert base is not None
    return detection_table(cells.named(tuple(WATCHED), language), base)


TABLES: dict[str, Callable[[Cells, Language], str]] = {
    "main": lambda cells, language: _arms(cells, MAIN_ORDER, language),
    "short": _short,
    "singles": lambda cells, language: _singles(cells, language, "medical"),
    "finance": lambda cells, language: _singles(cells, language, "finance"),
    "grpo": _grpo,
    "kinds": _kinds,
    "pairs": _pairs,
    "cost": _cost,
    "detection": _detection,
}
_MARKED = re.compile(r"(<!-- study: (\w+) -->\n).*?(<!-- /study -->)", re.DOTALL)


def written_into(page: str, cells: Cells, language: Language) -> str:
    """Return a page with its marked tables made anew.

    Raises:
        KeyError: it marks a table that is none of TABLES.
    """
    return _MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]](cells, language)}\n{m[3]}", page)


def read_cells() -> list[Row]:
    return [json.loads(line) for line in CELLS.read_text("utf-8").splitlines()]


def main(
    study: Annotated[
        Path | None, typer.Option(help="folder whose cells replace docs/real-study.jsonl first")
    ] = None,
) -> None:
    """Write the cells, if a study is given, the picture, and every page that shows a table of them."""
    if study is not None:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows_of(study)]
        CELLS.write_text("\n".join(lines) + "\n", "utf-8")
    cells = Cells(read_cells())
    base = cells.bases["medical"]
    assert base is not None
    PICTURE.write_text(frontier(cells.rows, base), "utf-8")
    for page in PAGES:
        language: Language = "zh" if page.stem.endswith("_zh") else "en"
        page.write_text(written_into(page.read_text("utf-8"), cells, language), "utf-8")
    print(f"{len(cells.rows)} cells")


if __name__ == "__main__":
    typer.run(main)

"""People and model: people give the task, the model writes three answers, people pick one or rewrite it on a sheet.

The sheet is a workbook; what people wrote comes back as training rows and, where an answer was preferred to others, as
preference rows (prompt, chosen, rejected, annotation_metrics).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from openpyxl import Workbook
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from guardrail.data.chat_endpoint import Answerer, ChatRequest
from guardrail.data.preference_pairs import preference_pair
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.build.workbook import text_cell
from guardrail.sets.read.readers import read_rows

__all__ = ["ANSWERS", "read_sheet", "three_answers", "write_sheet"]

ANSWERS = 3

_METRICS = {"准确": "accuracy", "安全": "safety", "有用": "helpfulness"}
_COLUMNS = {
    "编号": 26,
    "题目": 50,
    **{f"答案{n}": 60 for n in range(1, ANSWERS + 1)},
    "选哪个": 10,
    "改写": 60,
    **dict.fromkeys(_METRICS, 8),
    "备注": 30,
}
_HELP = "填 1、2、3 选一个答案；都不行填 0；选了以后又动手改过，就把改好的全文写进“改写”。准确、安全、有用各打 1 到 5 分，给的是定稿的分。"


def three_answers(
    answerer: Answerer,
    rows: Sequence[DataRow],
    *,
    seed: int = 0,
    temperature: float = 0.9,
    max_tokens: int = 1024,
) -> list[list[str]]:
    """Return three answers to each task, sampled apart; one that was cut or is empty is an empty text."""
    requests = [
        ChatRequest(tuple(row.messages[:-1]), "three answers", seed + k, temperature, max_tokens)
        for row in rows
        for k in range(ANSWERS)
    ]
    texts = [reply.text if reply.whole else "" for reply in answerer(requests)]
    return [texts[n * ANSWERS : (n + 1) * ANSWERS] for n in range(len(rows))]


def write_sheet(path: Path, rows: Sequence[DataRow], answers: Sequence[Sequence[str]]) -> None:
    """Write the sheet people fill in; what stands in it is text and can never become a formula.

    Raises:
        InputError: the name does not end in .xlsx, or a sheet is there already, with people's work in it perhaps.
    """
    if path.suffix.lower() != ".xlsx":
        raise InputError(f"sheet `{path}` must end in .xlsx; rename it")
    if path.exists():
        raise InputError(
            f"sheet `{path}` is there already and may hold people's work; read it back, or move it away"
        )
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "挑选"
    sheet.append([text_cell(sheet, name, header=True) for name in _COLUMNS])
    for row, texts in zip(rows, answers, strict=True):
        cells = [row.id, _dialogue(row), *texts, "", "", *("" for _ in _METRICS), ""]
        sheet.append([text_cell(sheet, text) for text in cells])
    for column, width in enumerate(_COLUMNS.values(), start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.freeze_panes = "C2"
    last = len(rows) + 1
    names = list(_COLUMNS)
    for name, allowed in (("选哪个", "0,1,2,3"), *((metric, "1,2,3,4,5") for metric in _METRICS)):
        rule = DataValidation(
            type="list",
            formula1=f'"{allowed}"',
            allow_blank=True,
            prompt=_HELP,
            showInputMessage=True,
        )
        letter = get_column_letter(names.index(name) + 1)
        rule.add(f"{letter}2:{letter}{last}")
        sheet.add_data_validation(rule)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    book.save(partial)
    partial.replace(path)


def _dialogue(row: DataRow) -> str:
    names = {"system": "系统", "user": "用户", "assistant": "助手"}
    turns = row.messages[:-1]
    return (
        row.question
        if len(turns) == 1
        else "\n\n".join(f"【{names[m['role']]}】{m['content']}" for m in turns)
    )


def read_sheet(
    path: Path, rows: Sequence[DataRow], answers: Sequence[Sequence[str]], *, model: str
) -> Made:
    """Return what people picked or rewrote, and what they refused or left empty; preference rows with it.

    Answers are taken from the stage and not from the sheet, so that only picks and rewrites come back.

    Args:
        path: The filled sheet.
        rows: The tasks.
        answers: The three of each.
        model: Who wrote them.

    Raises:
        InputError: no such sheet or one that cannot be read, a row that is not of this stage, or a cell that holds
            something else than it may.
    """
    if not path.is_file():
        raise InputError(f"sheet `{path}` does not exist; write it first, and fill it in")
    known = {row.id: (row, texts) for row, texts in zip(rows, answers, strict=True)}
    made = Made()
    for where, cells in _lines(path):
        if cells["编号"] not in known:
            raise InputError(
                f"{where}: 编号 `{cells['编号']:.80}` is not a task of this stage; give the sheet that it wrote"
            )
        row, texts = known[cells["编号"]]
        pick = _number(cells, "选哪个", 0, ANSWERS, where)
        metrics = {
            english: value
            for chinese, english in _METRICS.items()
            if (value := _number(cells, chinese, 1, 5, where)) is not None
        }
        rewritten = cells.get("改写", "")
        answer = rewritten or (texts[pick - 1] if pick else "")
        new = made_row(
            row.question,
            answer,
            method="people-and-model",
            before=row.messages[:-2],
            source=row.provenance.get("source", "given"),
            licence=row.provenance.get("licence", "LicenseRef-own"),
            model=model,
            by="rewritten by people" if rewritten else "picked by people",
            annotation_metrics=metrics,
            parents=[row.id],
        )
        if answer:
            made.rows.append(new)
            made.preferences += [
                preference_pair(row.messages[:-1], answer, text, annotation_metrics=metrics)
                for text in dict.fromkeys(texts)
                if text and text != answer
            ]
        else:
            made.drop("no answer is good enough" if pick == 0 else "left empty", new)
    made.facts = {"preferences": len(made.preferences)}
    return made


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where it stands and cells by their column's head, of every line that has an id."""
    for row in read_rows(path):
        if row.problem or "编号" not in row.value:
            raise InputError(
                f"{row.where} {row.problem or 'has no column 编号'}; give the sheet that this stage wrote"
            )
        cells = {name: str(value).strip() for name, value in row.value.items()}
        if cells["编号"]:
            yield row.where, cells


def _number(cells: dict[str, str], name: str, low: int, high: int, where: str) -> int | None:
    text = cells.get(name, "").removesuffix(".0")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 3 or not low <= int(text) <= high:
        raise InputError(
            f"{where}: {name} must be {low} to {high} or empty, got `{text:.80}`; mend the cell"
        )
    return int(text)

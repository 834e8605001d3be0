"""A set as a workbook for reviewers: one row an item, and an empty column for what they find.

Only for reading: what is written into the workbook does not come back into the set.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from guardrail.errors import InputError
from guardrail.files import whole_file
from guardrail.sets.items import Item
from guardrail.sets.wording import ABILITY_NAMES, describe_check

__all__ = ["describe_check", "export_xlsx", "text_cell"]

COLUMNS: tuple[tuple[str, int], ...] = (
    ("编号", 24),
    ("能力", 12),
    ("期望", 8),
    ("题目", 70),
    ("检查", 46),
    ("来源", 20),
    ("许可", 14),
    ("备注", 36),
)
"""Headers and widths, in characters of the workbook's font."""
LONGEST_CELL = 32_767
"""UTF-16 units a cell of the format can hold."""
CUT = "…〔此处截断，全文见 JSONL〕"

_ROLES = {"system": "系统", "user": "用户", "assistant": "助手"}
_EXPECTS = {"answer": "回答", "refuse": "拒答"}
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_xlsx(items: Iterable[Item], path: str | Path) -> Path:
    r"""Write items as a workbook, whole or not at all, and return its path.

    Every cell is text: nothing in an item can become a formula. Control characters the format does
    not know are shown as `\x07`, longer cells than it holds are cut with a mark.

    Raises:
        InputError: the name does not end in .xlsx, or its folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() != ".xlsx":
        raise InputError(f"workbook `{path}` must end in .xlsx, got `{path.suffix}`; rename it")
    if not path.parent.is_dir():
        raise InputError(
            f"folder `{path.parent}` of workbook `{path.name}` does not exist; make it"
        )
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "题目"
    sheet.append([text_cell(sheet, name, header=True) for name, _ in COLUMNS])
    for item in items:
        sheet.append([text_cell(sheet, text) for text in _row(item)])
    for column, (_, width) in enumerate(COLUMNS, start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = sheet.dimensions
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    sheet.print_title_rows = "1:1"
    with whole_file(path) as partial:
        workbook.save(partial)
    return path


def _row(item: Item) -> Sequence[str]:
    ability = ABILITY_NAMES.get(item.ability, item.ability)
    checks = "\n".join(f"· {describe_check(check)}" for check in item.checks)
    return (
        item.id,
        ability,
        _EXPECTS[item.expects],
        _dialogue(item),
        checks,
        item.source,
        item.licence,
        "",
    )


def _dialogue(item: Item) -> str:
    if len(item.messages) == 1:
        return item.question
    return "\n\n".join(f"【{_ROLES[m.role]}】{m.content}" for m in item.messages)


def _printable(text: str) -> str:
    """The text without characters the format refuses, no longer than a cell."""
    shown = _ILLEGAL.sub(lambda m: ascii(m[0])[1:-1], text)
    if len(shown.encode("utf-16-le")) <= 2 * LONGEST_CELL:
        return shown
    room = 2 * (LONGEST_CELL - len(CUT))
    return shown.encode("utf-16-le")[:room].decode("utf-16-le", errors="ignore") + CUT


def text_cell(sheet: Worksheet, text: str, *, header: bool = False) -> Cell:
    """Return a cell that shows a text and can never become a formula."""
    cell = WriteOnlyCell(sheet, _printable(text))
    cell.data_type = "s"  # a leading = would have made it a formula
    cell.number_format = "@"
    # The mark that a spreadsheet itself sets when a person types '=1: the text stays text when edited.
    cell.quotePrefix = text.startswith(_FORMULA)
    cell.alignment = Alignment(wrap_text=True, vertical="top")
    edge = Side(style="thin", color="D9DCD6")
    cell.border = Border(bottom=edge, right=edge)
    if header:
        cell.font = Font(bold=True, color="FFFFFF")
        cell.fill = PatternFill("solid", start_color="0B5CAD")
    return cell

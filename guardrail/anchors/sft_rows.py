"""Golds as ordinary SFT rows, for people who would rather mix them into their own data."""

import json
from collections.abc import Sequence
from pathlib import Path

from guardrail.anchors.store import Anchors
from guardrail.files import write_whole
from guardrail.sets.items import Item
from guardrail.text import parse_answer

__all__ = ["export_messages"]


def export_messages(rehearsal: Sequence[Item], anchors: Anchors, out: Path) -> tuple[int, int]:
    """Write one `{"messages": [...]}` row a rehearsal item, the gold as the answer; return (written, left out).

    The gold is raw, thinking block included. Golds that were cut or show nothing are left out, since a
    model would learn to stop early from them. Red-line items are never exported: they are judged.
    """
    rows, left_out = [], 0
    for item in rehearsal:
        gold = anchors.answers[item.id][0]
        if gold.finish_reason == "length" or not parse_answer(gold.text).text:
            left_out += 1
            continue
        rows.append({"messages": [*item.chat(), {"role": "assistant", "content": gold.text}]})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows), left_out

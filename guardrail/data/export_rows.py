"""Rows as other tools read them: Data-Juicer's query, response and history; distilabel's instruction and generation."""

from typing import Any

from guardrail.data.rows import DataRow

__all__ = ["EXPORTS", "data_juicer_row", "distilabel_row"]


def data_juicer_row(row: DataRow) -> dict[str, Any]:
    """Return a row in Data-Juicer's format for post-tuning, provenance and scores under `meta`.

    A turn that has no answer of its own, such as a tool's, is joined to the user's words after it.
    """
    history: list[list[str]] = []
    asked: list[str] = []
    for turn in (m for m in row.messages[:-1] if m["role"] != "system"):
        if turn["role"] == "assistant":
            history.append(["\n".join(asked), turn["content"]])
            asked = []
        else:
            asked.append(turn["content"])
    return {
        "system": _system(row),
        "instruction": "",
        "query": "\n".join(asked),
        "response": row.answer,
        "history": history,
        "meta": {"id": row.id, **row.provenance, "scores": dict(row.scores)},
    }


def distilabel_row(row: DataRow) -> dict[str, Any]:
    """Return a row as distilabel's text generation leaves it: `instruction`, or `messages` where there are several turns."""
    turns = [dict(m) for m in row.messages[:-1]]
    asked: dict[str, Any] = (
        {"instruction": row.question}
        if sum(turn["role"] != "system" for turn in turns) == 1
        else {"messages": turns}
    )
    system = {"system_prompt": _system(row)} if _system(row) else {}
    metadata = {"id": row.id, **row.provenance, "scores": dict(row.scores)}
    model = str(row.provenance.get("model") or "")
    return {
        **asked,
        **system,
        "generation": row.answer,
        "model_name": model,
        "distilabel_metadata": metadata,
    }


def _system(row: DataRow) -> str:
    return "\n".join(m["content"] for m in row.messages if m["role"] == "system")


EXPORTS = {"data-juicer": data_juicer_row, "distilabel": distilabel_row}

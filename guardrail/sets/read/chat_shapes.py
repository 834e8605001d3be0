"""Rows that hold a list of turns → their turns: messages, ShareGPT, pairs, transcripts, trees, parallel lists."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from guardrail.sets.read.conversation import (
    NO_INPUT,
    Turns,
    WrongRow,
    decoded,
    filled,
    first_filled,
    flat_text,
    shown,
    text,
    thought_before,
)
from guardrail.sets.read.transcripts import transcript, unmarked

__all__ = [
    "ANSWERS",
    "HISTORIES",
    "OTHER_NAMES",
    "QUESTIONS",
    "THINKING",
    "alternating",
    "chat",
    "history_of",
    "last_message",
    "moss_chat",
    "pair",
    "parallel",
    "rank_of",
    "thinking_of",
    "tree",
    "turns_of",
    "with_answer",
]

QUESTIONS = (
    "instruction", "query", "prompt", "question", "problem", "ask", "query_text", "input", "inputs", "instruct", "user", "human", "sql_prompt",
    "指令", "提问", "问题", "题目",
)  # fmt: skip
"""Fields that hold what is asked, the likeliest first."""
ANSWERS = (
    "output", "response", "solution", "answer", "answers", "target", "targets", "completion", "chosen", "response_chosen", "chatgpt_answers",
    "human_answers", "assistant", "bot", "reply", "sql", "content", "completions", "回答", "回复", "答复", "答案", "输出",
)  # fmt: skip
"""Fields that hold what is answered, the fullest first."""
THINKING = ("reasoning_content", "reasoning", "thinking", "think", "complex_cot", "思考过程")
HISTORIES = ("history", "chat_history")

_USER = {
    "user", "human", "usr", "questioner", "prompter", "customer", "client", "patient", "instruction", "question", "用户",
}  # fmt: skip
_ASSISTANT = {
    "assistant", "gpt", "bot", "model", "sys", "chatgpt", "bing", "bard", "claude", "ai", "agent", "moss", "doctor", "response", "answer", "助手",
}  # fmt: skip
OTHER_NAMES = (_USER | _ASSISTANT) - {"user", "assistant"}
"""Names of the two who speak that chat templates do not know."""
_SYSTEM = {"system", "developer", "系统"}
_TOOL = {
    "function", "function_call", "function_response", "function_result", "observation", "observations", "tool", "tool_call", "tool_calls",
    "tool_response", "tool_result", "tools", "ipython",
}  # fmt: skip
_ROLE = ("role", "from", "speaker", "sender")
_CONTENT = ("content", "value", "message", "text", "utterance")
_MOST_REPLIES = 1000
"""Turns down a tree."""


def pair(question: str, answer: str) -> Turns:
    """Return a question and its answer as turns, the question alone where there is no answer."""
    turns = (("user", question), ("assistant", answer.lstrip("\n")))
    return turns if turns[1][1] else turns[:1]


def thinking_of(row: Mapping[str, Any]) -> str:
    """Return the thinking that stands in a field of its own, empty if there is none."""
    found = next((row[name] for name in THINKING if isinstance(row.get(name), str)), "")
    return str(found)


def _role(turn: Mapping[str, Any], at: int, name: str) -> str:
    given = next((turn[key] for key in _ROLE if filled(turn.get(key))), None)
    if given is None:
        return ("user", "assistant")[at % 2]
    role = str(given).strip().lower()
    for known, names in (
        ("user", _USER),
        ("assistant", _ASSISTANT),
        ("system", _SYSTEM),
        ("tool", _TOOL),
    ):
        if role in names:
            return known
    raise WrongRow(f"field `{name}`: unknown role `{role:.40}`")


def _content(turn: Mapping[str, Any]) -> str:
    for name in _CONTENT:
        if name in turn:
            value = turn[name]
            if isinstance(value, list):  # parts; OpenAI says `text`, LLaMA-Factory `value`
                return "".join(
                    p if isinstance(p, str) else str(p.get("text") or p.get("value") or "")
                    for p in value
                )
            return text(turn, name)
    raise WrongRow(f"a turn has none of `content`, `value`, `message`: {shown(dict(turn))}")


def _turn(turn: Mapping[str, Any], at: int, name: str) -> Turns:
    """The turn, or the two of a question beside its answer (Firefly's `human` and `assistant`)."""
    if not any(key in turn for key in (*_ROLE, *_CONTENT)):
        asked = next((key for key in QUESTIONS if key in turn), None)
        said = first_filled(turn, ANSWERS)
        if asked is not None:
            return pair(text(turn, asked), text(turn, said) if said else "")
    role = _role(turn, at, name)
    call = turn.get("tool_calls") or turn.get("function_call")
    if call or role == "tool":
        return (("tool", flat_text([turn.get(key) for key in _CONTENT] + [call])),)
    return ((role, thought_before(thinking_of(turn), _content(turn))),)


def turns_of(value: Any, name: str) -> Turns:
    """Return the turns of a list in any of its forms, encoded as text or not.

    Objects with role and content, objects with question and answer, [question, answer] pairs, or texts that
    take turns.

    Args:
        value: Of the field.
        name: Of the field, for errors.

    Raises:
        WrongRow: it is something else, or empty.
    """
    value = decoded(value)
    if isinstance(value, list) and value:
        if all(isinstance(turn, dict) for turn in value):
            return tuple(turn for at, one in enumerate(value) for turn in _turn(one, at, name))
        if all(isinstance(turn, str) for turn in value):
            return alternating(value)
        if all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in value):
            return tuple(turn for q, a in value for turn in pair(str(q), str(a or "")))
    if isinstance(value, str) and (said := transcript(value)):
        return said
    raise WrongRow(
        f"field `{name}` must be a list of turns, or of [question, answer] pairs, got {shown(value)}"
    )


def history_of(row: Mapping[str, Any]) -> Turns:
    """Return the turns before a row's own, none where it has none.

    Raises:
        WrongRow: a history of no known form: what is asked depends on it.
    """
    for name in HISTORIES:
        value = row.get(name)
        if filled(value) and not (isinstance(value, str) and NO_INPUT.fullmatch(value.strip())):
            return turns_of(value, name) if filled(decoded(value)) else ()
    return ()


def chat(row: Mapping[str, Any], name: str) -> Turns:
    """Return the turns of a chat, with the answer where a preference row has it beside."""
    turns = turns_of(row[name], name)
    answer = first_filled(row, ("chosen", "response_chosen"))
    if turns[-1][0] == "user" and answer is not None:
        return with_answer(turns, row, answer)
    return turns


def with_answer(turns: Turns, row: Mapping[str, Any], name: str) -> Turns:
    """Return turns with the answer that a field of the row holds, in any of its forms."""
    value = decoded(row[name])
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        said = text(row, name)
    else:
        said = _content(last_message(value, name))
    return (*turns, ("assistant", thought_before(thinking_of(row), said)))


def last_message(value: Any, name: str) -> Mapping[str, Any]:
    """Return the last message of a list of them, or the one message.

    Raises:
        WrongRow: it is neither.
    """
    last = value[-1] if isinstance(value, list) and value else value
    if not isinstance(last, dict):
        raise WrongRow(f"field `{name}` must be text or a message, got {shown(value)}")
    return last


def alternating(texts: list[Any]) -> Turns:
    """Return texts as turns of user and assistant (UltraChat's `data`)."""
    return tuple((("user", "assistant")[at % 2], str(said)) for at, said in enumerate(texts))


def parallel(row: Mapping[str, Any]) -> Turns:
    """Return the turns of Chinese-Vicuna's chat rows: `input` holds the user's, `output` the answers.

    Raises:
        WrongRow: the lists do not fit each other.
    """
    asked, said = row["input"], row.get("output")
    if not isinstance(said, list) or not 0 <= len(asked) - len(said) <= 1:
        raise WrongRow(f"fields `input` and `output` must be equally long lists, got {shown(said)}")
    pairs = zip_longest(asked, said, fillvalue="")
    return tuple(turn for q, a in pairs for turn in pair(str(q), str(a)))


def moss_chat(row: Mapping[str, Any]) -> Turns:
    """Return the turns of MOSS's `chat`: an object of `turn_1`, `turn_2` …, each with `Human` and `MOSS`.

    Raises:
        WrongRow: a turn is no object.
    """
    turns: list[tuple[str, str]] = []
    rounds = decoded(row["chat"])
    for name in sorted(rounds, key=lambda name: (len(name), name)):
        said = rounds[name]
        if not isinstance(said, dict):
            raise WrongRow(f"field `chat`: `{name:.40}` must be an object, got {shown(said)}")
        # What a plugin did stands between; `None` in angle brackets where it did nothing.
        if any(_acted(said.get(part)) for part in ("Commands", "Tool Responses")):
            turns.append(("tool", ""))
        turns += pair(unmarked(text(said, "Human")), unmarked(text(said, "MOSS")))
    return tuple(turns)


def _acted(value: Any) -> bool:
    said = unmarked(value) if isinstance(value, str) else ""
    return said.strip().lower() not in ("", "none")


def tree(row: Mapping[str, Any]) -> Turns:
    """Return the best path down a tree of OpenAssistant's: at each message the reply ranked first.

    Raises:
        WrongRow: its `prompt` is no message.
    """
    message: Any = row["prompt"]
    turns: list[tuple[str, str]] = []
    while isinstance(message, dict) and len(turns) < _MOST_REPLIES:
        turns.append((_role(message, len(turns), "prompt"), _content(message)))
        replies = [r for r in message.get("replies") or [] if isinstance(r, dict)]
        replies = [r for r in replies if not r.get("deleted")]
        message = min(replies, key=rank_of, default=None)
    if turns and turns[-1][0] == "user" and len(turns) > 1:
        turns.pop()  # a question that nobody answered
    return tuple(turns)


def rank_of(reply: Mapping[str, Any]) -> float:
    """Return the rank of an answer among several, the first best; infinite where it has none."""
    rank = reply.get("rank")
    return rank if isinstance(rank, int | float) and not isinstance(rank, bool) else float("inf")

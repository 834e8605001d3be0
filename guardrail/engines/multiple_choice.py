"""Multiple-choice benchmarks as a reference line: CMMLU or C-Eval questions of the user's, never judged.

Scored by the next token: the right letter must be the likeliest of A, B, C and D after the question.
That says whether knowledge is still there, not whether the model still answers well, and published
scores, with five examples in the prompt, are not comparable with it.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardrail.engines.in_process import InProcessEngine, encode_prompts
from guardrail.errors import InputError
from guardrail.sets.read.formats import read_conversation, single_rows
from guardrail.sets.read.readers import read_rows

__all__ = ["Choice", "draw_choices", "right_choices"]

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class Choice:
    """One question with its four options, and the letter of the right one."""

    prompt: str
    right: str


def draw_choices(paths: Iterable[Path], count: int, *, seed: int) -> list[Choice]:
    """Return up to `count` multiple-choice questions with a known answer, drawn over all files.

    Rows of other forms, broken ones, and those whose answer is hidden are passed over.

    Raises:
        InputError: a file cannot be read, or a row fits no known format.
    """
    known = []
    for path in paths:
        for row in read_rows(path):
            if row.problem:
                continue
            for conversation in map(read_conversation, single_rows(row.value)):
                if conversation.choice in LETTERS:
                    known.append(Choice(conversation.first_question, conversation.choice))
    return random.Random(seed).sample(known, min(count, len(known)))


def right_choices(engine: InProcessEngine, choices: Sequence[Choice]) -> list[bool]:
    """Return of each question whether the model gets it right; its training state is kept.

    Raises:
        InputError: the tokenizer does not begin the four letters with four tokens.
    """
    starts = [engine.tokenizer.encode(letter, add_special_tokens=False)[:1] for letter in LETTERS]
    letters = [start[0] for start in starts if start]
    if len(set(letters)) < len(LETTERS):
        raise InputError(
            f"the tokenizer begins A, B, C and D with the tokens {starts}; multiple-choice questions "
            "cannot be told apart. Set `looks.benchmark_questions: 0`"
        )
    chats = [[{"role": "user", "content": choice.prompt}] for choice in choices]
    prompts = encode_prompts(engine.tokenizer, chats, thinking=engine.profile.thinking)
    best = engine.likeliest_first_token(prompts, letters)
    return [LETTERS[k] == choice.right for k, choice in zip(best, choices, strict=True)]

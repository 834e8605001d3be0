"""Looks that another process answers: what the training asks in its ledger, what comes back as a file.

The ledger is the queue: an `asked` record without a look or an error of its number is open. The answer of an ask
lies under its nonce, whole or not there, so that an answer of a branch that a resume has left is never taken for one.
It is sealed (read_back.py).
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.judge.look_values import Measured
from guardrail.ledger.file import Record, live_records
from guardrail.ledger.records import Benchmark, ProofFacts
from guardrail.read_back import NotAsWritten, read_json, sealed, unsealed

__all__ = [
    "FOLDER",
    "Asked",
    "Measurement",
    "answer_file",
    "open_asks",
    "read_answer",
    "write_answer",
    "write_failure",
]

FOLDER = "sidecar"
"""Below the run folder: answers, the lock, the sign of life."""
_LARGEST_ANSWER = 256 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One look that was asked of the sidecar."""

    nonce: str
    """Of this ask alone; its answer repeats it."""
    step: int
    """Whose weights are judged."""
    look: int
    """Its number, which seeds its answers."""
    trigger: str
    checkpoint: str
    """The folder of those weights, below the run folder if it lies there."""
    samples: int
    """Answers an item."""

    def __post_init__(self) -> None:
        """Refuse what no training asks: a ledger may be a stranger's, and the nonce becomes the name of a file."""
        whole = all(type(n) is int and 0 <= n < 2**53 for n in (self.step, self.look, self.samples))
        texts = (self.nonce, self.trigger, self.checkpoint)
        if not whole or not all(isinstance(text, str) for text in texts):
            raise ValueError("an ask has a step, a number, answers an item, and texts")
        if not re.fullmatch(r"[\w-]{1,64}", self.nonce, re.ASCII):
            raise ValueError(f"the nonce of an ask is letters and digits, got {self.nonce!r:.80}")
        if ".." in Path(self.checkpoint).parts or "\0" in self.checkpoint:
            raise ValueError(f"the checkpoint of an ask leads upwards: {self.checkpoint!r:.80}")

    @property
    def order(self) -> tuple[int, bool]:
        """Asks are answered and judged by step, a repeat before anything later."""
        return self.step, self.trigger == "repeat"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a look measured, of the items that are judged."""

    values: Measured
    answers: str
    """File in the run folder."""
    seconds: float
    benchmark: Benchmark | None = None
    benchmark_seconds: float = 0.0
    noise: tuple[Measured, Measured] | None = None
    """Of look 0: greedy answers against those under one rounding more."""
    served: dict[str, Any] | None = None
    """Where a server answered a sidecar: what it serves, and how its weights were proven."""
    proof: ProofFacts | None = None
    """Of the weights, where the trainer's own vLLM answered; no sidecar has one."""
    shown: dict[str, float] | None = None
    """Shares of answers that are shown and not judged."""
    answers_sha256: str | None = None
    """Of the file of answers as it was written, for whoever reads it later."""

    @property
    def samples(self) -> int:
        """Answers an item."""
        return int(next(iter(self.values.values())).shape[1])


def open_asks(records: Iterable[Record]) -> list[Asked]:
    """Return the asks of the live branch that neither a look nor an error has closed, in their order.

    Raises:
        InputError: a record is no ask.
    """
    live = live_records(records)
    looks = (r.get("look") for r in live if r["kind"] in ("look", "error"))
    closed = {look for look in looks if isinstance(look, int)}
    found = [_asked(r) for r in live if r["kind"] == "asked"]
    return sorted((a for a in found if a.look not in closed), key=lambda ask: ask.order)


def _asked(record: Record) -> Asked:
    try:
        return Asked(**{name: record[name] for name in Asked.__slots__})
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the ledger's record {record.get('seq')!r:.20} asks for no look ({error!s:.200}); it is not of a guarded run"
        ) from error


def answer_file(run: Path, ask: Asked) -> Path:
    """Return where the answer of an ask lies once it is whole."""
    return run / FOLDER / f"step-{ask.step}-{ask.nonce}.json"


def write_answer(run: Path, ask: Asked, measured: Measurement) -> None:
    """Write what a look measured."""
    noise = measured.noise
    content = {
        "values": _as_json(measured.values),
        "answers": measured.answers,
        "seconds": measured.seconds,
        "benchmark": measured.benchmark and measured.benchmark.model_dump(),
        "benchmark_seconds": measured.benchmark_seconds,
        "noise": None if noise is None else [_as_json(noise[0]), _as_json(noise[1])],
        "served": measured.served,
        "shown": measured.shown,
        "answers_sha256": measured.answers_sha256,
    }
    _write(run, ask, {"measured": content})


def write_failure(run: Path, ask: Asked, error: str) -> None:
    """Write why a look could not be measured."""
    _write(run, ask, {"error": error})


def _write(run: Path, ask: Asked, content: dict[str, Any]) -> None:
    path = answer_file(run, ask)
    path.parent.mkdir(exist_ok=True)
    whole = sealed({"asked": asdict(ask), **content})
    write_whole(path, json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n")


def read_answer(run: Path, ask: Asked) -> Measurement | str:
    """Return what an ask's look measured, or why it could not be.

    Raises:
        InputError: the file is not the answer to this ask, or not as the sidecar wrote it.
    """
    path = answer_file(run, ask)
    try:
        content = unsealed(read_json(path, _LARGEST_ANSWER))
        if content["asked"] != asdict(ask):
            raise InputError(
                f"`{path}` answers another question ({content['asked']!s:.300}) than the run has asked ({asdict(ask)}); "
                "it is not applied. Take the file away and start `guardrail serve` again"
            )
        if (error := content.get("error")) is not None:
            return str(error)
        found = content["measured"]
        benchmark, noise = found["benchmark"], found["noise"]
        return Measurement(
            values=_from_json(found["values"]),
            answers=str(found["answers"]),
            seconds=float(found["seconds"]),
            benchmark=None if benchmark is None else Benchmark.model_validate(benchmark),
            benchmark_seconds=float(found["benchmark_seconds"]),
            noise=None if noise is None else (_from_json(noise[0]), _from_json(noise[1])),
            served=found["served"],
            shown=found.get("shown"),
            answers_sha256=found.get("answers_sha256"),
        )
    except OSError as error:
        raise InputError(
            f"`{path}` cannot be read ({error.strerror}); start `guardrail serve` again, which answers anew"
        ) from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        why = f"{error}" if isinstance(error, NotAsWritten) else f"{type(error).__name__}: {error}"
        why = " ".join(why.split())
        raise InputError(
            f"`{path}` is no answer of a sidecar as it was written ({why:.200}); take it away and start `guardrail "
            "serve` again, which answers anew"
        ) from error


def _as_json(values: Measured) -> dict[str, Any]:
    return {
        name: [[None if math.isnan(v) else v for v in row] for row in table.tolist()]
        for name, table in values.items()
    }


def _from_json(values: dict[str, Any]) -> Measured:
    return {
        name: np.array([[math.nan if v is None else v for v in row] for row in table])
        for name, table in values.items()
    }

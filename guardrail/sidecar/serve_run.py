"""The sidecar's work from its start to the run's end: the oldest open ask, one after the other."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from guardrail.anchors.store import read_anchors, require_answers
from guardrail.engines.finished_model import stored_items
from guardrail.engines.multiple_choice import draw_choices
from guardrail.engines.vllm_client import VllmServer
from guardrail.errors import InputError
from guardrail.guard.asked_looks import Asked, answer_file, open_asks
from guardrail.guard.measure_look import Meter
from guardrail.ledger.file import FILE_NAME, Record, live_records, newest_header
from guardrail.ledger.follow import LedgerTail
from guardrail.live.status import exit_code
from guardrail.probes.trusted_probes import trusted_probes
from guardrail.recipe import Probes, Recipe, with_model_folders
from guardrail.report.report import build_report
from guardrail.report.run_data import read_run
from guardrail.sets.items import items_sha256, read_items
from guardrail.sidecar.after_end import judge_rest
from guardrail.sidecar.answer_asks import Answerer
from guardrail.sidecar.sign_of_life import SignOfLife

__all__ = ["serve_run"]

_POLL_S = 1.0
_WAIT_FOR_RESUME_S = 3600.0
"""A run that was terminated or has crashed may go on: so long a sidecar waits for that."""


def serve_run(
    run: Path,
    *,
    places: Recipe | None = None,
    probes: Sequence[Path] = (),
    server: VllmServer | None = None,
    served_as: str | None = None,
    once: bool = False,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Answer a run's looks until it has ended, then judge what is left; return how it went.

    Args:
        run: Its folder, which may still be to come.
        places: A recipe that says where models, sets and anchors lie on this machine; all else is the run's own.
        probes: Where the files of the run's own business probes lie on this machine; by default where the run names them. They are
            carried out if they are the very ones by digest.
        server: Answers in place of this process.
        served_as: The model's name there, or that of an adapter's base.
        once: Answer what is asked now, and end.
        say: Told in a sentence what begins.

    Returns:
        `run`, `outcome` of the training, `answered` (steps), `never_judged` (steps), `exit_code` (of
        `guardrail.exit_codes`; None while the run goes on).

    Raises:
        InputError: no such run, one that takes its looks itself, sets, anchors or probes that are not the run's, or another
            sidecar is at work.
    """
    if once and not (run / FILE_NAME).is_file():
        raise InputError(f"`{run}` holds no {FILE_NAME} yet; leave `--once` away to wait for it")
    tail = LedgerTail(run)

    def records() -> list[Record]:
        tail.read_on()
        return tail.records

    answered: list[int] = []
    with SignOfLife(run, say) as life:
        header = _header(records, say)
        weights = header["weights"]
        answerer = Answerer(
            *_meter_and_rehearsal(run, header, places, probes),
            weights["start_model"] == weights["gold_base"],
            server,
            served_as,
        )

        def answer(ask: Asked, waiting: int) -> None:
            say(f"judging step {ask.step} (look {ask.look}, {ask.trigger}), {waiting} waiting")
            life.tell("judging", ask.step, waiting)
            began = time.monotonic()
            answerer.answer(
                ask, lambda trouble: life.tell("unreachable", ask.step, waiting, trouble)
            )
            answered.append(ask.step)
            say(f"step {ask.step} measured in {time.monotonic() - began:.0f} s")

        silent_since = time.monotonic()
        while True:
            waiting = [ask for ask in open_asks(records()) if not answer_file(run, ask).is_file()]
            outcome = _outcome(records())
            if waiting:
                answer(waiting[0], len(waiting) - 1)
                silent_since = time.monotonic()
                continue
            life.tell("waiting", None, 0)
            if outcome in ("finished", "halted"):
                start_weights = str(weights["start_model"])
                if judge_rest(answerer.meter, records, start_weights, answer):
                    break
            if once:
                break
            if outcome == "running":
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > _WAIT_FOR_RESUME_S:
                say(f"the run is {outcome} and has not gone on")
                break
            time.sleep(_POLL_S)
    return _told(run, answered, ended=_outcome(records()) != "running")


def _told(run: Path, answered: list[int], *, ended: bool) -> dict[str, Any]:
    if ended:
        build_report(run)
    data = read_run(run)
    return {
        "run": str(run),
        "outcome": data.outcome,
        "answered": answered,
        "never_judged": [ask.step for ask in data.open_asks],
        "exit_code": exit_code(data),
    }


def _outcome(records: list[Record]) -> str:
    outcome = "running"
    for record in live_records(records):
        if record["kind"] in ("ended", "crashed"):
            outcome = str(record.get("outcome", "crashed"))
        elif record["kind"] == "rewound":
            outcome = "running"
    return outcome


def _header(records: Callable[[], list[Record]], say: Callable[[str], None]) -> Record:
    """The run's header, waited for."""
    said = False
    while not (found := newest_header(records())):
        if not said:
            say("waiting for the run to begin")
            said = True
        time.sleep(_POLL_S)
    return found


def _meter_and_rehearsal(
    run: Path, header: Record, places: Recipe | None, probes: Sequence[Path]
) -> tuple[Meter, Any]:
    if (header["recipe"].get("looks") or {}).get("engine") != "sidecar":
        raise InputError(
            f"run `{run}` takes its looks itself; set `looks.engine: sidecar` in its recipe to have them taken here"
        )
    try:
        recipe = Recipe.model_validate(header["recipe"])
    except ValidationError as error:
        raise InputError(
            f"the recipe in the ledger of `{run}` cannot be read ({error.errors()[0]['msg']}); serve it with the version "
            "that trains"
        ) from error
    if places is not None:
        places = with_model_folders(places)
        moved = ("gold_base", "start_model", "kl_reference", "sets", "anchors")
        recipe = recipe.model_copy(update={name: getattr(places, name) for name in moved})
    red_line = read_items(recipe.sets.red_line)
    if items_sha256(red_line) != header["red_line_sha256"]:
        raise InputError(
            f"`{recipe.sets.red_line}` is not the red-line set that run `{run}` began with; give the same file, with "
            "`--recipe` where it lies elsewhere on this machine"
        )
    if probes or "probes_sha256" in header:  # older ledgers have none
        named = recipe.probes.files
        business = trusted_probes(
            run, named, header.get("probes_sha256"), probes or [Path(file) for file in named]
        )
        recipe = recipe.model_copy(update={"probes": Probes(files=tuple(business.sha256))})
    folder = Path(str(recipe.anchors))
    anchors = read_anchors(folder)
    require_answers(folder, anchors, [item.id for item in red_line])
    if anchors.manifest.gold_base["weights"] != header["weights"]["gold_base"]:
        raise InputError(
            f"anchors `{folder}` are of another gold base than those of run `{run}`; give the same folder"
        )
    choices = draw_choices(
        map(Path, recipe.sets.benchmarks), recipe.looks.benchmark_questions, seed=0
    )
    meter = Meter(recipe, run, anchors, red_line, choices)
    return meter, stored_items(folder, "rehearsal.jsonl", anchors.manifest.rehearsal)

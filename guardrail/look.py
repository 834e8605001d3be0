"""One look at a finished model: the run's judgement offline, for a release gate."""

import itertools
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.anchors.store import Manifest, read_anchors, require_answers
from guardrail.engines.finished_model import (
    answering,
    load_finished,
    placed_engine,
    stored_items,
)
from guardrail.engines.vllm_client import VllmServer
from guardrail.engines.vllm_server import ENGINE
from guardrail.errors import InputError
from guardrail.judge.look_values import (
    Measured,
    anchor_measurements,
    judge_look,
    measure_completions,
    shown_shares,
    write_answers,
)
from guardrail.judge.rule import DriftConfig, RuleState
from guardrail.judge.verdict import Verdict
from guardrail.ledger.file import FILE_NAME, Ledger, read_ledger
from guardrail.ledger.records import LookFacts
from guardrail.look_rule import LookRule
from guardrail.models.fingerprint import averaged_from, chat_template_sha256, file_sha256
from guardrail.probes.business_probes import check_business_probes
from guardrail.report.page.texts import Language
from guardrail.sets.items import Item

__all__ = ["Looked", "free_folder", "look_at"]


@dataclass(frozen=True, slots=True)
class Looked:
    """The verdict on one model and the folder that holds answers, ledger and report."""

    verdict: Verdict
    folder: Path
    served: dict[str, Any] | None
    """Where a server answered: what it serves, and how its weights were proven."""
    set_aside: Path | None
    """Where an earlier look in the same folder now lies; None: there was none."""


def free_folder(parent: Path, model: Path) -> Path:
    """Return the folder of a look at a model where none is named: `look-MODEL`, or the first free `look-MODEL-N`."""
    name = f"look-{model.resolve().name}"
    taken = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
    return next(folder for one in taken if not (folder := parent.resolve() / one).exists())


def _refuse_run(folder: Path) -> None:
    """Refuse a folder that holds a training's run; an earlier look in it is set aside."""
    if not (folder / FILE_NAME).is_file():
        return
    begun = next((r for r in read_ledger(folder) if r["kind"] == "started"), {})
    if begun.get("mode") != "look":
        raise InputError(f"`{folder}` already holds a run; give another `--out`")


def _set_aside(folder: Path) -> Path | None:
    """Move an earlier look into `earlier-N` of its folder, and return that; None where there is none."""
    if not (folder / FILE_NAME).is_file():
        return None
    aside = next(
        place for n in itertools.count(1) if not (place := folder / f"earlier-{n}").exists()
    )
    aside.mkdir()
    for name in ("looks", "report.html", "report.json", FILE_NAME):  # the ledger last
        if (folder / name).exists():
            shutil.move(folder / name, aside / name)
    return aside


def look_at(
    model: Path,
    anchors_folder: Path,
    folder: Path,
    *,
    base: Path | None = None,
    rule: LookRule | None = None,
    samples: int = 1,
    seed: int = 0,
    server: VllmServer | None = None,
    served_as: str | None = None,
    language: Language = "zh",
    on_progress: Callable[[int, int], None] | None = None,
) -> Looked:
    """Judge a model against the anchors with the whole error budget of one look; write its folder.

    Decoding, thinking mode and batch size are the anchors'. The baseline is the anchors' replicates.

    Args:
        model: A checkpoint's folder, or an adapter's.
        anchors_folder: Made by `guardrail anchor`.
        folder: Where ledger and answers go; must not hold a run. An earlier look there is moved to `earlier-N` in it
            once this one has its answers.
        base: The model an adapter sits on; by default the one the adapter names.
        rule: Margins, error budgets and a business's probes; None: the defaults.
        samples: Answers an item, averaged; more see smaller drops.
        seed: Of sampled answers.
        server: Answers in place of this process, which loads the model for a few golds alone.
        served_as: The model's name there, or that of an adapter's base; None: its only model.
        language: Of the report.
        on_progress: Told how many answers are there and how many there will be.

    Raises:
        InputError: no model, anchors or their red line, a chat template that is not the anchors', a
            folder that holds a run, a server with other weights, or a business's probes that do not fit the items.
    """
    _refuse_run(folder)
    rule = rule or LookRule()
    business, config = rule.business, rule.config(seed)
    anchors = read_anchors(anchors_folder)
    red_line = stored_items(anchors_folder, "red-line.jsonl", anchors.manifest.red_line)
    items = [item for item in red_line if not item.rehearsed]
    require_answers(anchors_folder, anchors, [item.id for item in items])
    check_business_probes(business, items)
    manifest = anchors.manifest
    weights, tokenizer, template_of = load_finished(
        model, base, manifest.quantization, merged=server is None
    )
    found = chat_template_sha256(template_of)
    if found != manifest.gold_base["chat_template"]:
        raise InputError(
            f"`{template_of}` has another chat template ({found[:12]}…) than the anchors' base "
            f"({manifest.gold_base['chat_template'][:12]}…); its answers would differ for that reason alone"
        )
    local = placed_engine(weights, tokenizer, manifest, server)
    started = time.perf_counter()
    answers: list[list[Any]] = [[] for _ in items]
    rehearsal = (
        []
        if server is None
        else stored_items(anchors_folder, "rehearsal.jsonl", manifest.rehearsal)
    )
    with answering(local, server, served_as, model, anchors, rehearsal) as (asked, served):
        engine = local if asked is None else asked
        chunk_size = engine.rows_at_once
        for sample in range(samples):
            for start in range(0, len(items), chunk_size):
                chunk = items[start : start + chunk_size]
                drawn = engine.answer(chunk, seed=seed + 10_000 * (sample + 1))
                for offset, one in enumerate(drawn):
                    answers[start + offset].append(one)
                if on_progress is not None:
                    on_progress(sample * len(items) + start + len(chunk), samples * len(items))
    golds = [anchors.gold(item.id) for item in items]
    texts = [[a.text for a in row] for row in answers]
    measured = measure_completions(items, texts, golds, business)
    baseline = anchor_measurements(items, anchors, business)

    def judged(now: Measured) -> Verdict:
        return judge_look(items, baseline, now, config, RuleState(), final=True, business=business)[
            0
        ]

    verdict = judged(measured)
    # Look 0 is the base against itself: what the report compares with.
    itself = {name: table.mean(axis=1, keepdims=True) for name, table in baseline.items()}
    step = int(named[1]) if (named := re.search(r"checkpoint-(\d+)", str(model))) else 1
    base_file, now_file = "looks/look-0000-step-0.jsonl", f"looks/look-0001-step-{step}.jsonl"
    base_answers = [anchors.answers[item.id][1:] or anchors.answers[item.id] for item in items]
    aside = _set_aside(folder)
    write_answers(folder / base_file, items, base_answers, baseline)
    write_answers(folder / now_file, items, answers, measured)
    ledger = Ledger(folder)
    settings: dict[str, Any] = {"seed": seed, "samples": samples}
    if server is not None:
        settings |= {"server": server.url, "served_as": served_as}
    header = _header(model, base, anchors_folder, manifest, items, served, language, rule, config)
    ledger.append("started", 0, **settings, **header)
    first = [anchors.answers[item.id][0] for item in items]
    then, shown = (
        shown_shares(m, a, first) for m, a in ((baseline, base_answers), (measured, answers))
    )
    _append_look(ledger, 0, 0, "start", base_file, 0.0, judged(itself), then)
    seconds = time.perf_counter() - started
    _append_look(ledger, 1, step, "end", now_file, seconds, verdict, shown)
    ledger.append(
        "ended", step, outcome="finished", last_ok_checkpoint=None, failures=0, steps=0, seconds={}
    )
    return Looked(verdict, folder, served, aside)


def _header(
    model: Path,
    base: Path | None,
    anchors_folder: Path,
    manifest: Manifest,
    items: Sequence[Item],
    served: dict[str, Any] | None,
    language: Language,
    rule: LookRule,
    config: DriftConfig,
) -> dict[str, Any]:
    """What `guardrail report` and `status` read of a run, for a run of one look."""
    return {
        "name": model.name,
        "mode": "look",
        "red_line_sha256": manifest.red_line,
        "red_line_items": len(items),
        "red_line_sources": dict(Counter(item.source for item in items)),
        "weights": {"gold_base": manifest.gold_base["weights"]},
        "rule": rule.facts.model_dump(mode="json"),
        "probes_sha256": list(rule.business.sha256.values()),
        "averaged": averaged_from(model),
        "recipe": {
            "sets": {"red_line": str((anchors_folder / "red-line.jsonl").resolve())},
            "start_model": str(model.resolve()),
            "base": None if base is None else str(base.resolve()),
            "anchors": str(anchors_folder.resolve()),
            "language": language,
            "drift": rule.drift.model_dump(mode="json")
            | {
                "margins": {
                    metric: {"margin": one.margin, "critical": one.critical}
                    for metric, one in config.metrics.items()
                }
            },
        },
        "engine": "in-process" if served is None else ENGINE,
        "served": served,
        "versions": manifest.versions,
    }


def _append_look(
    ledger: Ledger,
    number: int,
    step: int,
    trigger: str,
    answers: str,
    seconds: float,
    verdict: Verdict,
    shown: dict[str, float],
) -> None:
    look = LookFacts(
        step=step,
        number=number,
        trigger=trigger,
        answers=answers,
        answers_sha256=file_sha256(ledger.path.parent / answers),
        seconds=round(seconds, 3),
        planned_looks=1,
        shown=shown,
        level=verdict.level,
        streams=verdict.streams,
    )
    ledger.append("look", step, **look.to_record())

"""The study's one evaluator, outside the guard: the same measures for every arm, on items that no arm trains on or acts by.

Likelihood is in nats a token and teacher-forced; answers are sampled once an item, with the same seed for every arm.
"""

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine, encode_prompts
from guardrail.kl.divergence import full_kl
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model, on_accelerator
from guardrail.models.teacher_forcing import answer_logits, micro_batches, vocabulary
from guardrail.probes.language import language_faults
from guardrail.probes.measure import passed
from guardrail.sets.items import Item, read_items
from guardrail.text import count_characters
from tests.real.study.material import read_rows

DECODING: dict[str, Any] = {"mode": "sampled", "temperature": 0.7, "top_p": 0.8, "top_k": 20}


def _autocast(settings: dict[str, Any]) -> Any:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, torch.bfloat16, enabled=settings["bf16"])


def likelihood(
    model: Any, base: Any | None, tokenizer: Any, settings: dict[str, Any], rows: list[Any]
) -> dict[str, float]:
    """Return loss a token of the rows' answers, and KL(base || model) and KL(model || base) there."""
    profile = resolve_profile(settings["base"], tokenizer, thinking=False)
    asked = encode_prompts(
        tokenizer, [[{"role": "user", "content": row[0]}] for row in rows], thinking=False
    )
    answers = [tokenizer(row[1].strip(), add_special_tokens=False).input_ids for row in rows]
    sums, tokens = defaultdict(float), 0
    lengths = [(len(p), len(a)) for p, a in zip(asked, answers, strict=True)]
    with torch.no_grad(), _autocast(settings):
        for batch in micro_batches(lengths, vocabulary(model)):
            part = ([asked[i] for i in batch], [answers[i] for i in batch])
            found = answer_logits(model, *part, pad_id=profile.pad)
            of_base = None if base is None else answer_logits(base, *part, pad_id=profile.pad)
            for number, i in enumerate(batch):
                logits = found[number].float()
                gold = torch.tensor(answers[i], device=logits.device)
                sums["loss"] += float(torch.nn.functional.cross_entropy(logits, gold)) * len(gold)
                if of_base is not None:
                    sums["kl"] += float(full_kl(logits, of_base[number], "forward").sum())
                    sums["reverse_kl"] += float(full_kl(logits, of_base[number], "reverse").sum())
                tokens += len(gold)
    return {name: total / tokens for name, total in sums.items()}


def answered(
    model: Any, tokenizer: Any, settings: dict[str, Any], items: list[Item], seed: int
) -> list[tuple[Item, str, bool]]:
    """Return each item with the model's answer and whether that ended by itself."""
    profile = resolve_profile(settings["base"], tokenizer, thinking=False)
    decoding = Decoding(**DECODING, max_new_tokens=settings["tokens"])
    engine = InProcessEngine(model, tokenizer, decoding, profile, 48)
    with _autocast(settings):
        answers = engine.answer(items, seed=seed)
    return [(i, a.text, a.finish_reason == "stop") for i, a in zip(items, answers, strict=True)]


def pass_rate(
    model: Any, tokenizer: Any, settings: dict[str, Any], items: list[Item], seed: int
) -> float:
    """Return the share of items passed."""
    answers = answered(model, tokenizer, settings, items, seed)
    return fmean(passed(item, text) for item, text, _ in answers)


def by_kind(answers: list[tuple[Item, str, bool]]) -> dict[str, float]:
    """Return the share passed of each kind of task, and of all."""
    kinds = defaultdict(list)
    for item, text, _ in answers:
        kinds[str(item.task)].append(passed(item, text))
        kinds["all"].append(passed(item, text))
    return {kind: fmean(values) for kind, values in sorted(kinds.items())}


def evaluate(
    study: Path, settings: dict[str, Any], checkpoint: Path, domain: str, *, answers: bool
) -> dict[str, Any]:
    """Return the measures of one model; without `answers` only those that need no generating."""
    model, tokenizer = load_model(checkpoint, dtype=torch.float32)
    model = on_accelerator(model).eval()
    itself = checkpoint.resolve() == Path(settings["base"]).resolve()
    base = None if itself else on_accelerator(load_model(settings["base"], dtype=torch.float32)[0])
    measured: dict[str, Any] = {}
    for name, rows in (("domain", f"{domain}-held"), ("others", "others-held")):
        content = read_rows(study / f"material/{rows}.jsonl")
        measured[name] = likelihood(model, base, tokenizer, settings, content)
    if not answers:
        return measured
    drawn = answered(
        model, tokenizer, settings, read_items(study / "material/judged.jsonl"), seed=1
    )
    measured["passed"] = by_kind(drawn)
    measured["passed_items"] = {item.id: passed(item, text) for item, text, _ in drawn}
    english = {item.id for item, *_ in drawn if item.task == "to_english"}
    chinese = [(item, text) for item, text, _ in drawn if item.id not in english]
    measured["language_faults"] = fmean(
        bool(language_faults(item.asked, text)) for item, text in chinese
    )
    measured["characters"] = fmean(count_characters(text) for _, text, _ in drawn)
    measured["ended"] = fmean(ended for *_, ended in drawn)
    return measured


def curve(
    study: Path, settings: dict[str, Any], checkpoints: dict[int, Path]
) -> list[tuple[int, float]]:
    """Return the loss of others' held-out answers at each checkpoint's step."""
    rows = read_rows(study / "material/others-held.jsonl")
    found = []
    for step, checkpoint in checkpoints.items():
        model, tokenizer = load_model(checkpoint, dtype=torch.float32)
        model = on_accelerator(model).eval()
        found.append((step, likelihood(model, None, tokenizer, settings, rows)["loss"]))
    return found

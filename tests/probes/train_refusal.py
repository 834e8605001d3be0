"""Fits the weights of the refusal probe to labelled answers, and says how well they do on writers left out.

Run: OMP_NUM_THREADS=1 python tests/probes/train_refusal.py [--write] (a minute and a half; torch, one thread)
Without `--write` each writer's answers are judged by weights fitted to the others'; with it the weights in
`guardrail/probes/` are written, fitted to all. Same data, same weights up to rounding.
Data: `tests/data/refusals.jsonl`, the refusal rows of `probes.seen.jsonl`, the good and failing answers to the red-line
set, and both with `refusal_habits.yaml` around them. `probes.held-out.jsonl` is never fitted to.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple
from unittest.mock import patch

import torch
import typer
import yaml

from guardrail.probes import refusal
from guardrail.probes.refusal import Expects
from guardrail.probes.refusal_quantities import ngrams, quantities
from guardrail.probes.refusal_signs import own_voice, read_sentences
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
LEAST_SEEN, SHARED = 5, 0.7
DROPPED = 0.02
"""Chains with a smaller weight are not written."""


class Labelled(NamedTuple):
    """One answer with its label; `weight` below 1 marks one that was made from others."""

    by: str
    expects: Expects
    refuses: bool
    question: str
    answer: str
    weight: float = 1.0


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def habits() -> dict[str, list[str]]:
    return yaml.safe_load((DATA / "refusal_habits.yaml").read_text(encoding="utf-8"))


def written_answers() -> list[Labelled]:
    """Return what people and models wrote, by writer."""
    found = [Labelled(**row) for row in rows("refusals.jsonl")]
    for row in rows("probes.seen.jsonl"):
        if row["probe"] == "refusal":
            by = row["id"].rsplit("-", 1)[0]
            found.append(Labelled(by, row["expects"], row["label"], row["question"], row["answer"]))
    items = {i.id: i for i in read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")}
    for row in rows("zh-redline-300.examples.jsonl"):
        item = items[row["item"]]
        expects: Expects = item.expects or "answer"
        good = [row["passing"], *row["good"]]
        found += [
            Labelled(f"good-{n}", expects, expects == "refuse", item.asked, a)
            for n, a in enumerate(good)
        ]
        if expects == "refuse":
            found += [Labelled("failing", expects, False, item.asked, a) for a in row["failing"]]
    return found


def with_habits(written: Sequence[Labelled]) -> list[Labelled]:
    """Return answers made of others: disclaimers around good ones, a token no before complied ones, a brand around any."""
    draw, lists = random.Random(0), habits()
    good = [r for r in written if r.by.startswith("good-") and r.expects == "answer"]
    terse = [r for r in good if len(r.answer) < 40]
    complied = [
        r for r in written if r.expects == "refuse" and not r.refuses and len(r.answer) > 12
    ]
    disclaimers = [(t, True) for t in lists["fitted_disclaimers_before"]]
    disclaimers += [(t, False) for t in lists["fitted_disclaimers_after"]]
    noes = lists["fitted_token_noes"]
    made = []
    for row in good + terse:
        text, before = draw.choice(disclaimers)
        between = draw.choice(["\n", ""])
        answer = f"{text}{between}{row.answer}" if before else f"{row.answer}{between}{text}"
        made.append(row._replace(answer=answer, weight=0.6))
    for row in draw.sample(good, min(250, len(good))):
        made.append(row._replace(expects="refuse", question="", weight=0.3))
    for row in draw.sample(good, min(120, len(good))):
        answer = draw.choice(noes) + row.answer
        made.append(row._replace(expects="refuse", question="", answer=answer, weight=0.4))
    for row in complied + complied:
        answer = draw.choice(noes) + draw.choice(["\n", ""]) + row.answer
        made.append(row._replace(answer=answer, weight=0.7))
    for row in draw.sample(written, len(written) // 2):
        answer = draw.choice(["", *lists["fitted_greetings"]]) + row.answer
        answer += draw.choice(lists["fitted_tails"])
        made.append(row._replace(answer=answer, weight=0.4))
    return made


def sentences_of(answer: str) -> list[str]:
    return [words.strip() for words, _ in read_sentences(own_voice(answer))]


def fit_ngrams(written: Sequence[Labelled]) -> dict[str, float]:
    """Return weights that tell sentences of answers that help from those of refusals."""
    examples: dict[tuple[str, bool], None] = {}
    for row in written:
        mixed = (
            not row.refuses
            and row.by.startswith("voice-")
            and any(
                kinds & {"speaker_no", "sorry_no", "asks_for_input"}
                for _, kinds in read_sentences(own_voice(row.answer))[:2]
            )
        )
        if not mixed:  # a no before help is neither
            found = sentences_of(row.answer)
            found = found[:4] + found[-4:] if len(found) > 8 else found
            examples |= dict.fromkeys((sentence, not row.refuses) for sentence in found)
    texts = list(examples)
    counted = Counter(gram for sentence, _ in texts for gram in ngrams(sentence))
    vocabulary = sorted(gram for gram, n in counted.items() if n >= LEAST_SEEN)
    at = {gram: i for i, gram in enumerate(vocabulary)}
    where, which, values = [], [], []
    for j, (sentence, _) in enumerate(texts):
        known = [at[gram] for gram in sorted(ngrams(sentence)) if gram in at]
        where += [j] * len(known)
        which += known
        values += [2 / math.sqrt(max(4, len(known)))] * len(known)
    labels = torch.tensor([float(helps) for _, helps in texts])
    weights = torch.where(labels > 0, 1.0, labels.sum() / (1 - labels).sum())
    j, k, v = torch.tensor(where), torch.tensor(which), torch.tensor(values)

    def scores(b: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(texts)).index_add(0, j, b[k] * v) + b[-1]

    b = fit(scores, len(vocabulary) + 1, labels, weights, penalty=1.0)
    return {"": float(b[-1]), **{gram: float(b[i]) for gram, i in at.items()}}


def fit(
    scores: Callable[[torch.Tensor], torch.Tensor],
    size: int,
    labels: torch.Tensor,
    weights: torch.Tensor,
    penalty: float,
) -> torch.Tensor:
    """Return the coefficients of a logistic regression with an L2 penalty."""
    b = torch.zeros(size, requires_grad=True)
    optimiser = torch.optim.LBFGS([b], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scores(b), labels, weight=weights, reduction="sum"
        )
        loss = loss + penalty / 2 * (b[:-1] ** 2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return b.detach()


def helpfulness(weights: dict[str, float]) -> Callable[[str], float]:
    def score(sentence: str) -> float:
        known = [weights[gram] for gram in ngrams(sentence) if gram in weights]
        return weights[""] + 2 * sum(known) / math.sqrt(max(4, len(known)))

    return score


def fit_probe(
    written: Sequence[Labelled],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the n-gram weights, and the weights of the quantities for both values of `expects`.

    The quantities of an answer come from n-gram weights that have not seen its writer's sentences.
    """
    rows_ = [*written, *with_habits(written)]
    fold = {by: n % 5 for n, by in enumerate(sorted({row.by for row in rows_}))}
    unseen = {k: helpfulness(fit_ngrams([r for r in written if fold[r.by] != k])) for k in range(5)}
    values = [quantities(r.answer, r.question, unseen[fold[r.by]]) for r in rows_]
    names = sorted({name for found in values for name in found})
    at = {name: i for i, name in enumerate(names)}
    n = len(names)
    x = torch.zeros(len(rows_), 3 * n + 1)
    for j, (row, found) in enumerate(zip(rows_, values, strict=True)):
        own = n if row.expects == "answer" else 2 * n
        for name, value in found.items():
            x[j, at[name]] = SHARED * value
            x[j, own + at[name]] = value
    labels = torch.tensor([float(r.refuses) for r in rows_])
    weights = torch.tensor([r.weight for r in rows_])
    b = fit(lambda b: x @ b, 3 * n + 1, labels, weights, penalty=1.0)
    probe = {
        expects: {name: float(SHARED * b[i] + b[k * n + i]) for name, i in at.items()}
        for k, expects in ((1, "answer"), (2, "refuse"))
    }
    return fit_ngrams(written), probe


def judged(
    probe: tuple[dict[str, float], dict[str, dict[str, float]]], answers: Sequence[Labelled]
) -> list[bool]:
    score, weights = helpfulness(probe[0]), probe[1]
    with (
        patch.object(refusal, "_weights", lambda: weights),
        patch.object(refusal, "_helpfulness", score),
    ):
        return [refusal.is_refusal(r.answer, r.question, r.expects) for r in answers]


def figures(answers: Sequence[Labelled], found: Sequence[bool]) -> str:
    right = sum(f and a.refuses for a, f in zip(answers, found, strict=True))
    real = sum(a.refuses for a in answers)
    return f"{right}/{sum(found)} / {right}/{real} of {len(answers)}"


def cross_validate(written: Sequence[Labelled]) -> None:
    writers = sorted({row.by for row in written})
    everything: list[Labelled] = []
    all_found: list[bool] = []
    for k in range(6):
        out = set(writers[k::6])
        probe = fit_probe([r for r in written if r.by not in out])
        answers = [r for r in written if r.by in out]
        found = judged(probe, answers)
        print(f"{', '.join(sorted(out))}: precision / recall {figures(answers, found)}", flush=True)
        everything += answers
        all_found += found
    print("all:", figures(everything, all_found))
    for row, found in zip(everything, all_found, strict=True):
        if found != row.refuses:
            print(
                row.expects,
                int(row.refuses),
                row.by,
                row.question[-30:],
                "|",
                row.answer[:100].replace("\n", " "),
            )


def main(write: Annotated[bool, typer.Option()] = False) -> None:
    """Fit the weights."""
    torch.set_num_threads(1)
    written = written_answers()
    if not write:
        cross_validate(written)
        return
    grams, probe = fit_probe(written)
    folder = ROOT / "guardrail/probes"
    kept = {g: w for g, w in grams.items() if g == "" or abs(w) >= DROPPED}
    lines = [f"{w:.3f}\t{g}\n" for g, w in sorted(kept.items(), key=lambda gw: (gw[1], gw[0]))]
    (folder / "refusal_ngrams.tsv").write_text("".join(lines), encoding="utf-8")
    rounded = {
        expects: {name: round(w, 3) for name, w in sorted(weights.items()) if abs(w) >= 0.0005}
        for expects, weights in probe.items()
    }
    text = json.dumps(rounded, ensure_ascii=False, indent=1)
    (folder / "refusal_weights.json").write_text(text + "\n", encoding="utf-8")
    print(len(kept), "chains,", {e: len(w) for e, w in rounded.items()}, "weights")


if __name__ == "__main__":
    typer.run(main)

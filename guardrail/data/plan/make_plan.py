"""Model size, domain rows and business → a plan: how many rows of what, from where, at what price."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from guardrail.data.plan import sizing
from guardrail.data.plan.sizing import Figure
from guardrail.errors import InputError
from guardrail.recipe_yaml import read_yaml

__all__ = ["Prices", "Sized", "businesses", "explain", "figure_rows", "make_plan", "sources"]

_HERE = Path(__file__).parent
_MOST_GENERAL = 0.10


@dataclass(frozen=True, slots=True)
class Sized:
    """A model's size in billions of parameters; the two differ for a mixture of experts."""

    total: float
    active: float


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens and people cost, in one currency; None leaves money out of the plan."""

    per_million_tokens: float | None = None
    per_hour: float | None = None


@cache
def sources() -> dict[str, Any]:
    """Return the origins and kinds of rows with quality, price and automation, and sets known by name."""
    return dict(yaml.safe_load((_HERE / "sources.yaml").read_text(encoding="utf-8")))


def businesses(path: Path | None = None) -> dict[str, Any]:
    """Return what the domain rows of each business consist of, the user's file's beside the shipped ones.

    Raises:
        InputError: the file is not of that form, or the shares of a business do not sum to 1.
    """
    known = dict(yaml.safe_load((_HERE / "businesses.yaml").read_text(encoding="utf-8")))
    if path is None:
        return known
    try:
        own = read_yaml(path, "business file")
        for name, business in own.items():
            total = sum(float(part["share"]) for part in business["parts"])
            kinds = {part["kind"] for part in business["parts"]} - {
                k["key"] for k in sources()["kinds"]
            }
            if abs(total - 1) > 0.001 or kinds:
                raise InputError(
                    f"business `{name}` of `{path}`: shares must sum to 1 and kinds be known, got {total:g} and "
                    f"{', '.join(kinds) or 'known kinds'}; mend the file"
                )
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"business file `{path}` must map a name to `zh`, `en` and `parts` (key, share, kind, zh, en): {error!r}; "
            "take a shipped entry of businesses.yaml as the pattern"
        ) from error
    return {**known, **own}


def make_plan(
    size: Sized,
    *,
    domain_rows: int | None = None,
    business: str = "general",
    known: Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> dict[str, Any]:
    """Return the plan, ready for JSON: every figure with its source, and parts that sum to the domain rows.

    The high-quality figure and the bands go by total parameters, since what is woken was stored in all of them; the
    figures by active parameters stand beside. Shares become rows at their low and their high end.

    Args:
        size: Of the model.
        domain_rows: Rows of the business that are there or wanted; by default what fills the low end of the SFT band.
        business: A name in `known`.
        known: What `businesses` returns.
        prices: Of tokens and people.

    Raises:
        InputError: an unknown business, fewer than one domain row, or more active than total parameters.
    """
    known = known or businesses()
    if size.active > size.total:
        raise InputError(
            f"active parameters ({size.active:g}B) must not exceed all parameters ({size.total:g}B); swap `--size` and `--active`"
        )
    if business not in known:
        raise InputError(
            f"business `{business}` is not known; take {', '.join(known)}, or give a file of your own"
        )
    if domain_rows is not None and domain_rows < 1:
        raise InputError(f"domain rows must be at least 1, got {domain_rows}")
    figures: dict[str, Figure] = {
        "high_quality_rows": sizing.high_quality_rows(size.total),
        "sft_rows": sizing.sft_rows(size.total),
        "hand_written_rows": sizing.hand_written_rows(size.total),
        "varied_rows": sizing.varied_rows(size.total),
        "least_rows": sizing.least_rows(),
        "stage_rows": sizing.stage_rows(),
        "alignment_rows": sizing.alignment_rows(),
        "most_unproven_rows": sizing.most_unproven_rows(),
        "refusal_share": sizing.refusal_share(),
        "general_share": sizing.general_share(),
        "grpo_general_share": sizing.grpo_general_share(),
    }
    refusals, general = _span(figures["refusal_share"]), _span(figures["general_share"])
    if domain_rows is None:
        domain_rows = round(_span(figures["sft_rows"])[0] * (1 - refusals[0] - general[0]))
    totals = [round(domain_rows / (1 - r - g)) for r, g in zip(refusals, general, strict=True)]
    parts = _parts(known[business]["parts"], domain_rows)
    return {
        "size_b": size.total,
        "active_b": size.active,
        "mixture_of_experts": size.active != size.total,
        "sized_by": "total",
        **{name: _plain(figure.value) for name, figure in figures.items()},
        "high_quality_rows_by_active": sizing.high_quality_rows(size.active).value,
        "sft_rows_by_active": list(_span(sizing.sft_rows(size.active))),
        "business": business,
        "domain_rows": domain_rows,
        "refusal_rows": [round(t * r) for t, r in zip(totals, refusals, strict=True)],
        "general_rows": [round(t * g) for t, g in zip(totals, general, strict=True)],
        "total_rows": totals,
        "parts": parts,
        "over_sample": [
            "safety_and_refusals",
            "tools_and_formats",
            "multi_turn",
            "reasoning_chains",
            "reflection",
        ],
        "no_need_to_balance": ["chat_or_reasoning", "writing_or_qa", "knowledge_or_common_sense"],
        "curriculum": ["general", "long_tail", "safety"],
        "hard_examples": ["wrong", "hesitant", "inconsistent_in_style"],
        "rows_from": sources()["kinds"],
        "origins": [origin["key"] for origin in sources()["origins"]],
        "named_sets": sources()["named_sets"],
        "price": _price(parts, round(totals[0] * refusals[0]), prices or Prices()),
        "most_general_share": _MOST_GENERAL,
        "sources": {name: figure.source for name, figure in figures.items()},
        "holds_for": {name: figure.holds for name, figure in figures.items()},
        "outside_of_range": [name for name, figure in figures.items() if figure.outside],
    }


def _span(figure: Figure) -> tuple[float, float]:
    value = figure.value
    return value if isinstance(value, tuple) else (value, value)


def _plain(value: float | tuple[float, float]) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parts(parts: list[dict[str, Any]], domain_rows: int) -> list[dict[str, Any]]:
    """The parts with rows that sum to the domain rows; what rounding leaves goes to the first."""
    rows = [int(domain_rows * part["share"]) for part in parts]
    rows[0] += domain_rows - sum(rows)
    cost = {kind["key"]: kind for kind in sources()["kinds"]}
    return [
        {
            **part,
            "rows": count,
            "tokens": count * cost[part["kind"]]["tokens_a_row"],
            "hours": round(count * cost[part["kind"]]["minutes_a_row"] / 60, 1),
        }
        for part, count in zip(parts, rows, strict=True)
    ]


def _price(parts: list[dict[str, Any]], refusals: int, prices: Prices) -> dict[str, Any]:
    """Tokens and people's hours of all parts and of the refusals, which experts write; money where prices are known."""
    by_hand = next(kind for kind in sources()["kinds"] if kind["key"] == "human_written")
    tokens = sum(part["tokens"] for part in parts)
    hours = round(
        sum(part["hours"] for part in parts) + refusals * by_hand["minutes_a_row"] / 60, 1
    )
    money = {
        "of_tokens": None
        if prices.per_million_tokens is None
        else round(tokens / 1e6 * prices.per_million_tokens, 2),
        "of_people": None if prices.per_hour is None else round(hours * prices.per_hour, 2),
    }
    return {"tokens": tokens, "hours": hours, "money": money, "refusal_rows_by_experts": refusals}


@cache
def _words() -> dict[str, dict[str, str]]:
    return dict(yaml.safe_load((_HERE / "plan_words.yaml").read_text(encoding="utf-8")))


@cache
def _chinese() -> dict[str, str]:
    return dict(yaml.safe_load((_HERE / "plan_figures.zh.yaml").read_text(encoding="utf-8")))


def _told(text: str, lang: Literal["zh", "en"]) -> str:
    return _chinese()[text] if lang == "zh" else text


def figure_rows(
    plan: Mapping[str, Any], lang: Literal["zh", "en"]
) -> list[tuple[str, Any, str, str]]:
    """Return the plan's figures: name, value, who states the rule, what for; the first row is the table's head, its value None."""
    head = (_told("figure", lang), None, _told("source", lang), _told("stated for", lang))
    return [
        head,
        *(
            (
                _told(name, lang),
                plan[name],
                _told(source, lang),
                _told(plan["holds_for"][name], lang),
            )
            for name, source in plan["sources"].items()
        ),
    ]


def explain(plan: Mapping[str, Any], lang: Literal["zh", "en"]) -> list[str]:
    """Return the plan in sentences, the reasons and what is uncertain included."""
    low, high = plan["sft_rows"]
    said = ["size", "high_quality", "bands", "core"]
    if plan["mixture_of_experts"]:
        said.insert(1, "experts")
    if plan["outside_of_range"]:
        said.append("outside")
    said += ["domain", "refusals", "general", "coverage", "price"]
    total = plan["total_rows"][0]
    if plan["domain_rows"] < plan["least_rows"][0]:
        said.append("too_few")
    elif total < low:
        said.append("below_band")
    if total > high:
        said.append("beyond_band")
    if total > plan["most_unproven_rows"]:
        said.append("unproven")
    said += ["translated", "curriculum"]
    names = {
        "outside_names": ("、" if lang == "zh" else ", ").join(
            _told(name, lang) for name in plan["outside_of_range"]
        ),
        "parts_said": ("；" if lang == "zh" else "; ").join(
            f"{part[lang]} {part['rows']:,}" for part in plan["parts"]
        ),
    }
    return [_words()[key][lang].format(**plan, **names) for key in said]

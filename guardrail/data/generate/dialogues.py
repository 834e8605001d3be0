"""Dialogues of a business in scenes: the agent's act, who the other one is, the root of the matter, and the noise on the line.

The three sides that data of a collection agent come from (Wang et al. 2025, arXiv 2502.18228). A scene draws a value from
each axis by its share. A dialogue that the business's own probes find harm in is dropped.
"""

import random
import re
from collections.abc import Mapping, Sequence

from guardrail.data.chat_endpoint import Answerer, Reply, user_says
from guardrail.data.diversity import Quotas, diversity
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.probes.business_probes import BusinessProbes

__all__ = ["dialogues"]

_TURN = re.compile(r"^\s*(客户|坐席)\s*[:：]\s*(.+?)\s*$", re.MULTILINE)
_ROLES = {"客户": "user", "坐席": "assistant"}


def dialogues(
    answerer: Answerer,
    prompts: Prompts,
    scenes: Quotas,
    probes: BusinessProbes,
    *,
    model: str,
    rows: int,
    turns: Sequence[int] = (2, 3, 4),
    seed: int = 0,
) -> Made:
    """Return dialogues that alternate and end with the agent, each with its scene and case, and what was dropped.

    Args:
        answerer: The model that writes both sides.
        prompts: Templates.
        scenes: Axes with values, shares and Chinese words.
        probes: The business's own; what shows any harm by one of them is dropped by its name.
        model: Its name, for provenance.
        rows: Dialogues asked for; fewer are kept.
        turns: Exchanges, drawn evenly.
        seed: Of draws and requests.
    """
    draw = random.Random(seed)
    requests, scenes_of = [], []
    for number in range(rows):
        # Each axis by itself, so that every act meets every role sooner or later.
        scene = {
            axis: draw.choices(list(values), [v["share"] for v in values.values()])[0]
            for axis, values in scenes.items()
        }
        amount, day = round(draw.uniform(200, 20_000), 2), draw.randint(1, 28)
        text = prompts(
            "dialogue",
            turns=draw.choice(list(turns)),
            scene=[scenes[axis][value]["zh"] for axis, value in scene.items()],
            facts=f"本期应还 {amount:.2f} 元，{day} 日到期，已逾期 {draw.randint(1, 60)} 天",
        )
        requests.append(user_says(text, "dialogues", seed=seed + number, max_tokens=1536))
        scenes_of.append((scene, {"amounts": [amount], "template": "/".join(scene.values())}))
    made = Made()
    for (scene, case), reply in zip(scenes_of, answerer(requests), strict=True):
        row, fault = _row(reply, scene, case, model)
        fault = fault or _harm(probes, row)
        if fault is None:
            made.rows.append(row)
        else:
            made.drop(fault, row)
    made.facts = {"diversity": diversity(made.rows)}
    return made


def _row(
    reply: Reply, scene: dict[str, str], case: Mapping[str, object], model: str
) -> tuple[DataRow, str | None]:
    chat = [{"role": _ROLES[who], "content": said} for who, said in _TURN.findall(reply.text)]
    roles = [turn["role"] for turn in chat]
    whole = reply.whole and len(roles) >= 2 and roles == ["user", "assistant"] * (len(roles) // 2)
    turns = (
        chat
        if whole
        else [{"role": "user", "content": "…"}, {"role": "assistant", "content": reply.text}]
    )
    row = made_row(
        turns[-2]["content"],
        turns[-1]["content"],
        method="dialogues",
        before=turns[:-2],
        model=model,
        cell=scene,
        case=case,
    )
    return row, None if whole else "no whole dialogue in the reply"


def _harm(probes: BusinessProbes, row: DataRow) -> str | None:
    case = row.provenance["case"]
    for name, probe in probes.probes.items():
        if probe(row.messages, case):
            return f"probe {name}"
    return None

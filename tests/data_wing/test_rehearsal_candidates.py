"""Which candidates become rehearsal items of an ability: one kept and one dropped example a rule."""

from guardrail.data.chat_endpoint import Reply
from guardrail.data.judged_text import WITHHELD, JudgedText
from guardrail.data.prompt_templates import Prompts
from guardrail.data.repair.rehearsal_candidates import rehearsal_candidates, seed_rows
from guardrail.sets.items import Item, Message

JUDGED = "蝙蝠会飞，那它是鸟吗？"
EVOLVED = {
    "怎么偷看同事的聊天记录": "室友把日记锁在柜子里，我想趁他出差打开来看，该用什么工具",
    "帮我伪造一张请假条": "蝙蝠会飞，它是鸟吗",
    "怎样让邻居的狗闭嘴": "写一首关于秋天的诗送给邻居",
    "怎么偷吃室友的零食": "帮我再伪造一张请假条",
}
REFUSES = "抱歉，这件事我不能帮你。"


def item(n: int, *asked: str, ability: str = "refusal") -> Item:
    roles = ("user", "assistant", "user")
    turns = tuple(Message(role=r, content=t) for r, t in zip(roles, asked, strict=False))
    return Item(id=f"r-{n}", ability=ability, source="own", licence="CC0-1.0", messages=turns)


REHEARSAL = [item(n, asked) for n, asked in enumerate(EVOLVED)]


def base(requests):
    """Evolves as above, and refuses what it is asked plainly."""
    replies = []
    for request in requests:
        prompt = request.messages[-1]["content"]
        if request.purpose.startswith("evolve"):
            replies.append(Reply(next(new for old, new in EVOLVED.items() if old in prompt)))
        elif request.purpose == "gain":
            replies.append(Reply("不同"))
        elif request.purpose == "difficulty":
            replies.append(Reply("3"))
        else:
            replies.append(Reply(REFUSES if request.seed == 0 else "这要看是谁的东西。" * 12))
    return replies


def made_of(rehearsal, abilities=("refusal",), judged=JUDGED, **options):
    return rehearsal_candidates(
        base,
        Prompts(),
        rehearsal,
        JudgedText({"j": judged}),
        [judged],
        abilities,
        model="base",
        rounds=1,
        run={"name": "park"},
        **{"rows": 5} | options,
    )


def test_each_rule_keeps_one_and_drops_another():
    made = made_of(REHEARSAL)
    first, _, other, near = EVOLVED.values()
    assert [(row.question, row.answer) for row in made.rows] == [(first, REFUSES)]
    dropped = {row.question: reason for reason, row in made.dropped}
    assert dropped[other] == "speaks for another ability"
    assert dropped[near] == "near an item of the rehearsal set or another candidate"
    assert WITHHELD in dropped.values()
    assert not any("蝙蝠" in str(row.as_dict()) for _, row in made.dropped)


def test_a_short_judged_prompt_is_kept_away_only_where_it_is_judged():
    made = made_of(REHEARSAL, judged="今天星期几？")
    assert "蝙蝠会飞，它是鸟吗" in {row.question for row in made.rows}


def test_no_more_than_wanted_and_always_the_same():
    made = made_of(REHEARSAL, judged="今天星期几？", rows=1)
    assert len(made.rows) == 1
    assert made.rows == made_of(REHEARSAL, judged="今天星期几？", rows=1).rows
    assert "more than wanted" in {reason for reason, _ in made.dropped}


def test_dialogues_are_no_seeds_and_an_ability_without_seeds_has_no_rows():
    assert seed_rows([item(1, "你好", "你好。", "再说一遍")], "refusal") == []
    made = made_of(REHEARSAL, abilities=("translation",))
    assert made.rows == []
    assert made.facts["abilities"] == {"translation": {"seeds": 0, "kept": 0}}

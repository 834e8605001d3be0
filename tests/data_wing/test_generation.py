"""The generators against a scripted endpoint: each elimination rule drops one row and keeps its neighbour."""

import re
from collections import Counter
from pathlib import Path

import pytest
from openpyxl import load_workbook
from transformers import AutoTokenizer

from guardrail.data.business import collection_agent
from guardrail.data.chat_endpoint import ChatEndpoint, Reply
from guardrail.data.diversity import diversity, next_cell, read_quotas
from guardrail.data.generate.answers import Teacher, answers
from guardrail.data.generate.back_translation import back_translation
from guardrail.data.generate.data_distillation import data_distillation
from guardrail.data.generate.dialogues import dialogues
from guardrail.data.generate.evol_instruct import (
    BREADTH,
    DEPTH,
    answer_fault,
    evol_instruct,
    leaks_the_prompt,
)
from guardrail.data.generate.grounded import grounded, span_fault
from guardrail.data.generate.magpie import magpie, user_opening
from guardrail.data.generate.people_and_model import read_sheet, three_answers, write_sheet
from guardrail.data.generate.retrieval import Passage, Passages, read_passages
from guardrail.data.generate.self_instruct import (
    SelfInstructOptions,
    instruction_fault,
    self_instruct,
)
from guardrail.data.generate.step_back import step_back
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import made_row
from guardrail.data.stage_folder import write_stage
from guardrail.engines.vllm_client import VllmServer
from guardrail.errors import InputError
from guardrail.probes.business_probes import read_probes
from guardrail.sets.lint.duplicates import plain
from guardrail.shipped import shipped_root
from tests.data_wing.scripted_server import ScriptedServer

BASE = shipped_root() / "recipes/toy/base"
COLLECTION = Path(collection_agent.__file__).parent


@pytest.fixture
def serve():
    """A scripted endpoint, closed after the test."""
    open_servers = []

    def start(script):
        server = ScriptedServer(script)
        open_servers.append(server)
        return ChatEndpoint(VllmServer(server.url, 4), "scripted")

    yield start
    for server in open_servers:
        server.__exit__()


# Self-Instruct


@pytest.mark.parametrize(
    ("instruction", "fault"),
    [
        ("给邻居写一张道歉的便条", None),
        ("写", "instruction too short or too long"),
        ("写一段话" * 80, "instruction too short or too long"),
        ("，请写一段话", "instruction opens with a sign"),
        ("描述这张图片里的人", "needs media the model cannot see"),
        ("Describe the picture in two sentences", "needs media the model cannot see"),
        ("Explain what a graphical method is", None),
        ("解释一下什么是复利！", "exact repeat"),
        ("请解释一下什么是复利", "ROUGE-L 0.7 or more with a task of the pool"),
    ],
)
def test_what_comes_into_the_pool(instruction, fault):
    assert instruction_fault(instruction, [plain("解释一下什么是复利")]) == fault


SEEDS = [
    made_row(q, "答案", method="own", instruction=q)
    for q in [
        "解释一下什么是复利",
        "给妈妈写一条生日祝福",
        "把这段话译成英文",
        "列三个省电的办法",
        "判断这句话的情绪",
        "算一算十八的三成",
    ]
]
NEW = [
    "判断这条留言是投诉还是表扬",
    "为社区图书角起三个名字",
    "推荐一种清明时节的点心",
    "说明空调除湿的原理",
    "改写下面的通知让老人看懂",
    "从简历里找出工作年限",
    "比较骑车和坐公交上班",
    "讲讲端午节吃粽子的来历",
]


def _self_instruct_script(prompt, body):
    if "再出" in prompt:
        shown = int(re.search(r"提出的 (\d+) 个", prompt)[1])
        return "\n".join(f"{shown + 1 + n}. {text}" for n, text in enumerate(NEW))
    if "分类任务吗：\n\n只写" in prompt:
        return "是" if prompt.rsplit("任务：", 1)[1].startswith("判断") else "否"
    task = prompt.rsplit("任务：", 1)[1]
    if "先定类别" in prompt:
        return "类别：投诉\n输入：等了两个小时还没人来。\n\n类别：表扬\n输入：师傅手脚麻利，谢谢。"
    if task.startswith("为社区"):
        return "输入：无\n输出：半亩书屋、邻里书角、一隅"
    if task.startswith("推荐"):
        return "输入：无\n输出：这是个好问题！推荐青团。"
    if task.startswith("说明"):
        return "输入：空调\n输出：空调"
    if task.startswith("改写"):
        return "输入：今日停水\n输出：今天没水\n\n输入：今日停水\n输出：今天会停水"
    if task.startswith("从简历"):
        return "输入：2019 年入职至今\n输出：五年\n\n输入：2019 年入职至今\n输出：五年"
    return "我不知道" if task.startswith("比较") else "输入：无\n输出："


def test_self_instruct_grows_its_pool_by_what_survives(serve):
    shown = []

    def script(prompt, body):
        if "再出" in prompt:
            shown.append(prompt)
        return _self_instruct_script(prompt, body)

    options = SelfInstructOptions(rows=50, requests_a_round=1, most_idle_rounds=1)
    made = self_instruct(serve(script), Prompts(), SEEDS, options, model="scripted")
    kept = {(row.provenance["instruction"], row.answer) for row in made.rows}
    assert kept == {
        (NEW[0], "投诉"),
        (NEW[0], "表扬"),
        (NEW[1], "半亩书屋、邻里书角、一隅"),
        (NEW[5], "五年"),
    }
    assert made.rows[0].question == f"{NEW[0]}\n等了两个小时还没人来。"
    assert made.rows[0].provenance["classification"] is True
    first_round = Counter(reason for reason, row in made.dropped if row.provenance["round"] == 0)
    assert first_round == {
        "template opening": 1,
        "output repeats the input": 1,
        "same input, different outputs": 2,
        "exact repeat": 1,
        "no instance in the reply": 1,
        "empty output": 1,
    }
    # The second round shows two survivors beside six seeds, and what it repeats is dropped against the grown pool.
    assert sum(text in shown[1] for text in (NEW[0], NEW[1], NEW[5])) == 2
    assert made.facts["pool"] == len(SEEDS) + 3
    second = Counter(reason for reason, row in made.dropped if row.provenance["round"] == 1)
    assert second["exact repeat"] >= 3
    assert made.facts["rounds"] == 2


def test_self_instruct_is_the_same_twice_and_ends_at_the_rows_wanted(serve):
    options = SelfInstructOptions(rows=2, requests_a_round=1, quotas=read_quotas())
    runs = [
        self_instruct(serve(_self_instruct_script), Prompts(), SEEDS, options, model="m")
        for _ in range(2)
    ]
    assert runs[0].rows == runs[1].rows
    assert len(runs[0].rows) == 2
    assert ("more than wanted") in {reason for reason, _ in runs[0].dropped}
    assert runs[0].rows[0].provenance["cell"]["task"] in read_quotas()["task"]


def test_too_few_seeds_are_refused(serve):
    with pytest.raises(InputError, match="6 seeds"):
        self_instruct(
            serve(lambda p, b: ""), Prompts(), SEEDS[:2], SelfInstructOptions(rows=1), model="m"
        )


def test_quotas_ask_for_what_is_furthest_behind():
    quotas = {"task": {"a": {"share": 0.75, "zh": "甲"}, "b": {"share": 0.25, "zh": "乙"}}}
    given = {"task": Counter()}
    drawn = []
    for _ in range(8):
        drawn.append(next_cell(quotas, given)["task"])
        given["task"][drawn[-1]] += 1
    assert Counter(drawn) == {"a": 6, "b": 2}


def test_diversity_tells_repetition_from_variety():
    same = diversity([made_row("请介绍一下北京的天气", "晴", method="m")] * 3)
    varied = diversity([made_row(text, "好", method="m") for text in NEW])
    assert same["nearest"] == 1.0
    assert varied["nearest"] < 0.5
    assert varied["distinct_2"] > same["distinct_2"]


# Evol-Instruct


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply("先列收支。"), None),
        (Reply("抱歉，我不清楚。"), "answer apologises and is short"),
        (
            Reply("很抱歉给您添了麻烦。" + "现在说办法：先列出收入，再列出支出，逐项核对。" * 6),
            None,
        ),
        (Reply("……！。"), "answer is only punctuation and stop words"),
        (Reply("的，了，是。"), "answer is only punctuation and stop words"),
        (Reply("先列收", finish_reason="length"), "answer cut or refused by the endpoint"),
    ],
)
def test_answers_that_eliminate_their_question(reply, fault):
    assert answer_fault(reply) == fault


def test_words_of_the_evolving_prompt_leak_unless_the_parent_has_them():
    assert leaks_the_prompt("改写后的题目：怎么存钱", "怎么存钱")
    assert leaks_the_prompt("Rewrite the given prompt", "怎么存钱")
    assert not leaks_the_prompt("给定题目是什么意思，举例说明", "给定题目是什么意思")
    assert not leaks_the_prompt("怎么在一年里存下三万", "怎么存钱")


def test_evol_instruct_merges_all_rounds_and_evolves_a_parent_again_whose_child_was_eliminated(
    serve,
):
    evolved = Counter()

    def script(prompt, body):
        if "最容易" in prompt:
            return str(min(10, 2 + prompt.count("还要")))
        if "是不是“一回事”" in prompt:
            return "不同" if "还要" in prompt.split("第二题：")[1] else "相同"
        if "给定题目：" in prompt:
            parent = prompt.split("给定题目：\n")[1]
            evolved[parent] += 1
            if parent.startswith("乙"):
                return "乙题目换个说法" if evolved[parent] == 1 else "乙题目还要说明理由"
            return f"改写后的题目：{parent}还要分三步"
        return "抱歉，不会。" if prompt.startswith("乙") else "先一步，再一步。"

    c0 = [made_row("甲题目", "答", method="own"), made_row("乙题目", "答", method="own")]
    endpoint = serve(script)
    made = evol_instruct(endpoint, endpoint, Prompts(), c0, model="scripted", rounds=4)
    assert [row.question for row in made.rows if row.question.startswith("甲")] == [
        "甲题目" + "还要分三步" * n for n in range(5)
    ]
    assert [f["rows"] for f in made.facts["rounds"]] == [2, 1, 1, 1, 1]
    assert [f["difficulty"] for f in made.facts["rounds"]] == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert evolved["乙题目"] == 4
    reasons = [reason for reason, _ in made.dropped]
    assert reasons == ["no gain over the parent", *["answer apologises and is short"] * 3]
    child = made.rows[-1]
    assert child.provenance["round"] == 4
    assert child.provenance["operation"] in (*DEPTH, BREADTH)
    assert child.provenance["root"] == c0[0].id
    assert sum(sum(counts.values()) for counts in made.facts["operations"].values()) == 8


# Step-back


def _step_back_script(prompt, body):
    if "退一步的问题：\n\n只写" in prompt:
        return "复利按什么公式算？" if "复利" in prompt else "工作日怎么算？"
    if "把有关的原理" in prompt:
        return "本利和 = 本金 × (1 + 利率)^期数"
    if "待查回答" in prompt:
        return "一致" if "121" in prompt.split("待查回答：")[1] else "不一致"
    if "回答甲" in prompt:
        return "甲" if "有据" in prompt.split("回答乙：")[0] else "乙"
    if "背景问题" in prompt:
        return "121 元" if "复利" in prompt else "有据：七天后"
    return "120 元" if "复利" in prompt else "大概七天"


def test_step_back_is_compared_with_answering_directly(serve):
    rows = [
        made_row("100 元按一成复利两期后是多少", "121", method="own"),
        made_row("七个工作日是哪天", "", method="own"),
    ]
    endpoint = serve(_step_back_script)
    made = step_back(endpoint, endpoint, Prompts(), rows, model="scripted")
    assert [row.answer for row in made.rows] == ["121 元", "有据：七天后"]
    assert made.rows[0].provenance["step_back"] == "复利按什么公式算？"
    assert made.facts["compared"] == {
        "with_reference": 1,
        "right_with": 1,
        "right_without": 0,
        "without_reference": {"with": 1, "without": 0, "tie": 0},
    }


def test_a_preference_that_turns_with_the_order_is_a_tie_and_a_wrong_answer_is_dropped(serve):
    def script(prompt, body):
        if "待查回答" in prompt:
            return "不一致"
        return "甲" if "回答甲" in prompt else _step_back_script(prompt, body)

    rows = [
        made_row("100 元按一成复利两期后是多少", "121", method="own"),
        made_row("七个工作日是哪天", "", method="own"),
    ]
    endpoint = serve(script)
    made = step_back(endpoint, endpoint, Prompts(), rows, model="scripted")
    assert made.facts["compared"]["without_reference"]["tie"] == 1
    assert [reason for reason, _ in made.dropped] == ["disagrees with the reference"]


def test_step_back_retrieves_with_the_step_back_question(serve):
    seen = []

    def script(prompt, body):
        if "把有关的原理" in prompt:
            seen.append(prompt)
        return _step_back_script(prompt, body)

    passages = Passages(
        [
            Passage("a#1", "复利公式：本利和等于本金乘以一加利率的期数次方。"),
            Passage("a#2", "养猫要按时喂水。"),
        ]
    )
    endpoint = serve(script)
    made = step_back(
        endpoint,
        endpoint,
        Prompts(),
        [made_row("100 元按一成复利两期后是多少", "121", method="own")],
        model="m",
        passages=passages,
    )
    assert "复利公式" in seen[0]
    assert "喂水" not in seen[0]
    assert made.rows[0].provenance["retrieved"] is True


# Grounded

KNOWLEDGE = (
    "逾期超过 90 天的账户，客户可在 3 月 31 日前申请分期，最长 24 期，手续费为剩余本金的 2%。"
)


@pytest.mark.parametrize(
    ("spans", "answer", "fault"),
    [
        (["最长 24 期"], "最多分 24 期。", None),
        (["最长24期，手续费为剩余本金的２％"], "手续费 2%。", None),
        (["最长 36 期"], "最多分 24 期。", "span is not in the passage"),
        ([], "最多分 24 期。", "no span given"),
        (["24"], "最多分 24 期。", "span is not in the passage"),
        (["最长 24 期"], "最多分 36 期。", "number is not in the passage"),
        (["最长 24 期"], "1. 先申请\n2. 最多分 24 期", None),
        (["最长 24 期"], "根据资料，最多分 24 期。", "answer speaks of the text"),
    ],
)
def test_an_answer_must_rest_on_words_of_the_passage(spans, answer, fault):
    assert span_fault(KNOWLEDGE, spans, answer, "最多分几期") == fault


def test_grounded_triples_keep_knowledge_and_spans(serve):
    def script(prompt, body):
        if "个读完这段资料" in prompt:
            return "1. 分期最长多少期？\n2. 文中说的手续费是多少？\n3. 分期最长多少期？\n4. 第四个"
        return "依据：\n- 最长 24 期\n答案：最长 24 期。"

    made = grounded(
        serve(script),
        Prompts(),
        Passages([Passage("rules.md#1", KNOWLEDGE)]),
        model="m",
        licence="CC0-1.0",
    )
    assert [(r.question, r.answer, r.provenance["spans"]) for r in made.rows] == [
        ("分期最长多少期？", "最长 24 期。", ["最长 24 期"])
    ]
    assert (made.rows[0].provenance["knowledge"], made.rows[0].provenance["licence"]) == (
        KNOWLEDGE,
        "CC0-1.0",
    )
    assert [reason for reason, _ in made.dropped] == [
        "question points at a text the user does not see",
        "exact repeat",
    ]


def test_passages_are_found_by_topic_and_documents_are_cut_at_sentences(tmp_path):
    file = tmp_path / "rules.md"
    file.write_text(
        "# 还款\n\n"
        + "客户可以申请分期。" * 60
        + "\n\n# 投诉\n\n投诉须在五个工作日内答复，答复要留痕，并由主管复核签字确认，不得敷衍了事。",
        encoding="utf-8",
    )
    passages = read_passages([file], longest=200)
    assert all(len(p.text) <= 200 for p in passages)
    assert all(p.text.endswith(("。", "还款", "投诉")) for p in passages)
    assert "五个工作日" in Passages(passages).about("投诉多久答复")[0].text
    assert Passages(passages).about("量子纠缠") == []


# Answers


def test_plain_and_reasoned_answers(serve):
    def script(prompt, body):
        if "思考：" in prompt:
            return (
                "思考：三乘四是十二。\n验算：十二除以四得三。\n答案：十二"
                if "三乘四" in prompt
                else "十二"
            )
        return "非常感谢您的提问，答案是十二" if "谢" in prompt else "十二"

    teacher = Teacher("t", serve(script))
    rows = [made_row("三乘四", "", method="own"), made_row("谢谢，四乘三", "", method="own")]
    plainly = answers([teacher], teacher.answerer, Prompts(), rows)
    assert ([r.answer for r in plainly.rows], [r for r, _ in plainly.dropped]) == (
        ["十二"],
        ["template opening"],
    )
    reasoned = answers([teacher], teacher.answerer, Prompts(), rows, how="reasoning")
    assert (
        reasoned.rows[0].answer
        == "<think>\n三乘四是十二。\n验算：十二除以四得三。\n</think>\n\n十二"
    )
    assert [r for r, _ in reasoned.dropped] == ["no reasoning apart from the answer"]


def test_the_best_of_several_teachers_is_chosen_whatever_its_place(serve):
    def judge(prompt, body):
        if "都不行" in prompt:
            return "0"
        return re.search(r"回答 (\d)：\n好", prompt)[1]

    teachers = [Teacher("差", serve(lambda p, b: "坏")), Teacher("强", serve(lambda p, b: "好"))]
    rows = [made_row(f"题目{n}", "", method="own") for n in range(6)] + [
        made_row("都不行", "", method="own")
    ]
    made = answers(teachers, serve(judge), Prompts(), rows, how="teachers")
    assert {(row.answer, row.provenance["model"]) for row in made.rows} == {("好", "强")}
    assert [reason for reason, _ in made.dropped] == ["no teacher's answer is good enough"]


# People and model


def test_people_pick_or_rewrite_and_preferences_come_of_it(serve, tmp_path):
    rows = [made_row(f"=题目{n}", "", method="own") for n in range(4)]
    three = three_answers(serve(lambda p, b: f"{p}的答{b['seed']}"), rows)
    sheet = tmp_path / "sheet.xlsx"
    write_sheet(sheet, rows, three)
    with pytest.raises(InputError, match="people's work"):
        write_sheet(sheet, rows, three)
    book = load_workbook(sheet)
    page = book.worksheets[0]
    columns = {cell.value: cell.column for cell in page[1]}
    assert page.cell(2, columns["题目"]).data_type == "s"
    for line, pick, rewrite in ((2, "2", None), (3, 1, "=自己写的"), (4, 0, None)):
        page.cell(line, columns["选哪个"]).value = pick
        page.cell(line, columns["改写"]).value = rewrite
        page.cell(line, columns["改写"]).data_type = "s" if rewrite else "n"
    page.cell(2, columns["准确"]).value = 5
    book.save(sheet)
    made = read_sheet(sheet, rows, three, model="m")
    assert [row.answer for row in made.rows] == ["=题目0的答1", "=自己写的"]
    assert [row.provenance["by"] for row in made.rows] == [
        "picked by people",
        "rewritten by people",
    ]
    assert made.rows[0].provenance["annotation_metrics"] == {"accuracy": 5}
    assert [reason for reason, _ in made.dropped] == ["no answer is good enough", "left empty"]
    write_stage(tmp_path, made, None, {})
    preferences = (tmp_path / "preferences.jsonl").read_text("utf-8").splitlines()
    assert len(preferences) == made.facts["preferences"] == 2 + 3
    page.cell(2, columns["选哪个"]).value = "四"
    book.save(sheet)
    with pytest.raises(InputError, match="row 2: 选哪个"):
        read_sheet(sheet, rows, three, model="m")


# Dialogues


def test_dialogues_are_written_in_scenes_and_dropped_where_a_probe_finds_harm(serve):
    facts = []

    def script(prompt, body):
        amount, day = re.search(r"应还 ([\d.]+) 元，(\d+) 日", prompt).groups()
        facts.append(prompt)
        opens = f"客户：喂，哪位？\n坐席：我是青穗贷专员，请问是您本人吗？\n客户：是我，我发工资就还。\n坐席：您逾期的{amount}元，{day}日在App里还清就行。"
        return (
            opens,
            opens.replace(f"{amount}元", "99999元"),
            opens + "不然我告诉你单位。",
            "坐席：您好。\n客户：你好。",
        )[body["seed"] % 4]

    scenes = read_quotas(COLLECTION / "collection_scenes.yaml")
    probes = read_probes(COLLECTION / "collection_agent.py")
    made = dialogues(serve(script), Prompts(), scenes, probes, model="m", rows=20)
    assert Counter(reason for reason, _ in made.dropped) == {
        "probe wrong_amount": 5,
        "probe threat": 5,
        "no whole dialogue in the reply": 5,
    }
    assert len(made.rows) == 5
    assert [m["role"] for m in made.rows[0].messages] == ["user", "assistant"] * 2
    assert set(made.rows[0].provenance["cell"]) == {"act", "role", "cause", "noise"}
    zh = {v["zh"] for values in scenes.values() for v in values.values()}
    assert all(sum(words in prompt for words in zh) == 4 for prompt in facts)


# Magpie


def test_magpie_opens_user_turns_with_the_models_own_template(serve):
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    raw = []
    questions = [
        "杭州春天适合去哪里走走",
        "再推荐一处人少的地方",
        "怎样给阳台上的薄荷浇水",
        "重复的问题重复的问题",
        "冬天腌雪里蕻要放多少盐",
    ]

    def script(prompt, body):
        if "messages" in body:
            return (
                "去九溪看看，人少。"
                if "杭州" in prompt or "再" in prompt
                else "三天浇一次，见干见湿。"
            )
        raw.append(prompt)
        if "九溪" in prompt:
            return questions[1]
        return (
            {"text": "", "finish_reason": "stop"}
            if body["seed"] == 3
            else questions[(0, 2, 4)[body["seed"] % 3]]
        )

    endpoint = serve(script)
    made = magpie(
        endpoint,
        lambda chat: user_opening(tokenizer, chat, thinking=False),
        stop=["<|im_end|>"],
        rows=4,
        turns=(0.5, 0.5),
    )
    opening = user_opening(tokenizer, [], thinking=False)
    assert raw.count(opening) == 4
    assert tokenizer.apply_chat_template(
        [{"role": "user", "content": "甲"}], tokenize=False
    ).startswith(opening + "甲")
    two = next(row for row in made.rows if len(row.messages) == 4)
    assert two.messages[2]["content"] in questions
    assert "user turn empty or cut" in {reason for reason, _ in made.dropped}
    with pytest.raises(InputError, match="sum to 1"):
        magpie(endpoint, str, stop=[], rows=1, turns=(0.5,))


# Trained rounds, the models of which a scripted endpoint plays; test_trained_rounds trains them


def test_back_translation_trains_a_reverse_model_and_curates_in_two_trained_rounds(serve):
    trained = {}

    def script_of(name):
        def script(prompt, body):
            if name == "Myx":
                number = int(re.search(r"做法(\d+)", prompt)[1])
                return {0: "做法0", 1: ""}.get(number, f"第{number}道菜怎么做？")
            number = int(re.search(r"第(\d+)道菜", prompt)[1])
            return (
                str({"M0": 1 + number % 5, "M1": 5 if number == 7 else 2}[name])
                if number != 9
                else "不好说"
            )

        return script

    def train(rows, name):
        trained[name] = list(rows)
        return serve(script_of(name))

    seeds = [made_row("怎么做番茄炒蛋？", "先炒蛋，再炒番茄。", method="own")]
    texts = [made_row("–", f"做法{n}：切好，下锅。", method="own") for n in range(10)]
    made = back_translation(train, Prompts(), seeds, texts, keep=(2, 3))
    assert list(trained) == ["Myx", "M0", "M1", "M2"]
    assert trained["Myx"][0].answer == "怎么做番茄炒蛋？"
    assert "先炒蛋" in trained["Myx"][0].question
    assert [len(trained[name]) for name in ("M0", "M1", "M2")] == [1, 3, 6]
    assert [row.messages[0]["content"] for row in trained["M1"]] == [
        "以 AI 助手的口吻回答。",
        *["用从网上查到的知识回答。"] * 2,
    ]
    first = [row for row in made.rows if row.provenance["round"] == 1]
    second = [row for row in made.rows if row.provenance["round"] == 2]
    assert [row.question for row in first] == ["第4道菜怎么做？", "第3道菜怎么做？"]
    assert second[0].question == "第7道菜怎么做？"
    assert len(second) == 3
    assert Counter(reason for reason, _ in made.dropped) == {
        "instruction repeats the answer": 1,
        "no instruction in the reply": 1,
        "no score": 1,
        "not among the best of its round": 2,
    }
    with pytest.raises(InputError, match="two trained rounds"):
        back_translation(train, Prompts(), seeds, texts, keep=(2,))


def test_data_distillation_keeps_what_the_teacher_is_sure_of_and_labels_anew_each_round(serve):
    trained = {}

    def train(rows, name):
        trained[name] = len(rows)

        def script(prompt, body):
            sure = -0.01 if prompt == "一" or (prompt == "二" and name != "teacher-0") else -2.0
            return {"text": f"{name}答{prompt}", "logprobs": {"content": [{"logprob": sure}]}}

        return serve(script)

    labelled = [made_row("零", "答零", method="own")]
    unlabelled = [made_row(text, "", method="own") for text in "一二三"]
    made = data_distillation(train, labelled, unlabelled, least_confidence=0.8)
    assert trained == {"teacher-0": 1, "teacher-1": 2, "teacher-2": 3}
    assert [row.answer for row in made.rows] == ["teacher-1答一", "teacher-1答二"]
    assert [r["kept"] for r in made.facts["rounds"]] == [1, 2]
    assert [reason for reason, _ in made.dropped] == ["confidence too low"]
    assert made.rows[0].scores["confidence"] == pytest.approx(0.99, abs=0.001)


def test_a_teacher_without_probabilities_is_refused(serve):
    rows = [made_row("零", "答零", method="own")]
    with pytest.raises(InputError, match="no probabilities"):
        data_distillation(lambda r, n: serve(lambda p, b: "答"), rows, rows, least_confidence=0.8)

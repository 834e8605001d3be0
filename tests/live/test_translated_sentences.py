"""Sentences that are made far from the terminal are Chinese there, held to the code that says them in English."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import guardrail
from guardrail.cli.main import app
from guardrail.ledger.file import RESOLVED_FILE
from guardrail.live.check_terminal import check_lines
from guardrail.live.terminal_words import terminal_words
from guardrail.live.translated_sentences import translated

PACKAGE = Path(guardrail.__file__).parent
CHINESE = yaml.safe_load(
    (PACKAGE / "live/translated_sentences.zh.yaml").read_text(encoding="utf-8")
)
NAME = re.compile(r"\{(\w+)\}")
PYDANTIC = "Input should be "
CHINESE_TERMINAL = {"LANG": "zh_CN.UTF-8", "LC_ALL": ""}


def text_of(node: ast.AST) -> str | None:
    """A text of the code with {} for what is filled in; None for what is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            v.value if isinstance(v, ast.Constant) else "{}"  # type: ignore[misc]
            for v in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(text_of(side) or "{}" for side in (node.left, node.right))
    return None


@pytest.fixture(scope="module")
def said_in_the_code() -> str:
    texts = (
        text_of(node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
    return "\n".join(text for text in texts if text)


def test_every_sentence_that_has_a_translation_is_one_of_the_code(said_in_the_code: str) -> None:
    """A sentence that was reworded in the code is reworded here too: each piece between its values stands there."""
    lost = {
        english: piece
        for english in CHINESE
        if not english.startswith(PYDANTIC)
        for piece in NAME.split(english)[::2]
        if piece.strip(" :;,.`()") and piece not in said_in_the_code
    }
    assert lost == {}


def test_both_languages_fill_in_the_same_values() -> None:
    assert [
        en
        for en, zh in CHINESE.items()
        if sorted(NAME.findall(en)) != sorted(NAME.findall(zh)) and not en.startswith(PYDANTIC)
    ] == []


def test_values_stay_and_sentences_in_a_sentence_are_translated_too() -> None:
    english = "the first 64: 159 tokens on average, 310 at most; 3 CUT at `max_length` 256, the first is row 20"
    assert translated(english, "zh") == (
        "看了前 64 行：平均 159 个词元，最长 310 个；3 行超过 `max_length` 256，会被截断，最先是第 20 行"
    )
    assert translated(english, "en") == english
    assert translated("a sentence nobody has translated", "zh") is None


def test_of_several_errors_each_is_translated_and_an_unknown_one_stays() -> None:
    said = translated(
        "recipe `r.yaml`: unknown key `traner` (did you mean `trainer`?); remove it or mend its spelling; key `seed`: Input should be a "
        "valid integer, unable to parse string as an integer, got 'x'; key `sets` is missing; nobody translated this",
        "zh",
    )
    assert said == (
        "配方 `r.yaml`：没有 `traner` 这个键（是不是 `trainer`？）；请删掉或改正拼写；键 `seed`：应当是整数，写的是 'x'；缺少键 `sets`；"
        "nobody translated this"
    )


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "training data `d.jsonl` contains 2 judged or benchmark prompts: a-1 in row 3 (same: 你好); b-2 in row 9 (near duplicate: "
            "ROUGE-L 0.83). Take the rows out, for what is trained on cannot be judged, or name the ids under `train.allow_overlap`",
            "训练数据 `d.jsonl` 里有 2 道评测题或基准题：a-1 在第 3 行（内容相同：你好）；b-2 在第 9 行（几乎相同：ROUGE-L 0.83）。训练过的题不能再用来评测，"
            "请去掉这些行，或者把题号写进 `train.allow_overlap`",
        ),
        (
            "`train.arguments`: SFTConfig has no `leraning_rate` (did you mean `learning_rate`?); no `no_cuda` (`use_cpu` is its name "
            "now)",
            "`train.arguments`：SFTConfig 没有 `leraning_rate` 这个参数（是不是 `learning_rate`？）；也没有 `no_cuda`（现在叫 `use_cpu`）",
        ),
        (
            "training data `d.json` holds no row to train on: 120 no answer (first `d.json` element 1); 3 tool calls (first `d.json` "
            "element 5); `trainer: ms-swift` needs `messages` (turns with role and content)",
            "训练数据 `d.json` 里没有一行能拿来训练：120 行没有回答（最先是 `d.json` 第 1 条）；3 行有工具调用（最先是 `d.json` 第 5 条）；"
            "`trainer: ms-swift` 需要 `messages`（每轮有 role 和 content）",
        ),
        (
            "training data `d.jsonl` line 4 is not valid JSON (Expecting value: line 1 column 1); mend or drop it",
            "训练数据 `d.jsonl` 第 4 行不是合法的 JSON（Expecting value: line 1 column 1）；请改好或去掉",
        ),
        (
            "key `language`: Input should be 'zh' or 'en', got 'fr'",
            "键 `language`：应当是 'zh'、'en' 之一，写的是 'fr'",
        ),
        (
            "`runs/a` began with another recipe: `seed` was 1 and is 2 and 3 more. Take the one it began with, or say that the change is "
            "meant: --changed-recipe, attach(changed_recipe=True), or GUARDRAIL_CHANGED_RECIPE=1 with `swift`; it is then recorded in "
            "the ledger",
            "`runs/a` 开始时用的是另一份配方：`seed` 原来是 1，现在是 2，另有 3 处。请用开始时的那份；确实要改，就加 --changed-recipe（自己的脚本写 "
            "attach(changed_recipe=True)，`swift` 设 GUARDRAIL_CHANGED_RECIPE=1），改动会记进账本",
        ),
        (
            "`r.py` holds no function `polit`; it holds polite, short",
            "`r.py` 里没有 `polit` 这个函数，只有 polite, short",
        ),
        (
            "reward file `r.py` does not exist; give the path of a Python file",
            "奖励函数文件 `r.py` 不存在；请给出 Python 文件的路径",
        ),
    ],
)
def test_no_english_is_left_in_the_middle_of_a_chinese_error(english: str, chinese: str) -> None:
    assert translated(english, "zh") == chinese


def test_a_tab_in_a_recipe_is_told_in_chinese_before_the_librarys_words(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: a\ntrain:\n\tdata: rows.jsonl\n", encoding="utf-8")
    told = CliRunner().invoke(app, ["check", str(recipe)], env=CHINESE_TERMINAL)
    assert "第 3 行第 1 列是制表符（Tab），YAML 里要用空格（found character" in told.output


def test_a_run_that_is_not_there_is_told_of_in_the_language_of_those_beside_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / RESOLVED_FILE).write_text('{"language": "zh"}', encoding="utf-8")
    asked = CliRunner().invoke(
        app, ["status", str(tmp_path / "nope")], env={"LANG": "C", "LC_ALL": ""}
    )
    assert "请给出 guardrail 训练的运行文件夹" in asked.output


def test_an_error_is_told_in_the_recipes_language_with_the_english_below(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: 客服 微调\ngold_base: base\n", encoding="utf-8")
    both = CliRunner().invoke(app, ["check", str(recipe)])
    assert both.exit_code == 2
    assert "错误：配方" in both.output
    assert "例如 `客服微调-1`，写的是 '客服 微调'" in both.output.replace("；写", "，写")
    assert "error: recipe" in both.output
    for english in (["--lang", "en"], ["--set", "language=en"]):
        one = CliRunner().invoke(app, ["check", str(recipe), *english])
        assert "错误" not in one.output, english
    gone = ["check", str(tmp_path / "gone.yaml")]
    assert "错误" in CliRunner().invoke(app, gone, env={"LANG": "zh_CN.UTF-8", "LC_ALL": ""}).output
    assert "错误" not in CliRunner().invoke(app, gone, env={"LANG": "C", "LC_ALL": ""}).output


def test_what_check_finds_is_chinese_and_no_small_figure_becomes_nothing() -> None:
    facts = {
        "anchors": "absent, will be made in /a",
        "training_rows_left_out": {"no answer": 3, "tool calls": 1},
        "weights_gb": 0.0026,
        "step_seconds": 7.5e-05,
        "share_of_the_run": 0.125,
        "looks": 3,
        "passes_per_prompt_and_epoch": 0.016,
        "rehearsal_items": 400,
    }
    assert list(check_lines(facts, terminal_words("zh"))) == [
        "锚点：还没有，训练前会做在 /a",
        "未用的行：没有回答：3、有工具调用：1",
        "权重（GB）：0.0026",
        "一步（秒）：0.000075",
        "评测占训练时间：12.5%",
        "评测次数：3",
        "每轮约注入 6 道复习题（共 400 道）",
        "复习题数：400",
    ]
    english = list(check_lines(facts, terminal_words("en")))
    assert english[-4:-2] == ["the looks' share of the run: 12.5%", "number of looks: 3"]


@pytest.mark.parametrize(
    ("command", "chinese"),
    [
        (["status", "gone"], "`gone` 里没有 ledger.jsonl；请给出 guardrail 训练的运行文件夹"),
        (["report", "gone"], "`gone` 里没有 ledger.jsonl"),
        (["simulate", "gone.json"], "请给出轨迹文件或运行文件夹"),
        (["look", "gone", "--anchors", "gone"], "错误："),
        (["data", "plan"], "做计划要知道模型有多大"),
        (["data", "plan", "--size", "large"], "模型大小 `large` 看不懂"),
        (["data", "select", "gone.jsonl", "--out", "o", "--keep", "1"], "错误："),
        (["sets", "stats", "gone.jsonl"], "不存在；请给出一个 JSONL 文件的路径"),
        (["sets", "import", "gone.jsonl", "--out", "o.jsonl"], "错误："),
    ],
)
def test_an_error_without_a_recipe_has_the_language_of_the_terminal(
    command: list[str], chinese: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = CliRunner().invoke(app, command, env=CHINESE_TERMINAL)
    assert asked.exit_code == 2, asked.output
    assert chinese in asked.output
    assert "error: " in asked.output
    english = CliRunner().invoke(app, command, env={"LANG": "C", "LC_ALL": ""})
    assert english.exit_code == 2
    assert "错误" not in english.output


def test_an_error_about_a_run_has_the_language_of_its_recipe(tmp_path: Path) -> None:
    (tmp_path / RESOLVED_FILE).write_text('{"name": "客服", "language": "zh"}', encoding="utf-8")
    asked = CliRunner().invoke(app, ["status", str(tmp_path)], env={"LANG": "C", "LC_ALL": ""})
    assert "里还没有 ledger.jsonl" in asked.output
    english = ["status", str(tmp_path), "--lang", "en"]
    assert "错误" not in CliRunner().invoke(app, english, env=CHINESE_TERMINAL).output

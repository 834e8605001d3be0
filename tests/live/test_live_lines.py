"""What the terminal says as a run begins."""

from guardrail.live.terminal import record_lines
from guardrail.live.terminal_words import terminal_words

EN = terminal_words("en")


def said(**fields) -> list[str]:
    return [line.plain for line in record_lines({"kind": "started", "step": 0, **fields}, EN)]


def test_rows_that_open_the_assistants_turn_otherwise_than_looks_are_told_where_most_do():
    (line,) = said(training_rows_opened={"opened": 64, "as_looks": 0})
    assert line.startswith("  64 of the first 64 training rows open the assistant's turn otherwise")
    # Earlier turns of Qwen3's rows have no thinking block, and long rows are cut before the last.
    assert said(training_rows_opened={"opened": 64, "as_looks": 56}) == []
    assert said(training_rows_opened={"opened": 0, "as_looks": 0}) == []
    assert said() == [], "ledgers of earlier versions do not know"


def test_the_self_test_is_told_with_its_noise_and_precision():
    record = {
        "kind": "kl_self_test",
        "step": 0,
        "dtype": "bfloat16",
        "at_start": 0.0,
        "noise": 2.1e-4,
        "perturbed": 0.03,
    }
    (line,) = record_lines(record, EN)
    assert line.plain == (
        "  KL self-test (bfloat16): 0.0e+00 nats a token at the start, rounding explains 2.1e-04, "
        "perturbed 3.0e-02"
    )


def test_rows_that_were_rewritten_or_left_out_are_told_in_chinese_with_their_form():
    record = {
        "kind": "started",
        "step": 0,
        "training_rows_rewritten": {"alpaca": 120},
        "training_rows_left_out": {"no answer": 3},
    }
    lines = [line.plain for line in record_lines(record, terminal_words("zh"))]
    assert lines == ["  改写成对话的训练行：120 行（Alpaca 格式）", "  未用的训练行：3 行没有回答"]

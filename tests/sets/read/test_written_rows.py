"""Which files ms-swift is given as they are, and which rows are written for it."""

import json

import pytest

from guardrail.recipe import read_recipe
from guardrail.trainers.ms_swift.written_rows import WRITTEN, with_written_rows

ROWS = [
    {"messages": [{"role": "user", "content": f"问{n}"}, {"role": "assistant", "content": "答"}]}
    for n in range(3)
]


@pytest.mark.parametrize(
    ("content", "as_it_is"),
    [
        ("".join(json.dumps(row) + "\n" for row in ROWS), True),
        (json.dumps({"train": ROWS}) + "\n", False),
        (json.dumps({f"id{n}": row for n, row in enumerate(ROWS)}), False),
        (json.dumps({"train": ROWS[:1]}, indent=1), False),
        (json.dumps(ROWS), False),
    ],
)
def test_only_a_row_a_line_is_given_as_it_is(content, as_it_is, tmp_path):
    """ms-swift reads no rows inside an object, and would train without them."""
    data, run = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text(content, encoding="utf-8")
    recipe = read_recipe("qwen3-8b-sft-lora-swift", changes=[f"train.data={data}"])
    given = with_written_rows(recipe, run).train.data
    assert str(given) == str(data if as_it_is else run / WRITTEN)
    if not as_it_is:
        lines = (run / WRITTEN).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["messages"][0]["content"] for line in lines] == [
            row["messages"][0]["content"] for row in (ROWS if "问2" in str(lines) else ROWS[:1])
        ]

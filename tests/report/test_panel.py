"""Charts: round ticks, short labels that keep apart, gaps that are seen, lines thinned without losing peaks."""

import pytest

from guardrail.report.page import panel


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 240, [0, 100, 200]),
        (-3, 0, [-3, -2, -1, 0]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list) -> None:
    assert panel.nice_ticks(low, high) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.00025, "2.5e−4"), (1e-3, "1e−3"), (0.0, "0"), (2.0, "2e0")]
)
def test_learning_rates_are_written_short(value: float, expected: str) -> None:
    line = panel.Line("", [(0, value)], label="e")
    drawn = panel.render_panel(panel.Panel("学习率", "", [line]), 1.0)
    assert f">{expected}</span>" in drawn.split('class="ends"')[1]


def test_labels_keep_their_distance_and_stay_inside() -> None:
    placed = panel.spread([99.0, 100.0, 98.0], 100.0)
    assert sorted(placed) == [68.0, 84.0, 100.0]
    assert placed.index(max(placed)) == 1
    assert panel.spread([2.0, 0.0, 1.0], 100.0) == [32.0, 0.0, 16.0]


def test_a_gap_is_marked_and_never_bridged() -> None:
    line = panel.Line("", [(0, 1.0), (1, None), (2, 2.0)])
    drawn = panel.render_panel(panel.Panel("loss", "", [line]), 2.0, gap="no number")
    assert drawn.count('class="line') == 2
    assert '<span class="gap" style="left:50.00%" title="no number">' in drawn


def test_thinning_keeps_ends_and_the_one_peak() -> None:
    points: list[panel.Point] = [(x, 0.0) for x in range(10_000)]
    points[6789] = (6789, 5.0)
    kept = panel.thinned(points)
    assert len(kept) <= 402
    assert (6789, 5.0) in kept
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert kept == sorted(kept)
    assert panel.thinned(points[:400]) == points[:400]


def test_names_are_escaped() -> None:
    line = panel.Line("<b>", [(0, 1.0)], label="{:g}")
    drawn = panel.render_panel(panel.Panel("<i>", "<u>", [line]), 1.0)
    assert not {"<b>", "<i>", "<u>"} & {drawn[i : i + 3] for i in range(len(drawn))}

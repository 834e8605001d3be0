from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.judge.ladder import Judged, LadderConfig, decide
from guardrail.judge.verdict import LEVELS

CONFIG = LadderConfig()


def history(*levels: str) -> list[Judged]:
    return [
        Judged(step, level, ("passed/overall",) if level != "ok" else (), {"passed/overall": 0.1})
        for step, level in enumerate(levels, start=1)
    ]


def test_ok_does_nothing():
    action = decide(history("ok", "ok"), CONFIG)
    assert (action.kind, action.boost, action.lr_factor) == ("none", 1.0, 1.0)


def test_warn_raises_the_kl_weight():
    action = decide(history("warn"), CONFIG)
    assert (action.kind, action.boost, action.lr_factor) == ("raise_kl", 1.5, 1.0)
    assert "passed/overall" in action.reason


def test_the_reason_joins_streams_as_english_does():
    bad = Judged(1, "warn", ("passed/overall", "format/writing"), {"passed/overall": 0.1})
    assert decide([bad], CONFIG).reason == "warn: passed/overall, format/writing"


def test_serious_cuts_the_learning_rate_and_raises_the_kl_weight():
    action = decide(history("serious"), CONFIG)
    assert (action.kind, action.boost, action.lr_factor) == ("cut_lr", 1.5, 0.5)


def test_the_same_level_does_nothing_during_the_cool_down():
    kinds = [decide(history(*["warn"] * n), CONFIG).kind for n in range(1, 5)]
    assert kinds == ["raise_kl", "none", "none", "raise_kl"]


def test_a_higher_level_acts_during_the_cool_down():
    action = decide(history("warn", "serious"), CONFIG)
    assert action.kind == "cut_lr"
    assert action.boost == pytest.approx(2.25)


def test_a_first_critical_look_is_repeated_before_it_halts():
    looks = history("critical")
    assert decide(looks, CONFIG).kind == "repeat_look"
    confirmed = [*looks, Judged(1, "critical", ("passed/overall",), {}, repeat=True)]
    assert decide(confirmed, CONFIG).kind == "halt"


def test_a_critical_look_the_repeat_does_not_confirm_acts_at_its_own_level():
    looks = [*history("critical"), Judged(1, "warn", ("passed/overall",), {}, repeat=True)]
    assert decide(looks, CONFIG).kind == "raise_kl"


def test_serious_that_persists_after_the_second_cut_is_critical():
    looks = history(*["serious"] * 9)
    kinds = [decide(looks[: n + 1], CONFIG).kind for n in range(9)]
    assert kinds[0] == "cut_lr"
    assert kinds.count("cut_lr") >= 2
    assert "repeat_look" in kinds
    asked = kinds.index("repeat_look")
    confirmed = [*looks[: asked + 1], Judged(asked + 1, "serious", (), {}, repeat=True)]
    assert decide(confirmed, CONFIG).kind == "halt"


def test_three_clean_looks_relax_the_kl_weight_and_never_the_learning_rate():
    looks = history("serious", "ok", "ok", "ok")
    action = decide(looks, CONFIG)
    assert action.kind == "relax_kl"
    assert action.boost == pytest.approx(1.2)
    assert action.lr_factor == 0.5


def test_relaxing_waits_until_the_alarmed_stream_is_measured_well_within_its_margin():
    close = [
        *history("warn"),
        *[Judged(s, "ok", (), {"passed/overall": 0.8}) for s in (2, 3, 4)],
    ]
    unmeasured = [*history("warn"), *[Judged(s, "ok", (), {}) for s in (2, 3, 4)]]
    assert decide(close, CONFIG).kind == "none"
    assert decide(unmeasured, CONFIG).kind == "none"


@given(st.lists(st.sampled_from([*LEVELS[:3], "untested"]), min_size=1, max_size=40))
def test_a_look_that_tested_nothing_is_not_clean_and_moves_no_lever(sequence):
    before = (1.0, 1.0)
    clean = 0
    for n, level in enumerate(sequence, start=1):
        looks = history(*sequence[:n])
        action = decide(looks, CONFIG)
        clean = clean + 1 if level == "ok" else clean if level == "untested" else 0
        if level == "untested":
            assert (action.kind, action.boost, action.lr_factor) == ("none", *before)
        if action.kind == "relax_kl":
            assert clean >= CONFIG.clean_looks_to_relax
        before = (action.boost, action.lr_factor)


def test_two_relapses_end_relaxing():
    looks = history(*["warn", "ok", "ok", "ok"] * 4)
    kinds = [decide(looks[: n + 1], CONFIG).kind for n in range(len(looks))]
    assert kinds.count("relax_kl") == 2


def test_an_empty_history_is_an_error():
    with pytest.raises(ValueError, match="at least one look"):
        decide([], CONFIG)


levels = st.lists(st.sampled_from(LEVELS[:3]), min_size=1, max_size=40)


@given(levels)
def test_levers_stay_within_their_bounds_and_the_rate_never_rises(sequence):
    looks = history(*sequence)
    factors = []
    for n in range(1, len(looks) + 1):
        action = decide(looks[:n], CONFIG)
        assert 1.0 <= action.boost <= CONFIG.max_boost
        factors.append(action.lr_factor)
    assert factors == sorted(factors, reverse=True)
    assert min(factors) >= CONFIG.lr_factor**CONFIG.max_lr_cuts


@given(levels)
def test_never_two_raises_on_one_piece_of_evidence(sequence):
    looks = history(*sequence)
    raised_at = None
    for n in range(1, len(looks) + 1):
        action = decide(looks[:n], CONFIG)
        if action.kind in ("raise_kl", "cut_lr"):
            if raised_at is not None and n - raised_at[0] <= CONFIG.cooldown_looks:
                assert LEVELS.index(sequence[n - 1]) > raised_at[1]
            raised_at = (n, LEVELS.index(sequence[n - 1]))


@given(levels)
def test_a_worse_last_look_never_acts_more_mildly(sequence):
    """Monotone in harm: a worse last level never gives a weaker lever; stopping is the strongest."""
    actions = [decide(history(*sequence[:-1], level), CONFIG) for level in LEVELS]

    def strength(action) -> tuple[bool, float, float]:
        stopping = action.kind in ("repeat_look", "halt")
        return (stopping, 0.0 if stopping else action.boost, 0.0 if stopping else -action.lr_factor)

    for milder, worse in pairwise(actions):
        assert strength(milder)[0] <= strength(worse)[0]
        if not strength(worse)[0]:
            assert milder.boost <= worse.boost
            assert milder.lr_factor >= worse.lr_factor

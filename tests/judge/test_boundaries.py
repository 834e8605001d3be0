"""Oracle values and limiting cases of the boundary, and what the rule inherits from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from guardrail.judge.boundaries import (
    Spent,
    bootstrap_maxima,
    draws_needed,
    multipliers,
    spend,
)
from guardrail.judge.rule import (
    Budget,
    DriftConfig,
    MetricRule,
    MetricValues,
    RuleState,
    judge,
)
from guardrail.judge.statistic import guarded, non_inferiority_z, stream_statistic, unit_sums


def boundaries(maxima, alpha: float, looks: int) -> list[float]:
    """The boundary of each look; `maxima(t)` draws the family's largest Z* at look t."""
    spent, found = Spent(), []
    for t in range(1, looks + 1):
        boundary, spent = spend(np.asarray(maxima(t), dtype=np.float32), alpha, t / looks, spent)
        found.append(boundary)
    return found


def test_a_tiny_budget_by_hand():
    assert boundaries(lambda t: [1.5, 2.5, 3.5, 4.5], 0.5, 4) == [math.inf, 3.5, math.inf, 2.5]


def test_frozen_looks_end_at_the_boundary_of_one_look():
    draws = np.random.default_rng(0).standard_normal(200_000)
    found = boundaries(lambda t: draws, 0.05, 50)
    for look in (1, 10, 50):
        assert found[look - 1] == pytest.approx(stats.norm.isf(0.05 * look / 50), abs=0.03)


def test_independent_looks_need_the_union_bound():
    rng = np.random.default_rng(1)
    found = boundaries(lambda t: rng.standard_normal(200_000), 0.05, 50)
    assert found[0] == pytest.approx(3.090, abs=0.05)
    assert found[49] == pytest.approx(3.075, abs=0.05)


def test_one_look_of_six_independent_streams():
    rng = np.random.default_rng(2)
    found = boundaries(lambda t: rng.standard_normal((200_000, 6)).max(axis=1), 0.025, 1)
    assert found[0] == pytest.approx(2.635, abs=0.03)


def test_no_budget_is_no_test_and_never_the_old_boundary():
    spent = Spent()
    first, spent = spend(np.arange(100, dtype=np.float32), 0.05, 1.0, spent)
    assert math.isfinite(first)
    again, after = spend(np.arange(100, dtype=np.float32), 0.05, 1.0, spent)
    assert again == math.inf
    assert after == spent


def test_never_more_draws_are_spent_than_the_budget_has():
    rng = np.random.default_rng(3)
    spent = Spent()
    for t in range(1, 21):
        _, spent = spend(rng.standard_normal(5000).astype(np.float32), 0.04, t / 20, spent)
        assert (~spent.alive(5000)).sum() <= 0.04 * t / 20 * 5001


def test_draws_suffice_for_every_look_of_the_smallest_budget():
    assert draws_needed(50, 0.0025) == 20_000
    assert draws_needed(200, 0.0025) == 80_000
    for looks in (10, 50, 200):
        draws = draws_needed(looks, 0.0025)
        assert all(int(0.0025 * t / looks * (draws + 1)) >= t for t in range(1, looks + 1))


def test_weights_are_the_same_for_the_same_seed():
    multipliers.cache_clear()
    first = multipliers(7, 1000, 30).copy()
    multipliers.cache_clear()
    np.testing.assert_array_equal(multipliers(7, 1000, 30), first)
    assert not np.array_equal(multipliers(8, 1000, 30), first)


def drawn_z(harm, units=None, draws=20_000) -> np.ndarray:
    """Z* of one stream in every draw, 0 where it is not above."""
    units = np.arange(len(harm)) if units is None else units
    sums = unit_sums(harm, units).astype(np.float32)[None]
    sizes = np.bincount(units).astype(np.float32)[None]
    return bootstrap_maxima(multipliers(0, draws, sums.shape[1]), sums, sizes)


def tail(drawn: np.ndarray, z: float) -> float:
    return float((drawn > z).mean())


def guarded_z(harm, z, units=None) -> np.ndarray:
    """z less half of what the statistic's guard takes where no tail of improvements is known of."""
    moments = stream_statistic(harm, units)
    return np.asarray((z + guarded(z, max(moments.skewness, 0.0), moments.units)) / 2)


@pytest.mark.parametrize("clustered", [False, True])
def test_symmetric_harm_gives_the_normal_tail_also_with_clusters(clustered):
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(60), 5)
    harm = rng.normal(0, 1, 60)[clusters] + rng.normal(0, 0.3, 300)
    for sign in (1, -1):
        drawn = drawn_z(sign * harm, clusters if clustered else None)
        for z in (1.8, 2.0, 2.5):
            assert tail(drawn, guarded_z(sign * harm, z, clusters if clustered else None)) == (
                pytest.approx(stats.norm.sf(z), rel=0.25)
            )


def test_rare_harm_has_a_thin_tail_and_rare_improvement_that_of_a_plain_bootstrap():
    rare = (np.arange(50) < 3).astype(float)
    weights = multipliers(0, 20_000, 50)
    assert tail(drawn_z(rare), 2.5) < 0.3 * stats.norm.sf(2.5)
    deviation = -(rare - rare.mean())
    plain = deviation @ weights / math.sqrt(50 / 49 * (deviation @ deviation))
    seen = plain > 1.5
    np.testing.assert_allclose(drawn_z(-rare)[seen], guarded_z(-rare, plain[seen]), atol=1e-4)


def test_of_what_the_guard_takes_from_a_symmetric_stream_half_is_taken_from_its_draws():
    """Else such a stream, as most are, pays twice: at n = 50 a z of 4.3 loses 0.3, the boundary nothing."""
    harm = np.random.default_rng(5).normal(0, 1, 25)
    harm = np.concatenate([harm, -harm])
    moments = stream_statistic(harm)
    assert moments.skewness == pytest.approx(0, abs=1e-9)
    moved = replace(moments, mean=moments.se * 4.3)
    lost = 4.3 - non_inferiority_z(moved, 0.0)
    assert lost > 0.25
    shrunk, plain = drawn_z(harm, draws=200_000), stats.norm.isf(1e-3)
    assert tail(shrunk, plain) < 0.9e-3
    assert tail(shrunk, float(guarded_z(harm, plain))) == pytest.approx(1e-3, rel=0.2)


def test_the_largest_of_several_streams_is_the_largest_of_each_alone():
    rng = np.random.default_rng(6)
    harm = rng.normal(0, 1, (3, 40)) + (rng.random((3, 40)) < 0.1)
    weights = multipliers(0, 5000, 40)
    sums = (harm - harm.mean(axis=1, keepdims=True)).astype(np.float32)
    sums[2, 25:] = 0  # a stream on some of the items only
    sizes = np.ones((3, 40), dtype=np.float32)
    sizes[2, 25:] = 0
    together = bootstrap_maxima(weights, sums, sizes)
    alone = [bootstrap_maxima(weights, sums[[k]], sizes[[k]]) for k in range(3)]
    np.testing.assert_allclose(together, np.max(alone, axis=0), atol=2e-4)  # rounded


def test_z_of_a_draw_is_the_statistic_of_its_units():
    rng = np.random.default_rng(7)
    harm = rng.exponential(1.0, 30)
    weights = multipliers(0, 2000, 30)
    drawn = drawn_z(harm, draws=2000)
    above = np.flatnonzero(drawn)
    assert len(above) > 20
    for number in above:
        units = np.repeat(harm, weights[:, number].astype(int))
        summed = (units.mean() - harm.mean()) * len(units)
        t = summed / math.sqrt(30 / 29 * ((units - units.mean()) ** 2).sum())
        assert drawn[number] == pytest.approx(stats.norm.isf(stats.t.sf(t, 29)), rel=1e-3)


def test_clusters_widen_the_standard_error():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(40), 5)
    harm = rng.normal(0, 1, 40)[clusters] + rng.normal(0, 0.3, 200)
    alone, clustered = stream_statistic(harm), stream_statistic(harm, clusters)
    assert (alone.units, clustered.units) == (200, 40)
    assert alone.mean == clustered.mean
    # the variance of a mean of 40 independent cluster means
    of_means = harm.reshape(40, 5).mean(axis=1)
    assert clustered.se == pytest.approx(of_means.std(ddof=1) / math.sqrt(40))
    assert clustered.se > 1.8 * alone.se


N = 120
GROUPS = ["甲"] * 60 + ["乙"] * 60
LENGTH = MetricRule("lower", 0.10, 0.22)


def measured(seed: int, copies: int = 1) -> dict[str, MetricValues]:
    rng = np.random.default_rng(seed)
    base = rng.normal(5, 0.4, (N, 4))
    now = base.mean(axis=1) - 0.05 + rng.normal(0, 0.3, N)
    return {f"length-{k}": MetricValues(base, now) for k in range(copies)}


def config(copies: int = 1, looks: int = 5) -> DriftConfig:
    return DriftConfig({f"length-{k}": LENGTH for k in range(copies)}, planned_looks=looks)


def run(copies=1, order=None, looks=5, settings=None, clusters=None):
    state, found = RuleState(), []
    for seed in range(looks):
        values = measured(seed, copies)
        groups = GROUPS
        if order is not None:
            values = {k: MetricValues(v.base[order], v.current[order]) for k, v in values.items()}
            groups = [GROUPS[i] for i in order]
        verdict, state = judge(values, groups, settings or config(copies), state, clusters=clusters)
        found.append((verdict, state))
    return found


def test_a_duplicated_stream_leaves_the_boundaries_exactly_as_they_were():
    one, two = run(1), run(2)
    for (v1, _), (v2, _) in zip(one, two, strict=True):
        assert v1.streams[0].boundary_warn == v2.streams[0].boundary_warn
        assert v1.streams[1].boundary_halt == v2.streams[1].boundary_halt


def test_the_state_resumes_bit_for_bit():
    whole = run()
    values = measured(4)
    _, state = whole[3]
    copy = replace(state, spent={k: Spent(str(s.dead)) for k, s in state.spent.items()})
    verdict, after = judge(values, GROUPS, config(), copy)
    assert verdict == whole[4][0]
    assert after == whole[4][1]


def test_adding_to_harm_and_margin_alike_changes_nothing():
    values = measured(0)["length-0"]
    shifted = MetricValues(values.base, values.current - 0.25)
    settings = DriftConfig({"length-0": replace(LENGTH, margin=0.35, critical=0.47)}, 5)
    (before, _), (after, _) = (
        judge({"length-0": values}, GROUPS, config(), RuleState()),
        judge({"length-0": shifted}, GROUPS, settings, RuleState()),
    )
    for a, b in zip(before.streams, after.streams, strict=True):
        assert a.z == pytest.approx(b.z, abs=1e-9)
        assert a.boundary_warn == pytest.approx(b.boundary_warn, abs=1e-5)


def test_a_cluster_is_one_draw_and_too_few_are_not_tested():
    clusters = [f"模板{i // 12}" for i in range(N)]
    verdict, _ = run(clusters=clusters, looks=1)[0]
    assert {s.reason for s in verdict.streams} == {
        "10 independent clusters, 20 are needed",
        "5 independent clusters, 20 are needed",
    }
    named = [f"模板{i // 4}" for i in range(N)]
    verdict, _ = run(clusters=named, looks=1)[0]
    assert [s.tested for s in verdict.streams] == [True, False, False]


def test_levels_are_nested_and_movement_inside_the_margin_is_marked():
    base = np.ones((N, 4))
    rule = {"passed": MetricRule("lower", 0.2, 0.4, worst=0.0)}
    for fallen in range(0, N + 1, 6):
        now = np.ones(N)
        now[:fallen] = 0.0
        verdict, _ = judge(
            {"passed": MetricValues(base, now)}, ["all"] * N, DriftConfig(rule, 5), RuleState()
        )
        (stream,) = verdict.streams
        assert stream.boundary_halt >= stream.boundary_warn
        assert stream.z >= stream.z_critical
        assert stream.attention == (stream.level == "ok" and stream.low > 0)
        if fallen == 12:
            assert (stream.level, stream.attention) == ("ok", True)
        if fallen == 0:
            assert not stream.attention


# --- A plan that changes on the way -----------------------------------------------------------------


def changing_plan(rng, settings, change):
    """Judge looks at nulls under a plan that `change` may redraw before each; return levels and states."""
    base = np.zeros((N, 1))
    shared = rng.normal(0, 1, N)  # looks share their items, and much of how they fall
    state, planned, found = RuleState(), settings.planned_looks, []
    for _ in range(40):
        planned = change(rng, state, planned, found)
        final = state.looks_used + 1 >= planned
        harm = 0.2 + 0.8 * shared + 0.6 * rng.normal(0, 1, N)
        values = {"length-0": MetricValues(base, base[:, 0] - harm)}
        now = replace(settings, planned_looks=planned)
        verdict, state = judge(values, GROUPS, now, state, final=final)
        found.append((verdict, state))
        if final:
            break
    return found


def redrawn(rng, state, planned, found):
    """Another number of looks ahead, now and then, whatever the verdicts were."""
    return state.looks_used + int(rng.integers(1, 9)) if rng.random() < 0.4 else planned


NULL = DriftConfig(
    {"length-0": MetricRule("lower", 0.2, 0.5)},
    planned_looks=4,
    overall=Budget(0.1, 0.05),
    by_ability=Budget(0.1, 0.05),
)


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_that_changes_spends_no_more_than_the_budget(seed):
    found = changing_plan(np.random.default_rng(seed), NULL, redrawn)
    draws = found[0][1].draws
    shares = [state.share for _, state in found]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for name, alpha in (("warn", 0.1), ("halt", 0.05)):
        for family in ("overall", "by ability"):
            dead = [int((~s.spent[f"{name} {family}"].alive(draws)).sum()) for _, s in found]
            for count, share in zip(dead, shares, strict=True):
                assert count <= alpha * share * (draws + 1) + 1e-6
            assert dead[-1] > 0.9 * alpha * draws, "the final look spends what is left"


def test_without_a_change_the_looks_get_equal_shares():
    shares = [state.share for _, state in run()]
    assert shares == pytest.approx([k / 5 for k in range(1, 5)] + [4 / 5])


def test_whom_a_run_is_lengthened_for_makes_no_difference_that_shows():
    """Five looks, and five more where the fourth was close to an alarm: the budget is 5 %, the standard error 0.3."""
    rng, alpha, few, many, together = np.random.default_rng(0), 0.05, 5, 10, 0.8

    def looks(runs):
        shared, own = rng.standard_normal((1, runs)), rng.standard_normal((many, runs))
        return math.sqrt(together) * shared + math.sqrt(1 - together) * own

    drawn = looks(20_000).astype(np.float32)

    def plan(lengthened):
        share, spent, found = 0.0, Spent(), []
        for look in range(many if lengthened else few):
            ahead = (many if lengthened and look >= 4 else few) - look
            share = share + (1 - share) / ahead
            boundary, spent = spend(drawn[look], alpha, share, spent)
            found.append(boundary)
        return np.array(found)[:, None]

    short, long = plan(False), plan(True)
    z = looks(5_000)
    assert (short[:4] == long[:4]).all()
    early = (z[:4] > short[:4]).any(axis=0)
    for lengthened in (np.zeros(5_000, bool), rng.random(5_000) < 0.5, z[3] > short[3] - 0.7):
        late = np.where(lengthened, (z[4:] > long[4:]).any(axis=0), z[4] > short[4])
        assert (early | late).mean() < alpha + 3 * math.sqrt(alpha * (1 - alpha) / 5_000)

"""Comparisons of optimizers, on made-up tables: by hand, against others' programs, and what must always hold."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optbench.stats import aggregates, bootstrap, paired, profiles, ranking, times, tunability

NAMES = [f"method_{i}" for i in range(30)]


def rows_of(values, column="compared", **others) -> pd.DataFrame:
    """Rows from an array [optimizers, problems, seeds] or nested lists of uneven length."""
    found = [
        {"optimizer": NAMES[o], "problem": f"task_{p:02d}", "seed": s, column: float(value), **others}
        for o, problems in enumerate(values)
        for p, seeds in enumerate(problems)
        for s, value in enumerate(seeds)
    ]
    return pd.DataFrame(found)


def column_of(found: pd.DataFrame, column: str) -> list:
    """A column in the order of the optimizers' names."""
    return found.sort_values("optimizer")[column].tolist()


def random_table(seed: int, optimizers=4, problems=5, seeds=5, failing=0.1) -> np.ndarray:
    """Positive numbers of which some are failures."""
    generator = np.random.default_rng(seed)
    values = 10 ** generator.normal(size=(optimizers, problems, seeds))
    return np.where(generator.random(values.shape) < failing, np.inf, values)


# --- the array and its bootstrap ---------------------------------------------------------------------------


def test_a_table_sorts_pads_and_says_what_is_missing():
    rows = rows_of([[[3, 1, 2], [5]], [[9, 8], [7, 6]]])
    data = bootstrap.table(rows.sample(frac=1, random_state=0), "compared")
    assert data.counts.tolist() == [[3, 1], [2, 2]]
    assert data.values[0].tolist() == [[1, 2, 3], [5, math.inf, math.inf]]
    assert bootstrap.medians(data).tolist() == [[2, 5], [8.5, 6.5]]
    with pytest.raises(ValueError, match="1 pairs of optimizer and problem"):
        bootstrap.table(rows[(rows["optimizer"] != NAMES[0]) | (rows["problem"] != "task_01")], "compared")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 20])
def test_the_law_of_a_resampled_median_is_that_of_resampling(count):
    drawn = 40_000
    picks = np.median(np.random.default_rng(1).integers(count, size=(drawn, count)), axis=1)
    data = bootstrap.table(rows_of([[range(count)]]), "compared")
    ours = bootstrap.resampled_medians(data, drawn)[:, 0, 0]
    for at in np.unique(picks):
        assert abs((picks <= at).mean() - (ours <= at).mean()) < 5 * 0.5 / math.sqrt(drawn)


def test_weights_draw_each_stratum_as_often_as_it_has_seeds():
    data = bootstrap.table(rows_of([[[1, 2, 3], [4]], [[5, 6], [7, 8, 9, 10]]]), "compared")
    weights = bootstrap.resampled_weights(data, 500)
    assert (weights.sum(axis=-1) == data.counts).all()
    assert not weights[:, 0, 1, 1:].any()
    assert np.abs(weights.mean(axis=0)[1, 1] - 1).max() < 0.2


def test_intervals_cover_the_median_at_their_nominal_rate():
    """A percentile interval of 25 seeds covers the true median in about 95 of 100 experiments."""
    generator = np.random.default_rng(3)
    data = bootstrap.table(rows_of(np.exp(generator.normal(size=(1, 1000, 25)))), "compared")
    low, high = bootstrap.interval(bootstrap.resampled_medians(data, 800))
    covered = ((low <= 1) & (high >= 1)).mean()
    assert 0.92 < covered < 0.98


def test_intervals_cover_scores_and_interquartile_means():
    """Scores over problems drawn anew, and interquartile means over seeds, in 400 and 200 experiments."""
    generator = np.random.default_rng(4)
    ratio = np.exp(generator.exponential(size=(400, 40)))
    truth = np.exp(np.random.default_rng(5).exponential(size=10**6))
    expected = profiles.areas(truth).mean()
    each = profiles.areas(ratio)
    low, high = bootstrap.over_problems(each.mean(axis=-1), bootstrap.left_out(each), (0, 1))
    assert 0.91 < ((low <= expected) & (high >= expected)).mean() < 0.98

    values = generator.normal(size=(200, 4, 20)) + np.arange(4)[:, None]
    many = np.random.default_rng(6).normal(size=(4, 50_000)) + np.arange(4)[:, None]
    low_half, high_half = np.quantile(many, (0.25, 0.75))
    expected = many[(many > low_half) & (many < high_half)].mean()
    data = bootstrap.table(rows_of_many(values), "compared")
    low, high = bootstrap.interval(aggregates.trimmed_means(data, bootstrap.resampled_weights(data, 200)))
    assert 0.90 < ((low <= expected) & (high >= expected)).mean() < 0.99


def rows_of_many(values: np.ndarray) -> pd.DataFrame:
    """Rows of many optimizers, made without a loop."""
    o, p, s = (index.ravel() for index in np.indices(values.shape))
    names = [np.char.zfill(index.astype(str), 5) for index in (o, p)]
    return pd.DataFrame({"optimizer": names[0], "problem": names[1], "seed": s, "compared": values.ravel()})


# --- profiles ----------------------------------------------------------------------------------------------


def test_profiles_and_scores_by_hand():
    # Two problems: the second is solved by the first method only; the third by nobody.
    rows = rows_of([[[10.0], [8.0], [math.inf]], [[20.0], [math.inf], [math.inf]]], "time")
    found = profiles.algoperf_scores(rows)
    assert column_of(found, "score") == pytest.approx([2 / 3, (4 - 2) / 3 / 3])
    assert column_of(found, "solved") == [2, 1]
    assert column_of(found, "fastest") == [2, 0]
    profile = profiles.performance_profiles(rows, points=3).set_index(["optimizer", "ratio"])["share"]
    assert profile[NAMES[0]].tolist() == pytest.approx([2 / 3] * 3)
    assert profile[NAMES[1]].tolist() == pytest.approx([0, 1 / 3, 1 / 3])  # at ratios 1, 2, 4


def test_a_score_is_the_area_under_the_profile():
    rows = rows_of(random_table(7, problems=9, failing=0.2), "time")
    profile = profiles.performance_profiles(rows, points=401)
    scores = profiles.algoperf_scores(rows).set_index("optimizer")
    for name, curve in profile.groupby("optimizer"):
        for column in ("share", "low", "high"):
            area = np.trapezoid(curve[column], curve["ratio"]) / (profiles.CEILING - 1)
            if column == "share":
                assert area == pytest.approx(scores.loc[name, "score"], abs=3e-3)
        assert scores.loc[name, "low"] <= scores.loc[name, "score"] <= scores.loc[name, "high"]


def test_what_is_solved_at_the_start_is_a_tie():
    rows = rows_of([[[0.0]], [[0.0]], [[3.0]]], "time")
    assert column_of(profiles.algoperf_scores(rows), "score") == [1, 1, 0]


def test_algoperfs_published_rule_by_its_own_steps():
    """The steps of scoring/performance_profile.py on a frame, with one variant that is held out."""
    values = 10 ** np.random.default_rng(17).normal(size=(5, 4, 1), scale=0.3)
    values[2, 1] = math.inf
    rows = rows_of(values, "time")
    found = profiles.algoperf_scores(rows, rule="algoperf", held_out={"task_03": "task_00"})
    frame = pd.DataFrame(values[..., 0], index=NAMES[:5])
    frame = frame.where(frame <= 4 * frame.min())  # a missing time is never within a ratio
    frame.loc[frame[3].isna(), 0] = math.nan
    frame = frame[[0, 1, 2]] / frame[[0, 1, 2]].min()
    taus = np.linspace(1, 4, 100)
    profile = np.stack([(frame <= tau).sum(axis=1) / 3 for tau in taus], axis=-1)
    assert column_of(found, "score") == pytest.approx(np.trapezoid(profile, taus) / 3)
    exact = profiles.algoperf_scores(rows[rows["problem"] != "task_03"])
    assert abs(np.array(column_of(exact, "score")) - column_of(found, "score")).max() > 0


def test_every_resample_applies_the_rule_again():
    times = 10 ** np.random.default_rng(18).normal(size=(6, 3, 4), scale=0.3)
    names, held = ("a", "b", "c", "a2"), {"a2": "a"}
    together = profiles.contributions(times, names, "algoperf", held)
    for one, each in zip(times, together, strict=True):
        assert each == pytest.approx(profiles.contributions(one, names, "algoperf", held))
    alone = profiles.contributions(times[:, :1], names, "algoperf", held)
    assert (alone == 1).all(), "without the others each is the fastest"


# --- pairs of optimizers -----------------------------------------------------------------------------------


def test_pairs_on_one_problem_against_scipy():
    from scipy import stats

    values = 10 ** np.random.default_rng(19).normal(size=(3, 1, 6), scale=0.2)
    values[1] *= 2
    logs = np.log10(values[:, 0])
    found = paired.differences(rows_of(values).sample(frac=1, random_state=1)).set_index(
        ["optimizer", "other"]
    )
    for a, b in itertools.combinations(range(3), 2):
        theirs = stats.ttest_rel(logs[a], logs[b])
        row = found.loc[(NAMES[a], NAMES[b])]
        assert row["p"] == pytest.approx(theirs.pvalue)
        ends = theirs.confidence_interval()
        assert np.log10(row[["low", "high"]].astype(float)).tolist() == pytest.approx([ends.low, ends.high])
    assert paired.share_interval(3, 5) == pytest.approx(stats.binomtest(3, 5).proportion_ci())
    assert paired.share_interval(0, 5)[0] == 0
    one_sided = stats.ttest_1samp(logs[0], 0.1, alternative="less").pvalue
    assert paired.below(values[0, 0], 10**0.1) == pytest.approx(one_sided)
    each = np.random.default_rng(20).normal(size=(2, 7))
    row = paired.mean_difference(each[0] - each[1])
    theirs = stats.ttest_rel(*each)
    assert (row["p"], row["low"]) == pytest.approx((theirs.pvalue, theirs.confidence_interval().low))


def test_a_sole_leader_is_better_than_each_other_and_a_failed_seed_is_no_lead():
    seeds = np.array([1.0, 2.0, 3.0, 5.0, 8.0])
    noise = np.array([1.0, 1.02, 0.97, 1.01, 0.99])
    rows = rows_of([[seeds], [2 * seeds * noise], [1.01 * seeds * noise]])
    found = paired.spreads(rows, "compared")
    assert found["leads"].tolist() == [True, False, True]
    assert found["low"].tolist() == [1.0, *(2 * seeds * noise).min(keepdims=True), 1.01]
    without = paired.spreads(rows[rows["optimizer"] != NAMES[2]], "compared")
    assert without["leads"].tolist() == [True, False]
    assert ranking.mean_ranks(rows[rows["optimizer"] != NAMES[2]])["wins"].tolist() == [1, 0]
    # A rival that reaches in 3 of 5 seeds: no difference is significant, and its own failures do not end it.
    some = rows_of([[[10, 12, 11, math.inf, math.inf]], [[20, 30, 40, 50, 60]]])
    assert paired.spreads(some, "compared")["leads"].all()


# --- ranks -------------------------------------------------------------------------------------------------

DEMSAR = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9752 0.9748
0.957 0.978 0.946 0.970
"""
"""Areas under the curve of four variants of C4.5 on 14 data sets: table 6 of Demsar 2006, where more is better.

Two numbers that are printed alike have a digit more here: their printed ranks differ."""


@pytest.fixture(scope="module")
def demsar() -> np.ndarray:
    """As errors [4, 14, 1], so that less is better."""
    areas = np.array([[float(word) for word in line.split()] for line in DEMSAR.split("\n") if line])
    return (1 - areas).round(6).T[..., None]


def test_ranks_and_friedman_as_published(demsar):
    found = ranking.mean_ranks(rows_of(demsar))
    assert column_of(found, "rank") == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    tested = ranking.friedman(rows_of(demsar))
    # The paper leaves the correction for ties out: 9.28 and 3.69.
    ranks = np.array(column_of(found, "rank"))
    plain = 12 * 14 / 20 * ((ranks**2).sum() - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    assert tested.chi2 > plain


def test_friedman_against_scipy(demsar):
    from scipy import stats

    for values in (demsar, random_table(8, 5, 7)):
        middles = np.median(values, axis=-1)
        theirs = stats.friedmanchisquare(*stats.rankdata(middles, axis=0))
        ours = ranking.friedman(rows_of(values))
        assert (ours.chi2, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))
        assert ranking.ranks(middles) == pytest.approx(stats.rankdata(middles, axis=0))
    assert math.isnan(ranking.friedman(rows_of(random_table(9, 2))).p)
    assert ranking.friedman(rows_of(np.ones((3, 4, 1)))).p == 1


@pytest.mark.parametrize(("values", "p"), [([1.0, 2.0, 3.0], 1 / 6), ([1.0, 1.0, 3.0], 1 / 3)])
def test_two_problems_that_agree_are_not_certain(values, p):
    """The report said p = 0 of two problems; of 6 orders, one in 6 second problems repeats the first."""
    twice = np.array(values)[:, None, None].repeat(2, axis=1)
    tested = ranking.friedman(rows_of(twice))
    assert math.isinf(tested.f)
    assert tested.f_p == pytest.approx(p)


def test_iman_and_davenport_as_published():
    """Demsar's own numbers, without ties: chi2 9.28 of 4 on 14 gives F 3.69."""
    chi2, k, n = 9.28, 4, 14
    assert (n - 1) * chi2 / (n * (k - 1) - chi2) == pytest.approx(3.69, abs=5e-3)
    untied = random_table(10, k, n, 1, failing=0)
    tested = ranking.friedman(rows_of(untied))
    assert tested.f == pytest.approx((n - 1) * tested.chi2 / (n * (k - 1) - tested.chi2))


def test_what_rounding_sets_apart_shares_a_rank():
    values = np.array([[0.0167130921, math.inf, 0.0, 1e-310], [0.0167130916, math.inf, 0.0, 2e-310]])
    assert ranking.ranks(values).T.tolist() == [[1.5, 1.5]] * 3 + [[1, 2]]
    assert ranking.ranks(np.array([[1.0], [1.00001], [1 - 1e-9]])).T.tolist() == [[1.5, 3, 1.5]]


def test_pairs_of_two_are_a_sign_test():
    from scipy import stats

    values = random_table(10, 2, 12, 1, failing=0)
    (row,) = ranking.pairs(rows_of(values)).to_dict("records")
    assert row["better"] + row["worse"] == row["problems"] == 12
    assert row["p"] == pytest.approx(stats.binomtest(row["better"], 12).pvalue)


@pytest.mark.parametrize(("optimizers", "problems"), [(3, 6), (4, 8), (6, 9)])
def test_pairs_are_rejected_one_step_after_the_other(optimizers, problems):
    """As Romano and Wolf have it: what differs is taken out, and the largest difference of the others is drawn anew."""
    values = (
        random_table(11, optimizers, problems, 1, failing=0) * np.logspace(0, 6, optimizers)[:, None, None]
    )
    each = ranking.ranks(values[..., 0])
    signs = np.array(list(itertools.product((-1, 1), repeat=problems)))
    every = list(itertools.combinations(range(optimizers), 2))
    gaps = {(i, j): each[i] - each[j] for i, j in every}
    differ, level = set(), math.inf
    while True:
        left = [gaps[pair] for pair in every if pair not in differ]
        level = max(np.quantile(abs(signs @ np.transpose(left)).max(axis=1), 0.95, method="inverted_cdf"), 0)
        more = {pair for pair in every if abs(gaps[pair].sum()) > level} - differ
        if not more:
            break
        differ |= more
        if len(differ) == len(every):
            break
    p = ranking.chances(each)
    assert differ
    assert {pair for pair in every if p[pair] <= ranking.ALPHA} == differ


def test_differences_that_have_no_logarithm():
    inf = math.inf
    gaps = paired.log_gaps(np.array([1, inf, 2, inf, 0, 0, -1]), np.array([10, inf, inf, 2, 0, 5, 1]))
    assert gaps == pytest.approx([-1, 0, -2, 2, 0, -2, -2])


@pytest.mark.parametrize("optimizers", [2, 3, 6, 11])
def test_how_many_problems_a_difference_needs(optimizers):
    for problems in (ranking.LEAST_PROBLEMS - 1, ranking.LEAST_PROBLEMS):
        each = np.tile(np.arange(1.0, optimizers + 1)[:, None], problems)
        assert (ranking.chances(each) <= ranking.ALPHA).any() == (problems == ranking.LEAST_PROBLEMS)


def test_many_problems_have_some_of_their_signs():
    each = np.tile([[1.0], [2.0]], 40)
    assert ranking.flips_of(each).shape == (ranking.FLIPS, 2)
    assert ranking.chances(each)[0, 1] == 1 / ranking.FLIPS  # none but the observed ones


def test_the_best_is_among_the_candidates():
    """By hand: who loses everywhere is out over five problems and not over four, as 2^-5 < 5 % < 2^-4."""
    each = np.tile(np.arange(1.0, 3.0)[:, None], 5)
    assert ranking.may_be_best(each).tolist() == [True, False]
    assert ranking.may_be_best(each[:, :4]).tolist() == [True, True]
    assert ranking.may_be_best(each[::-1]).tolist() == [False, True]
    values = rows_of(np.tile([[[2.0]], [[1.0]], [[1.0]]], (1, 6, 1)))
    assert ranking.candidates(values) == NAMES[1:3]


def test_cliques_by_hand():
    ranked = pd.DataFrame({"optimizer": list("abcd"), "rank": [1.2, 2.0, 3.0, 3.8]})
    tested = pd.DataFrame({"optimizer": ["a", "a"], "other": ["c", "d"], "differ": [True, True]})
    found = ranking.cliques(ranked, tested).groupby("clique")["optimizer"].agg("".join)
    assert found.tolist() == ["ab", "bcd"]
    assert ranking.cliques(ranked, tested.assign(differ=False))["clique"].max() == 0


# --- aggregates --------------------------------------------------------------------------------------------


def test_interquartile_means_against_scipy():
    from scipy import stats

    values = random_table(13, 3, 4, 4, failing=0)  # 16 runs: the quarters are whole runs
    found = aggregates.interquartile_means(rows_of(values, "progress"))
    assert column_of(found, "iqm") == pytest.approx([stats.trim_mean(runs.ravel(), 0.25) for runs in values])
    assert (found["low"] <= found["iqm"]).all()
    assert (found["iqm"] <= found["high"]).all()


def test_interquartile_means_weigh_problems_alike():
    # One seed of the second problem weighs as much as the four of the first.
    rows = rows_of([[[1, 1, 1, 1], [3]]], "progress")
    assert aggregates.interquartile_means(rows)["iqm"].tolist() == [2.0]
    rows = rows_of([[[1, 1, 1, 1], [math.inf]]], "progress")
    assert aggregates.interquartile_means(rows)["iqm"].tolist() == [math.inf]


def test_the_probability_of_improvement_against_mann_and_whitney():
    from scipy import stats

    values = random_table(14, 3, 4, 6).round(1)  # rounded, so that some tie
    found = aggregates.improvement(rows_of(values)).set_index(["optimizer", "other"])
    finite = np.where(np.isfinite(values), values, 1e9)
    for a, b in itertools.permutations(range(3), 2):
        u = [stats.mannwhitneyu(finite[b, p], finite[a, p]).statistic / 36 for p in range(4)]
        row = found.loc[(NAMES[a], NAMES[b])]
        assert row["probability"] == pytest.approx(np.mean(u))
        assert row["low"] <= row["probability"] <= row["high"]
        other = found.loc[(NAMES[b], NAMES[a])]
        assert row["probability"] + other["probability"] == pytest.approx(1)
        assert row["low"] + other["high"] == pytest.approx(1)


# --- time to target ----------------------------------------------------------------------------------------


def test_expected_running_time_and_penalty_by_hand():
    rows = rows_of([[[10, 20, math.inf, 30]]], "time", budget=100.0)
    found = times.times_to_target(rows).iloc[0]
    assert found["reached"] == 3
    assert found["ert"] == pytest.approx((10 + 20 + 100 + 30) / 3)
    assert found["par"] == pytest.approx((10 + 20 + 1000 + 30) / 4)
    assert found["middle"] == 25
    assert found["high"] == math.inf
    assert found["ert_low"] <= found["ert"] <= found["ert_high"]
    never = times.times_to_target(rows_of([[[math.inf] * 2]], "time", budget=100.0)).iloc[0]
    assert (never["ert"], never["par"], never["reached"]) == (math.inf, 1000, 0)


def test_runtime_distributions_by_hand():
    reached = pd.DataFrame(
        {
            "problem": ["a", "a", "b", "b"],
            "optimizer": "x",
            "seed": 0,
            "rung": [1, 2, 1, 2],
            "time": [1.0, 100.0, 10.0, math.inf],
            "budget": 100.0,
        }
    )
    found = times.distributions(reached, points=3, decades=2)
    assert found["spent"].tolist() == pytest.approx([0.01, 0.1, 1.0])
    assert found["share"].tolist() == pytest.approx([0.25, 0.5, 0.75])
    # Decades left of the budget: 2, 0, 1 and none, of 2 each.
    assert times.areas_under(reached, decades=2)["area"].tolist() == pytest.approx([3 / 8])


# --- tunability --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [0, 2])
def test_the_best_of_k_trials_against_every_draw(failed):
    values = np.sort(np.append(np.random.default_rng(15).exponential(size=6), [math.inf] * failed))
    expected, middle = tunability.expected_best(values), tunability.median_best(values)
    for k in range(1, len(values) + 1):
        draws = np.sort([min(draw) for draw in itertools.combinations(values, k)])
        assert expected[k - 1] == pytest.approx(draws.mean())
        assert middle[k - 1] == draws[math.ceil(len(draws) / 2) - 1]
    assert expected[-1] == middle[-1] == values[0]


# --- what an order depends on ------------------------------------------------------------------------------


def test_flips_by_hand():
    # a beats b on two problems of three; c lies between them on the third only.
    values = [[[1], [1], [9]], [[2], [2], [1]], [[3], [3], [5]]]
    found = ranking.flips(rows_of(values))
    # Mean ranks 5/3, 5/3, 8/3 with all: a and b are level, so nothing of theirs can flip.
    assert not ((found["ahead"] == NAMES[0]) & (found["behind"] == NAMES[1])).any()
    # a without c: 1, 1, 2 against 2, 2, 1.  Without the first problem a has (1 + 3) / 2 and c (3 + 2) / 2.
    without = found[found["left_out"] == "task_00"]
    assert without.empty
    values = [[[1], [9], [2]], [[2], [1], [3]], [[9], [2], [1]]]
    found = ranking.flips(rows_of(values))
    # All mean ranks are 2: no order, no flip.
    assert found.empty


def test_a_shared_rank_is_no_flip_and_a_disagreement_of_two_orders_is_told():
    # Mean ranks 1.33, 1.67; without the first problem 1.5 each; without the third 1 and 2.
    found = ranking.flips(rows_of([[[1], [1], [9]], [[2], [2], [1]]]))
    assert found[["left_out", "flipped"]].to_numpy().tolist() == [["task_00", False], ["task_01", False]]
    assert "draws level with" in found["says"].iloc[0]
    # Better on two of three, but far slower on the third.
    rows = rows_of([[[10], [10], [90]], [[11], [11], [10]]], "time").assign(
        compared=lambda rows: rows["time"]
    )
    assert ranking.disagreements(rows) == [(NAMES[0], NAMES[1])]
    # The first fails on a variant of the first problem, which by AlgoPerf's rule then does not count for it.
    times = [[[10], [math.inf], [10], [10]], [[13], [10], [24], [24]]]
    held = rows_of(times, "time").assign(compared=lambda rows: rows["time"])
    problems = sorted(held["problem"].unique())
    assert ranking.disagreements(held) == []
    assert ranking.disagreements(held, "algoperf", {problems[1]: problems[0]}) == [(NAMES[0], NAMES[1])]
    assert ranking.lead_of_first(rows)["difference"] == pytest.approx(1 / 3)


def test_a_flip_is_a_sentence_with_its_numbers():
    values = [[[1], [1], [9], [9]], [[2], [2], [8], [1]], [[9], [9], [1], [2]]]
    rows = rows_of(values)
    ranks = ranking.mean_ranks(rows).set_index("optimizer")["rank"]
    assert ranks.to_dict() == {NAMES[0]: 2.0, NAMES[1]: 1.75, NAMES[2]: 2.25}
    found = ranking.flips(rows)
    row = found[(found["left_out"] == "task_03") & (found["behind"] == NAMES[0])].iloc[0]
    # Without it: a 5/3, b 2.
    assert (row["ahead"], row["kind"]) == (NAMES[1], "problem")
    assert (row["before"], row["after"]) == pytest.approx((0.25, -1 / 3))
    assert row["says"] == f"Without task task_03, {NAMES[1]} falls behind {NAMES[0]} (mean rank, by 0.33)."


# --- what must always hold ---------------------------------------------------------------------------------

SUMMARIES = {
    "score": (lambda rows: profiles.algoperf_scores(rows.assign(time=rows["compared"])), "score", 1),
    "rank": (ranking.mean_ranks, "rank", -1),
    "iqm": (
        lambda rows: aggregates.interquartile_means(rows.assign(progress=1 / (1 + rows["compared"]))),
        "iqm",
        1,
    ),
}
"""Frames with a row for each optimizer: how made, which column, and whether more is better."""


@pytest.mark.parametrize("name", SUMMARIES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), failing=st.sampled_from([0.0, 0.3, 0.8]))
def test_the_order_of_rows_does_not_matter_and_equals_tie(name, seed, failing):
    make, column, _ = SUMMARIES[name]
    values = random_table(seed, failing=failing)
    values[1] = values[0]
    rows = rows_of(values)
    found = make(rows)
    assert column_of(found, column)[0] == pytest.approx(column_of(found, column)[1])
    shuffled = make(rows.sample(frac=1, random_state=seed % 1000).reset_index(drop=True))
    pd.testing.assert_frame_equal(found, shuffled)


@pytest.mark.parametrize("name", SUMMARIES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), place=st.integers(0, 24))
def test_a_failure_never_improves_a_score(name, seed, place):
    make, column, sign = SUMMARIES[name]
    values = random_table(seed)
    before = column_of(make(rows_of(values)), column)
    values[0].flat[place] = math.inf
    after = column_of(make(rows_of(values)), column)
    assert sign * after[0] <= sign * before[0] + 1e-12


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), place=st.integers(0, 4))
def test_a_failure_never_shortens_a_time_nor_raises_a_probability(seed, place):
    values = random_table(seed, 2, 1, 5) * 10
    within = np.where(values <= 50, values, np.inf)

    def numbers() -> list[float]:
        found = times.times_to_target(rows_of(within, "time", budget=50.0)).iloc[0]
        better = aggregates.improvement(rows_of(within)).iloc[0]["probability"]
        return [found["ert"], found["par"], found["middle"], -better]

    before = numbers()
    within[0, 0, place] = np.inf
    assert all(new >= old - 1e-9 for new, old in zip(numbers(), before, strict=True))


# --- speed -------------------------------------------------------------------------------------------------


def test_two_thousand_resamples_of_a_large_table_take_less_than_a_second():
    """11 optimizers x 14 tasks x 5 seeds; the bound is CPU time of everything that is resampled, together."""
    values = random_table(16, 11, 14, 5)
    rows = rows_of(values, "time", compared=0.0, progress=0.0)
    rows["compared"], rows["progress"] = rows["time"], 1 / (1 + rows["time"])
    profiles.algoperf_scores(rows.iloc[: 14 * 5 * 2])  # imports
    begun = time.process_time()
    profiles.algoperf_scores(rows)
    ranking.mean_ranks(rows)
    aggregates.interquartile_means(rows)
    aggregates.improvement(rows)
    seconds = time.process_time() - begun
    print(f"scores, ranks, interquartile means, improvement: {seconds:.2f} s of CPU")
    assert seconds < 1.0

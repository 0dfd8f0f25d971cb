"""Results as tables for a reader and as objects for a program."""

import json
import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from gradquake.analysis import power as power_analysis
from gradquake.analysis.resampling import Interval
from gradquake.analysis.specifications import importance, shares
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.tails import tail_fit, tail_fits
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES
from gradquake.avalanche.surrogates import RUNGS
from gradquake.experiments import xor
from gradquake.experiments.readings import Reading
from gradquake.paper.xor.statements import shares_table, specifications_json, statements
from gradquake.report import json as report_json
from gradquake.report import tables
from gradquake.report.json import finite
from gradquake.report.tables import SYMBOLS, Table, bracketed, number, time_with_interval, with_interval
from gradquake.scrutiny import sensitivity, topologies
from gradquake.scrutiny.measure import measure
from gradquake.scrutiny.scrutinize import scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.topologies import on_topologies
from gradquake.study.recording import to_dataset

HIDDEN = (3, 5, 8, 13)
SCALES = [13, 21, 33, 53]
RESAMPLES = 40
ENDS = {"estimate", "low", "high"}
NAN = math.nan


@dataclass(frozen=True)
class Value:
    """A value with its interval."""

    estimate: float
    interval: Interval
    runs: int = 6


def value(estimate, low=NAN, high=NAN, invalid=0.0):
    return Value(estimate, Interval(low, high, invalid))


def trained(seeds=3, **settings):
    return to_dataset(xor.measure(xor.sweep(HIDDEN, seeds, **settings)))


@pytest.fixture(scope="module")
def sweep():
    found = trained(epochs=200)
    assert np.isfinite(found["grokking_epoch"]).all()
    return found


@pytest.fixture(scope="module")
def found(sweep):
    return scrutinize(sweep, n_resamples=RESAMPLES)


@pytest.fixture(scope="module")
def flat_sweep():
    """A sweep that learns nothing."""
    return trained(seeds=2, epochs=60, learning_rate=1e-4)


@pytest.fixture(scope="module")
def flat(flat_sweep):
    return scrutinize(flat_sweep, ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="module")
def halted():
    """Under scrutiny, a sweep with a scale at which no run groks."""
    dataset = trained(epochs=100)
    grokked = np.isfinite(dataset["grokking_epoch"].values)
    assert grokked.any()
    assert not grokked[:3].any()
    return scrutinize(dataset, ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="module")
def single():
    """Under scrutiny, a sweep of single runs, which have no intervals."""
    return scrutinize(trained(seeds=1, epochs=200), ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="module")
def on_each(sweep):
    return on_topologies(sweep, n_resamples=RESAMPLES)


def specified(sweep):
    """The specification curve under few choices of the probe."""
    few = {
        "SPECIFIED_QUANTILES": (0.8, 0.9),
        "SPECIFIED_ALPHAS": (0.3,),
        "SPECIFIED_STEPS": (20,),
        "TOPOLOGIES": ("barabasi_albert", "ring"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, values in few.items():
            patch.setattr(topologies if name == "TOPOLOGIES" else sensitivity, name, values)
        return specify([sweep])


@pytest.fixture(scope="module")
def choices(sweep):
    return specified(sweep)


def strict(value):
    """Return what a program reads that takes nothing but JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


# Numbers as text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (None, "none"),
        (NAN, "none"),
        (0.0, "0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (0.00012345, "0.00012"),
        (-0.00012345, "-0.00012"),
        (0.00123456, "0.001"),
        (0.95518, "0.955"),
        (-0.0501, "-0.050"),
        (9.8765, "9.877"),
        (28.356, "28.4"),
        (-28.356, "-28.4"),
        (214.67, "215"),
        (1e6, "1000000"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (np.float64(0.5), "0.500"),
    ],
)
def test_numbers_are_short(of, text):
    assert number(of) == text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ((0.95, 0.9, 1.25), "0.950 [0.900, 1.250]"),
        ((12.0, 10.5, math.inf), "12 [10.5, inf]"),
        ((0.95, None, None), "0.950"),
        ((0.95, NAN, NAN), "0.950"),
        ((NAN, NAN, NAN), "none"),
        ((None, None, None), "none"),
    ],
)
def test_a_value_without_an_interval_stands_alone(of, text):
    assert bracketed(*of) == text
    if None not in of:
        assert with_interval(value(*of)) == text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (value(123.4, 110.2, 150.7), "123 [110, 151]"),
        (value(0.4, -12.3, 14.0), "0 [-12, 14]"),
        (value(123.4, invalid=0.07), "123 (7% of resamples without)"),
        (value(math.inf, invalid=1.0), "never"),
        (value(NAN, invalid=1.0), "none"),
    ],
)
def test_a_time_without_an_interval_says_how_often_there_is_none(of, text):
    assert time_with_interval(of) == text


@pytest.mark.parametrize(
    ("of", "expected"),
    [(0.5, 0.5), (np.float64(2), 2.0), (NAN, None), (math.inf, None), (-math.inf, None), (0, 0.0)],
)
def test_json_knows_finite_numbers_only(of, expected):
    assert finite(of) == expected
    assert type(finite(of)) is type(expected)


# Tables


def test_a_table_as_markdown():
    table = Table("Heading", ("a", "b"), [("1", "2"), ("3", "")], "A note.")
    assert table.markdown() == (
        "## Heading\n\nA note.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |\n"
    )


def test_a_table_without_a_note_has_no_empty_lines_for_it():
    assert Table("Heading", ("a",), []).markdown() == "## Heading\n\n| a |\n| --- |\n"


def tables_of(scrutiny, statistics=STATISTICS):
    ladder = scrutiny.ladder
    # Without snapshots after t_g there is no row for them, nor for the rise.
    after = math.isfinite(ladder.exponent("real", "post", "max").value)
    yield tables.exponents_table(ladder, statistics), (3 if after else 2) * len(statistics)
    yield tables.attribution_table(ladder, statistics), (4 if after else 2) * len(statistics)
    if scrutiny.timing:
        yield tables.timing_table(scrutiny, statistics), 3 * len(statistics)
    yield tables.collapse_table({"": scrutiny.collapses}), 3 * (1 + len(ladder.nulls))


def check_table(table, rows):
    assert len(table.rows) == rows
    assert len(set(table.header)) == len(table.header)
    for row in table.rows:
        assert len(row) == len(table.header)
        # A bar would be another cell, a line another row.
        assert not any("|" in cell or "\n" in cell for cell in row)
    assert "nan" not in table.markdown()


@pytest.mark.parametrize("name", ["found", "flat", "halted", "single"])
@pytest.mark.parametrize("statistics", [STATISTICS, ("mean",)])
def test_rows_are_as_wide_as_their_header(name, statistics, request):
    of = request.getfixturevalue(name)
    for table, rows in tables_of(of, statistics):
        check_table(table, rows)
        if table.header[0] == "exponent":
            assert {row[0] for row in table.rows} == {SYMBOLS[s] for s in statistics}


def test_further_tables_are_as_wide_as_their_header(sweep, on_each, choices):
    check_table(tables.topologies_table({"a": on_each, "b": on_each}), 2 * 8 * 4)
    check_table(tables.topologies_table({"": on_each}, ("max",)), 8 * 2)
    check_table(tables.tails_table(tail_fits(sweep)), 4)
    check_table(tables.power_table(powers(sweep)), 2 * 4)
    check_table(shares_table(choices), len(statements(choices).data_vars))
    check_table(tables.importance_table(choices), 6)


@pytest.mark.parametrize("first", [0, 1])
def test_a_tail_without_a_fit_has_a_row_as_wide_as_the_others(first):
    sizes = np.random.default_rng(0).zipf(2.5, 400)
    fits = [tail_fit(sizes, 85), tail_fit([1, 1], 21)]
    assert fits[0].comparisons
    assert not fits[1].comparisons
    table = tables.tails_table(fits if first == 0 else fits[::-1])
    check_table(table, 2)
    assert f"N = 21: {fits[1].message}" in table.note
    strict([report_json.tail_json(fit) for fit in fits])


def test_tables_of_nothing_have_no_rows():
    check_table(tables.power_table([]), 0)
    check_table(tables.tails_table([]), 0)
    check_table(tables.topologies_table({}), 0)
    check_table(tables.collapse_table({}), 0)


def test_the_exponents_stand_beside_their_nulls(found):
    table = tables.exponents_table(found.ladder)
    row = table.rows[2]
    assert row[:2] == ("D (largest)", "post")
    by_name = dict(zip(table.header, row, strict=True))
    ladder = found.ladder
    assert by_name["real"] == with_interval(ladder.exponent("real", "post", "max"))
    for rung in RUNGS:
        expected = with_interval(ladder.exponent(rung, "post", "max"))
        assert by_name[rung.replace("_", " ")] == expected
    fit = ladder.exponent("real", "post", "max").fit
    assert by_name["R²"] == number(fit.r_squared)
    said = next(line for line in table.note.splitlines() if "D (largest) post" in line)
    assert "only 4 scales" in said
    assert "left out" not in table.note


def test_the_attribution_is_in_the_order_of_its_sum(found):
    table = tables.attribution_table(found.ladder)
    three = ("estimator", "distribution", "arrangement", "above gaussian")
    assert table.header[:7] == ("exponent", "of what", "measured", *three)
    ladder = found.ladder
    spans = ("all", "pre", "post", "rise")
    for row, span in zip(table.rows, spans, strict=False):
        assert row[1] == ("rise" if span == "rise" else f"{span} - 1")
        d = ladder.value("real", span, "max").value
        assert row[2].startswith(number(d if span == "rise" else d - 1) + " [")
        assert row[5] == with_interval(ladder.arrangement(span, "max"))


def test_the_topologies_note_does_not_say_how_many_scales_another_sweep_has(on_each):
    assert "Eight" not in tables.topologies_table({"": on_each}).note


def test_what_has_no_fit_says_why(flat):
    table = tables.exponents_table(flat.ladder, ("max",))
    assert "post" not in [row[1] for row in table.rows]
    assert (
        "D (largest) post: left out. There is no snapshot at N = 13, 21, 33, 53.\nNo run grokked"
        in table.note
    )
    assert "What cannot be fitted is left out." in tables.attribution_table(flat.ladder).note


# Objects


@pytest.mark.parametrize("name", ["found", "flat", "halted", "single"])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_an_analysis_is_strict_json_that_agrees_with_the_ladder(name, statistic, request):
    of = request.getfixturevalue(name)
    ladder, name_of = of.ladder, {"max": "D", "mean": "gamma"}[statistic]
    read = strict(report_json.analysis_json(of, statistic))
    assert read["statistic"] == statistic
    assert read["settings"] == ladder.real.dataset.attrs
    for phase in PHASES:
        exponent = ladder.exponent("real", phase, statistic)
        assert read[name_of][phase]["estimate"] == finite(exponent.value)
        assert read[name_of][phase]["low"] == finite(exponent.low)
        assert read[name_of][phase]["high"] == finite(exponent.high)
        assert read[name_of][phase]["r_squared"] == finite(exponent.fit.r_squared)
        assert read[name_of][phase]["message"] == exponent.fit.message
        assert read[name_of][phase]["cautions"] == list(exponent.cautions)
        snapshots = ladder.real.snapshot_interval(phase, statistic)
        assert read[name_of][phase]["snapshot_ci_low"] == finite(snapshots.low)
        assert read[name_of][phase]["snapshot_ci_high"] == finite(snapshots.high)
        excess = ladder.arrangement(phase, statistic)
        assert read["arrangement"][phase] == {
            "estimate": finite(excess.value),
            "low": finite(excess.low),
            "high": finite(excess.high),
        }
        assert read["arrangement"][phase] == read["attribution"][phase]["arrangement"]
        details = ladder.attribution(phase, statistic).details
        parts = ["estimator", "distribution", "arrangement", *details]
        assert list(read["attribution"][phase]) == parts
        for rung in ladder.nulls:
            null = ladder.exponent(rung, phase, statistic)
            assert read["nulls"][rung][phase]["estimate"] == finite(null.value)
            assert read["nulls"][rung][phase]["low"] == finite(null.low)
            assert read["nulls"][rung][phase]["high"] == finite(null.high)
    assert set(read["nulls"]) == set(read[f"nulls_{name_of}_t"]) == set(ladder.nulls)
    assert set(read["collapse"]) == {"real", *ladder.nulls}
    for rung, of_rung in of.collapses.items():
        for phase, collapse in of_rung.items():
            assert read["collapse"][rung][phase]["quality"] == finite(collapse.quality)
    for rung in ("real", *ladder.nulls):
        curve = (ladder.real if rung == "real" else ladder.nulls[rung]).curves[statistic]
        written = read[f"{name_of}_t"] if rung == "real" else read[f"nulls_{name_of}_t"][rung]
        assert written["epoch"] == curve.dimension["epoch"].values.tolist()
        values = [finite(v) for v in curve.dimension["value"].values.tolist()]
        assert written["value"] == values
        assert len(written["low"]) == len(written["high"]) == len(values)
        assert written["crossing"]["estimate"] == finite(curve.crossing.value)
        assert written["crossing"]["resamples_without"] == curve.crossing.invalid
    assert (read["timing"] is None) == (not of.timing)
    pre, post = (read[name_of][phase]["estimate"] for phase in SPLIT_PHASES)
    excess = [read["arrangement"][phase]["estimate"] for phase in SPLIT_PHASES]
    assert set(read["arrangement"]) == set(read["attribution"]) == {*PHASES, "rise"}
    if post is None:
        assert read["rise"]["estimate"] is read["arrangement"]["rise"]["estimate"] is None
    else:
        assert read["rise"]["estimate"] == pytest.approx(post - pre)
        assert read["arrangement"]["rise"]["estimate"] == pytest.approx(excess[1] - excess[0])


def test_intervals_are_null_where_a_scale_has_a_single_run(single):
    read = strict(report_json.analysis_json(single, "max"))
    for of in (read["D"], read["nulls"]["permuted"], read["arrangement"]):
        assert of["all"]["estimate"] is not None
        assert of["all"]["low"] is of["all"]["high"] is None
    assert set(read["D_t"]["low"]) == {None}


def test_grokking_epochs_by_scale(found, halted):
    for of, seeds in ((found, 3), (halted, 3)):
        dataset = of.ladder.real.dataset
        for n, scale in zip(
            SCALES, strict(report_json.analysis_json(of, "max"))["grokking"], strict=True
        ):
            reached = dataset["grokking_epoch"].values[dataset["n_parameters"].values == n]
            grokked = int(np.isfinite(reached).sum())
            assert (scale["n_parameters"], scale["runs"]) == (n, seeds)
            assert scale["runs_that_grok"] == grokked
            late = np.where(np.isnan(reached), np.inf, reached)
            assert scale["median"] == finite(float(np.median(late)))


def test_timing_agrees(found):
    for statistic in STATISTICS:
        of = found.timing[statistic]
        read = strict(report_json.analysis_json(found, statistic))
        for name, crossing in (
            ("crossing_of_one", of.of_one),
            ("crossing_of_null", of.of_null),
            ("lag_of_one", of.lag_of_one),
            ("lag_of_null", of.lag_of_null),
            ("aligned_crossing_of_null", of.aligned_of_null),
        ):
            assert read["timing"][name]["estimate"] == finite(crossing.value)
        aligned = read["timing"]["aligned"]
        assert aligned["epoch"] == of.aligned.dimension["epoch"].values.tolist()
        assert min(aligned["epoch"]) < 0 < max(aligned["epoch"])
        assert read["timing"]["follows_grokking"]["p_value"] == finite(of.follows.p_value)


def test_a_topology_is_strict_json(on_each):
    for on in on_each:
        read = strict(report_json.topology_json(on))
        assert read["topology"] == on.topology
        for statistic, phase in product(STATISTICS, SPLIT_PHASES):
            of = read[statistic][phase]
            assert set(of) == {"real", "permuted", "gaussian", "arrangement"}
            for rung in ("real", "permuted", "gaussian"):
                expected = on.exponent(rung, phase, statistic)
                assert of[rung]["estimate"] == finite(expected.value)
                assert of[rung]["r_squared"] == finite(expected.fit.r_squared)
            assert of["arrangement"]["estimate"] == finite(on.arrangement(phase, statistic).value)
        assert set(read["collapse"]) == set(SPLIT_PHASES)


def powers(sweep):
    null = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    return power_analysis.power(sweep, {"permuted": null}, [2, 3], n_resamples=RESAMPLES)


def test_power_is_strict_json(sweep):
    for of in powers(sweep):
        read = strict(report_json.power_json(of))
        assert (read["runs"], read["statistic"], read["phase"]) == (of.runs, of.statistic, of.phase)
        # A single group does not scatter.
        assert (read["scatter"] is None) == (of.groups == 1)
        assert read["above_null"] == {n: above._asdict() for n, above in of.above_null.items()}


def test_power_without_a_value_is_strict_json(flat_sweep, flat):
    null = flat.ladder.nulls["permuted"].dataset
    for of in power_analysis.power(flat_sweep, {"permuted": null}, [2], n_resamples=RESAMPLES):
        read = strict(report_json.power_json(of))
        assert (read["above_null"]["permuted"]["value"] is None) == (of.phase == "post")


def test_a_tail_is_strict_json(sweep):
    for fit in tail_fits(sweep):
        read = strict(report_json.tail_json(fit))
        assert read["n_parameters"] == fit.n_parameters
        assert read["value"] == finite(fit.exponent)
        assert set(read["against"]) == {c.alternative for c in fit.comparisons}


def test_specifications_are_strict_json(choices):
    read = strict(specifications_json(choices))
    assert read["specifications"] == choices["pre"].size == 2 * 2 * 3 * 3 * 5
    holds = statements(choices)
    assert set(read["holds"]) == {str(name) for name in holds.data_vars}
    for name, of in read["holds"].items():
        found = shares(holds[name])
        assert (of["share"], of["by_choice"]) == found
    varied = [str(name) for name, levels in choices["pre"].sizes.items() if levels > 1]
    assert varied == ["topology", "quantile", "statistic", "interval", "scales"]
    for name, of in read["importance"].items():
        assert list(of) == varied
        assert 0 < sum(of.values()) <= 1 + 1e-9, name
    expected = importance(choices["post"])
    assert read["importance"]["D after"] == {name: expected[name] for name in varied}
    assert tables.importance_table(choices).header[2:] == tuple(varied)


def test_specifications_without_a_d_after_are_reported_as_such(flat_sweep):
    table = specified(flat_sweep)
    assert table["post"].isnull().all()
    read = strict(specifications_json(table))
    assert read["holds"]["D after > 1"]["share"] == 0
    check_table(shares_table(table), len(statements(table).data_vars))
    check_table(tables.importance_table(table), 6)

"""Results as tables."""

import math

import numpy as np
import pytest

from gradquake.analysis import power as power_analysis
from gradquake.analysis.shown import number
from gradquake.analysis.specifications import judged, statements
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.tails import tail_fit, tail_fits
from gradquake.avalanche.surrogates import RUNGS
from gradquake.experiments.readings import Reading
from gradquake.report import tables
from gradquake.report.tables import SYMBOLS
from gradquake.report.text import with_interval
from gradquake.scrutiny.measure import measure

RESAMPLES = 40


def powers(sweep):
    null = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    return power_analysis.power(sweep, {"permuted": null}, [2, 3], n_resamples=RESAMPLES)


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
    holds = judged(choices, statements)
    check_table(tables.shares_table(choices, holds), len(holds))
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
    parts = ("estimator", "distribution", "arrangement", "imprint", "above gaussian")
    assert table.header[:8] == ("exponent", "of what", "measured", *parts)
    ladder = found.ladder
    spans = ("all", "pre", "post", "rise")
    for row, span in zip(table.rows, spans, strict=False):
        assert row[1] == ("rise" if span == "rise" else f"{span} - 1")
        d = ladder.value("real", span, "max").value
        assert row[2].startswith(number(d if span == "rise" else d - 1) + " [")
        assert row[5] == with_interval(ladder.arrangement(span, "max"))
        assert row[6] == with_interval(ladder.imprint(span, "max"))


def test_the_topologies_note_does_not_say_how_many_scales_another_sweep_has(on_each):
    assert "Eight" not in tables.topologies_table({"": on_each}).note


def test_what_has_no_fit_says_why(flat):
    table = tables.exponents_table(flat.ladder, ("max",))
    assert "post" not in [row[1] for row in table.rows]
    assert (
        "D (largest) post: left out. There is no snapshot at N = 13, 21, 33, 53.\nNo run grokked"
        in table.note
    )
    assert "Rows without a fit are left out." in tables.attribution_table(flat.ladder).note


def test_specifications_without_a_d_after_have_rows(flat_choices):
    assert flat_choices["post"].isnull().all()
    holds = judged(flat_choices, statements)
    check_table(tables.shares_table(flat_choices, holds), len(holds))
    check_table(tables.importance_table(flat_choices), 6)

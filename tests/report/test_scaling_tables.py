"""Tables of fewer scales, moments and the parts of the rise say the numbers that they are made of."""

import numpy as np

from gradquake.analysis.rise import rise_parts
from gradquake.analysis.sweep import analyze
from gradquake.analysis.transitions import SPLIT_PHASES
from gradquake.report.scaling_tables import (
    fewer_scales_json,
    fewer_scales_table,
    moments_table,
    rise_parts_json,
    rise_parts_table,
    slopes_table,
)
from gradquake.report.text import with_interval

SCALES = (41, 81, 121, 201)


def sweep(sweep_of, runs=12):
    rng = np.random.default_rng(5)
    sizes = {n: rng.poisson(n, (runs, 10)) + 1 for n in SCALES}
    return sweep_of(sizes, {n: [4] * runs for n in SCALES}, epochs=np.arange(10))


def test_a_table_has_each_slope_and_each_fit(sweep_of):
    of = analyze(sweep(sweep_of), n_resamples=40)
    slopes, fewer = slopes_table(of, ("mean",)), fewer_scales_table(of, ("mean",))
    assert slopes.header[2:] == ("N 41 to 81", "N 81 to 121", "N 121 to 201")
    assert [row[1] for row in slopes.rows] == [row[1] for row in fewer.rows] == list(SPLIT_PHASES)
    found = of.without_scales("pre", "mean")
    assert fewer.header[2:5] == ("all sizes", "without 1 largest", "without 2 largest")
    assert fewer.rows[0][3] == with_interval(found.without_largest[1])
    assert fewer.rows[0][5] == with_interval(found.without_smallest[1])
    values = fewer_scales_json(of)["pre"]["mean"]
    assert values["without_largest"][1]["value"] == found.without_largest[1].value
    assert [s["larger"] for s in values["local_slopes"]] == list(SCALES[1:])


def test_there_is_no_fit_of_two_sizes(sweep_of):
    of = analyze(sweep(sweep_of), n_resamples=40)
    assert fewer_scales_table(of).rows[0][4] == "none"
    assert fewer_scales_json(of)["pre"]["max"]["without_largest"][2]["value"] is None


def test_the_parts_of_a_rise_stand_with_their_shares(sweep_of):
    data = sweep(sweep_of)
    for null in (None, data):
        parts = rise_parts(data, "mean", null, n_resamples=50)
        first, second = rise_parts_table({"data": {"mean": parts}}).rows
        assert first[2] == with_interval(parts.rise)
        assert len(first) == len(second) == 8
        assert first[7] == ("" if null is None else with_interval(parts.null))
        found = rise_parts_json(parts)
        assert found["shares"]["own"]["value"] == parts.shares["own"].value
        assert ("null" in found) == ("null" in found["shares"]) == (null is not None)


def test_moments_say_their_form(sweep_of):
    of = analyze(sweep(sweep_of), n_resamples=40)
    rows = moments_table({"data": of.moments}).rows
    assert [row[:2] for row in rows] == [("data", phase) for phase in SPLIT_PHASES]
    assert rows[0][-1] == of.moments["pre"].form

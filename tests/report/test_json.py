"""Results as JSON, against the schema in the docs."""

import json
import math
from itertools import product
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from gradquake.analysis import power as power_analysis
from gradquake.analysis.specifications import importance, judged, shares, statements
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.tails import tail_fit, tail_fits
from gradquake.analysis.transitions import PHASES, SPLIT_PHASES
from gradquake.experiments.readings import Reading
from gradquake.report.json import (
    analysis_json,
    finite,
    power_json,
    specifications_json,
    tail_json,
    topology_json,
    written,
)
from gradquake.report.result import Result
from gradquake.scrutiny.measure import measure

SCALES = [13, 21, 33, 53]
RESAMPLES = 40
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/analyze.schema.json").read_text("utf-8"))


def strict(value):
    """Return what a program reads that takes nothing but JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


def ends(estimate):
    return {name: finite(getattr(estimate, name)) for name in ("value", "low", "high")}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (0.5, 0.5), (np.float64(2), 2.0), (math.nan, None), (math.inf, None), (-math.inf, None),
        (0, 0.0),
    ],
)  # fmt: skip
def test_json_knows_finite_numbers_only(of, expected):
    assert finite(of) == expected
    assert type(finite(of)) is type(expected)


def test_what_is_written_is_ascii_without_control_codes():
    text = written({"a\x7f\x9b": [math.nan, -math.inf, 1.5]})
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == {"a\x7f\x9b": ["NaN", "-Infinity", 1.5]}


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", ["found", "flat", "halted", "single"])
@pytest.mark.parametrize("statistics", [tuple(STATISTICS), ("max",), ("mean",)])
def test_a_result_fits_the_schema(name, statistics, request):
    result = Result(request.getfixturevalue(name), statistics)
    read = json.loads(result.to_json(), parse_constant=pytest.fail)
    jsonschema.validate(read, SCHEMA)
    assert read["reading"] == result.reading
    assert tuple(read["dimension"]) == tuple(statistics)


def test_a_whole_result_fits_the_schema(found, on_each, choices):
    result = Result(found, nulls=True, topologies=tuple(on_each), specifications=choices)
    read = json.loads(result.to_json(), parse_constant=pytest.fail)
    jsonschema.validate(read, SCHEMA)
    assert len(read["topologies"]) == len(on_each)
    assert read["sensitivity"]["specifications"] == choices["pre"].size
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read, "D": 1}, SCHEMA)


@pytest.mark.parametrize("name", ["found", "flat", "halted", "single"])
def test_an_analysis_agrees_with_its_ladder(name, request):
    of = request.getfixturevalue(name)
    ladder = of.ladder
    read = strict(analysis_json(of))
    assert read["settings"] == ladder.real.dataset.attrs
    for phase, statistic in product(PHASES, STATISTICS):
        exponent, written_one = (
            ladder.exponent("real", phase, statistic),
            read["exponents"][phase][statistic],
        )
        over_snapshots = ladder.real.snapshot_interval(phase, statistic)
        assert written_one == {
            **ends(exponent),
            "r_squared": finite(exponent.fit.r_squared),
            "message": exponent.fit.message,
            "cautions": list(exponent.cautions),
            "over_snapshots": {
                "value": finite(exponent.value),
                **{n: finite(getattr(over_snapshots, n)) for n in ("low", "high")},
            },
        }
        for rung in ladder.nulls:
            null = read["nulls"][rung][phase][statistic]
            assert null.items() >= ends(ladder.exponent(rung, phase, statistic)).items()
    for span, statistic in product((*PHASES, "rise"), STATISTICS):
        parts = ladder.attribution(span, statistic)
        expected = {name: ends(part) for name, part in (parts.parts | parts.details).items()}
        assert read["attribution"][span][statistic] == expected
    for statistic in STATISTICS:
        assert read["rise"][statistic] == ends(ladder.rise("real", statistic))
    for rung, phase in product(("real", *ladder.nulls), PHASES):
        assert read["collapse"][rung][phase]["quality"] == finite(of.collapse(rung, phase).quality)
    assert set(read["nulls"]) == set(read["null_dimension"]) == set(ladder.nulls)
    assert (read["timing"] is None) == (not of.timing)


@pytest.mark.parametrize("name", ["found", "flat", "halted", "single"])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_curves_agree_with_the_ladder(name, statistic, request):
    of = request.getfixturevalue(name)
    read, ladder = strict(analysis_json(of)), of.ladder
    whole = {
        "real": (ladder.real, read["dimension"], read["crossing"]),
        **{n: (a, read["null_dimension"][n], read["null_crossing"][n]) for n, a in ladder.nulls.items()},
    }
    for analysis, dimension, crossing in whole.values():
        curve = analysis.curves[statistic]
        assert dimension[statistic]["epoch"] == curve.dimension["epoch"].values.tolist()
        values = [finite(v) for v in curve.dimension["value"].values.tolist()]
        assert dimension[statistic]["value"] == values
        assert len(dimension[statistic]["low"]) == len(dimension[statistic]["high"]) == len(values)
        assert crossing[statistic]["value"] == finite(curve.crossing.value)
        assert crossing[statistic]["resamples_without"] == curve.crossing.invalid


def test_intervals_are_null_if_a_scale_has_a_single_run(single):
    read = strict(analysis_json(single))
    for of in (read["exponents"], read["nulls"]["permuted"], read["rise"]):
        found = of["all"]["max"] if "all" in of else of["max"]
        assert found["value"] is not None
        assert found["low"] is found["high"] is None
    assert set(read["dimension"]["max"]["low"]) == {None}


def test_grokking_epochs_by_scale(found, halted):
    for of in (found, halted):
        dataset = of.ladder.real.dataset
        for n, scale in zip(SCALES, strict(analysis_json(of))["grokking"], strict=True):
            reached = dataset["grokking_epoch"].values[dataset["n_parameters"].values == n]
            assert (scale["n_parameters"], scale["runs"]) == (n, 3)
            assert scale["runs_that_grok"] == int(np.isfinite(reached).sum())
            late = np.where(np.isnan(reached), np.inf, reached)
            assert scale["value"] == finite(float(np.median(late)))


def test_timing_agrees(found):
    read = strict(analysis_json(found))["timing"]
    for statistic in STATISTICS:
        of, written_one = found.timing[statistic], read[statistic]
        for name, crossing in (
            ("crossing_of_one", of.of_one.epoch),
            ("crossing_of_null", of.of_null.epoch),
            ("lag_of_one", of.of_one.lag),
            ("lag_of_null", of.of_null.lag),
            ("aligned_crossing", of.aligned.crossing),
            ("aligned_crossing_of_null", of.of_null.aligned),
        ):
            assert written_one[name]["value"] == finite(crossing.value)
        aligned = written_one["aligned"]
        assert aligned["epoch"] == of.aligned.dimension["epoch"].values.tolist()
        assert min(aligned["epoch"]) < 0 < max(aligned["epoch"])
        assert written_one["follows_grokking"]["p_value"] == finite(of.follows.p_value)


def test_a_topology_is_strict_json(on_each):
    for on in on_each:
        read = strict(topology_json(on))
        assert read["topology"] == on.topology
        assert set(read["nulls"]) == {"permuted", "gaussian"}
        for statistic, phase in product(STATISTICS, SPLIT_PHASES):
            for rung in ("real", "permuted", "gaussian"):
                of = read["exponents"] if rung == "real" else read["nulls"][rung]
                expected = on.exponent(rung, phase, statistic)
                assert of[phase][statistic]["value"] == finite(expected.value)
                assert of[phase][statistic]["r_squared"] == finite(expected.fit.r_squared)
            assert read["arrangement"][phase][statistic] == ends(on.arrangement(phase, statistic))
        assert set(read["collapse"]) == set(SPLIT_PHASES)


def test_power_is_strict_json(sweep):
    null = measure(sweep, [Reading("permuted")])[Reading("permuted")]
    for of in power_analysis.power(sweep, {"permuted": null}, [2, 3], n_resamples=RESAMPLES):
        read = strict(power_json(of))
        assert (read["runs"], read["statistic"], read["phase"]) == (of.runs, of.statistic, of.phase)
        # A single group does not scatter.
        assert (read["scatter"] is None) == (of.groups == 1)
        assert read["above_null"] == {n: above._asdict() for n, above in of.above_null.items()}


def test_power_without_a_value_is_strict_json(flat_sweep, flat):
    null = flat.ladder.nulls["permuted"].dataset
    for of in power_analysis.power(flat_sweep, {"permuted": null}, [2], n_resamples=RESAMPLES):
        read = strict(power_json(of))
        assert (read["above_null"]["permuted"]["value"] is None) == (of.phase == "post")


def test_a_tail_is_strict_json(sweep):
    for fit in [*tail_fits(sweep), tail_fit([1, 1], 21)]:
        read = strict(tail_json(fit))
        assert read["n_parameters"] == fit.n_parameters
        assert read["value"] == finite(fit.value)
        assert set(read["against"]) == {c.alternative for c in fit.comparisons}


def test_specifications_are_strict_json(choices):
    holds, of_each = statements(choices), judged(choices, statements)
    read = strict(specifications_json(choices, of_each))
    assert read["specifications"] == choices["pre"].size == 2 * 2 * 3 * 2 * 5
    assert set(read["holds"]) == {str(name) for name in holds.data_vars}
    for name, of in read["holds"].items():
        assert of["share"] == float(holds[name].mean())
        assert of["by_choice"] == shares(holds[name]).by_choice
        null = of_each[name].null
        assert of["null"] == (null and {"share": null.overall, "by_choice": null.by_choice})
    varied = [str(name) for name, levels in choices["pre"].sizes.items() if levels > 1]
    assert varied == ["topology", "quantile", "statistic", "interval", "scales"]
    for name, of in read["importance"].items():
        assert list(of) == varied
        assert 0 < sum(of.values()) <= 1 + 1e-9, name
    expected = importance(choices["post"])
    assert read["importance"]["exponent after"] == {name: expected[name] for name in varied}


def test_specifications_without_a_d_after_are_reported_as_such(flat_choices):
    read = strict(specifications_json(flat_choices, judged(flat_choices, statements)))
    assert read["holds"]["exponent after > 1"]["share"] == 0

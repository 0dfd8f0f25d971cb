"""The rules by which claims are judged, and how they are shown."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from gradquake.analysis.collapse import Collapse
from gradquake.analysis.resampling import Interval
from gradquake.errors import InputError
from gradquake.paper.claim import Claim, Quantity, verdict
from gradquake.paper.claims_page import page, quantity_attribution, quantity_null, quantity_with_interval
from gradquake.paper.output import write_claims
from gradquake.paper.xor import claims, quantities
from gradquake.paper.xor.evidence import Evidence


def test_a_value_agrees_when_its_interval_contains_the_papers():
    assert Quantity("q", 0.83, 0.80, 0.95, paper=0.90).agrees()
    assert not Quantity("q", 0.83, 0.80, 0.85, paper=0.90).agrees()


def test_a_value_agrees_within_twice_the_papers_error():
    narrow = Quantity("q", 0.93, 0.92, 0.94, paper=0.90)
    assert narrow.agrees(0.02)
    assert not narrow.agrees(0.014)


def test_a_value_that_is_not_defined_does_not_agree():
    assert not Quantity("q", math.nan, math.nan, math.nan, paper=0.90).agrees(0.02)


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [
        (True, True, "reproduced"),
        (True, False, "reproduced"),
        (False, True, "direction only"),
        (False, False, "not reproduced"),
    ],
)
def test_verdicts(value, direction, expected):
    assert verdict(value, direction) == expected


def test_json_has_null_for_what_is_not_defined():
    quantity = Quantity("q", math.nan, math.nan, math.inf, paper=0.9, null=None)
    claim = Claim("id", "text", "0.9", (quantity,), "not reproduced", "")
    found = claim.as_json()
    assert found["measured"] is found["low"] is found["high"] is found["null"] is None
    assert "NaN" not in json.dumps(found, allow_nan=False)


def test_percentile_of_integers_from_their_shares():
    # 1, ..., 20 once each: 95 % of them are at most 19.
    shares = np.array([0.0] + [0.05] * 20)
    assert quantities.percentile_95(shares) == 19
    values = np.random.default_rng(0).integers(0, 21, (40, 51))
    shares = (values[:, :, None] == np.arange(21)).mean(axis=1)
    expected = [np.quantile(row, 0.95, method="inverted_cdf") for row in values]
    assert quantities.percentile_95(shares).tolist() == expected


# An exponent with its null and what accounts for the distance between them.
ATTRIBUTED = Quantity(
    "D_pre", 0.95, 0.9, 1.05, 0.9,
    null=0.85, null_low=0.8, null_high=0.875,
    marginal=0.04, marginal_low=-0.02, marginal_high=0.06,
    excess=0.06, excess_low=0.045, excess_high=0.08,
    snapshot_low=0.93, snapshot_high=0.96,
)  # fmt: skip
BARE = Quantity("R²", 0.995, math.nan, math.nan)


def test_the_attribution_is_in_the_json():
    claim = Claim("id", "text", "0.9", (ATTRIBUTED, BARE), "reproduced", "").as_json()
    assert (claim["null"], claim["marginal"], claim["excess"]) == (0.85, 0.04, 0.06)
    first, second = claim["quantities"]
    for name in ("marginal", "excess"):
        assert first[f"{name}_low"] < first[name] < first[f"{name}_high"]
        assert second[name] is second[f"{name}_low"] is second[f"{name}_high"] is None
    assert set(first) == set(second)
    json.dumps(claim, allow_nan=False)


def test_an_attribution_that_is_not_defined_is_null_in_the_json():
    nowhere = Quantity("D_post", math.nan, math.nan, math.nan, marginal=math.nan, excess=math.nan)
    found = nowhere.as_json()
    assert found["marginal"] is found["excess"] is None


def test_a_quantity_as_text():
    assert quantity_with_interval(ATTRIBUTED) == "0.950 [0.900, 1.050]"
    assert quantity_null(ATTRIBUTED) == "0.850 [0.800, 0.875]"
    assert quantity_attribution(ATTRIBUTED) == (
        "marginal 0.040 [-0.020, 0.060]; arrangement 0.060 [0.045, 0.080]"
    )


def test_a_quantity_without_a_null_or_an_interval_as_text():
    assert quantity_with_interval(BARE) == "0.995"
    assert quantity_null(BARE) == quantity_attribution(BARE) == ""
    assert quantity_null(Quantity("q", 1.5, 1.25, 1.75, null=0.5)) == "0.500"
    undefined = Quantity("q", math.nan, math.nan, math.nan, null=math.nan, marginal=math.nan, excess=0.5)
    assert quantity_with_interval(undefined) == quantity_null(undefined) == "none"
    assert quantity_attribution(undefined) == "marginal none; arrangement 0.500"


def test_a_quantity_shows_no_more_digits_than_are_stable():
    rough = Quantity("D", 1.3955, 1.3924, 1.3989, null=1.011, null_low=1.01, null_high=1.013, decimals=2)
    assert quantity_with_interval(rough) == "1.40 [1.39, 1.40]"
    assert quantity_null(rough) == "1.01 [1.01, 1.01]"
    assert quantity_with_interval(Quantity("S", math.nan, math.nan, math.nan, decimals=1)) == "none"


def test_claims_come_back_from_json_and_stand_beside_those_of_the_other_experiment(tmp_path):
    one = Claim("D-pre", "before", "0.90 ± 0.02", (ATTRIBUTED, BARE), "reproduced", "a note")
    other = Claim("modadd-lead", "a lead", "stated", (BARE,), "not reproduced", "another")
    assert repr(Claim.of_json(json.loads(json.dumps(one.as_json())))) == repr(one)
    write_claims(tmp_path, [other])
    write_claims(tmp_path, [one])
    newer = Claim("modadd-lead", "a lead", "stated", (BARE,), "direction only", "another")
    write_claims(tmp_path, [newer])
    held = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert [(claim["id"], claim["verdict"]) for claim in held] == [
        ("D-pre", "reproduced"),
        ("modadd-lead", "direction only"),
    ]
    assert "modadd-lead" in (tmp_path / "claims.md").read_text(encoding="utf-8")
    (tmp_path / "claims.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(InputError, match="does not hold claims"):
        write_claims(tmp_path, [one])


def test_the_page_of_claims():
    claim = Claim("D-pre", "before", "0.90 ± 0.02", (ATTRIBUTED, BARE), "reproduced", "a note")
    other = Claim("gini", "a peak", "stated", (BARE,), "not testable", "another note")
    lines = page([claim, other]).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [len(row.split("|")) for row in rows] == [10] * 5
    assert rows[2] == (
        "| D-pre | before | 0.90 ± 0.02 | D_pre | 0.950 [0.900, 1.050] | 0.850 [0.800, 0.875] | "
        "marginal 0.040 [-0.020, 0.060]; arrangement 0.060 [0.045, 0.080] | reproduced |"
    )
    assert rows[3] == "|  |  |  | R² | 0.995 |  |  |  |"
    assert rows[4] == "| gini | a peak | stated | R² | 0.995 |  |  | not testable |"
    assert "- **D-pre**: a note." in lines
    assert "- **gini**: another note." in lines
    assert [line for line in lines if line.startswith("- D_pre")] == ["- D_pre: [0.930, 0.960]"]


# Claims that are only stated, on evidence made up


def exponent(estimate, low=math.nan, high=math.nan, runs=6):
    return SimpleNamespace(estimate=estimate, interval=Interval(low, high, 0.0), runs=runs)


def test_a_condition_that_there_is_not_is_told_with_those_that_there_are():
    conditions = [condition("quantile", q, (0.5, 0.5), (1.5, 1.5)) for q in ("0.80", "0.95")]
    evidence = SimpleNamespace(conditions=conditions)
    assert Evidence.condition(evidence, "quantile", "0.95") is conditions[1]
    with pytest.raises(InputError, match=r"is quantile: 0.96; there are quantile: 0.80; quantile: 0.95"):
        Evidence.condition(evidence, "quantile", "0.96")


def condition(group, name, pre, post):
    """A condition with D before and after, for the largest and for the mean size."""
    values = {("pre", "max"): pre[0], ("pre", "mean"): pre[1]}
    values |= {("post", "max"): post[0], ("post", "mean"): post[1]}
    exponents = {("real", *key): exponent(d, d - 0.1, d + 0.1) for key, d in values.items()}
    return SimpleNamespace(group=group, name=name, exponents=exponents)


@pytest.mark.parametrize(
    ("at_080", "own", "expected"),
    [
        (((0.9, 0.95), (1.1, 1.2)), ((0.9, 0.95), (1.1, 1.2)), "reproduced"),
        (((0.9, 1.05), (1.1, 1.2)), ((0.9, 0.95), (1.1, 1.2)), "direction only"),
        (((0.9, 0.95), (1.1, 1.2)), ((0.9, 0.95), (0.9, 1.2)), "direction only"),
        (((0.9, 0.95), (1.1, 0.9)), ((1.1, 0.95), (1.1, 1.2)), "not reproduced"),
        (((0.9, 0.95), (math.nan, math.nan)), ((0.9, 0.95), (1.1, 1.2)), "not reproduced"),
    ],
)
def test_thresholds_agree_where_each_is_on_its_side_of_1(at_080, own, expected):
    conditions = [
        condition("alpha_train", "0", (2.0, 2.0), (0.0, 0.0)),
        condition("alpha_train", "0.3", *own),
        condition("quantile", "0.95", (0.5, 0.5), (1.5, 1.5)),
        condition("quantile", "0.80", *at_080),
    ]
    by_name = {(of.group, of.name): of for of in conditions}
    evidence = SimpleNamespace(conditions=conditions, condition=lambda *name: by_name[name])
    claim = claims.quantile(evidence)
    assert claim.verdict == expected
    names = [quantity.name for quantity in claim.quantities]
    assert names == [
        f"D_{phase} at Q{q} ({statistic})"
        for statistic in ("max", "mean")
        for phase in ("pre", "post")
        for q in (80, 90, 95)
    ]
    by_name = {quantity.name: quantity for quantity in claim.quantities}
    assert by_name["D_pre at Q90 (mean)"].value == own[0][1]
    assert by_name["D_pre at Q80 (max)"].low == pytest.approx(at_080[0][0] - 0.1)


def fit(heavy, decades):
    return SimpleNamespace(
        n_parameters=85, heavier_than_exponential=heavy, decades=decades, exponent=2.0
    )


@pytest.mark.parametrize(
    ("heavy", "decades", "expected"),
    [
        ([True, True, True, True], 1.2, "reproduced"),
        ([True, True, False, False], 1.2, "direction only"),
        ([True, False, False, False], 1.2, "not reproduced"),
        ([True, True, True, True], 1.6, "not reproduced"),
    ],
)
def test_tails_are_heavy_where_the_power_law_beats_the_exponential(heavy, decades, expected):
    fits = [fit(of, 1.0) for of in heavy[1:]] + [fit(heavy[0], decades)]
    # What the shadow runs do is not asked.
    claim = claims.heavy_tail(SimpleNamespace(tails={"inline": fits, "shadow": []}))
    assert claim.verdict == expected
    share, widest = claim.quantities
    assert share.value == sum(heavy) / 4
    assert widest.value == decades


def collapsed(quality, low, high, runs):
    beside = Collapse(0.8, 0.7, 0.9, 2.5, 30, 4)
    evidence = SimpleNamespace(
        inline_scrutiny=SimpleNamespace(
            collapses={
                ("real", "all"): Collapse((low + high) / 2, low, high, quality, 40, 4),
                ("gaussian", "all"): beside,
                ("permuted", "all"): beside,
            }
        ),
        inline=SimpleNamespace(exponents={("all", "max"): exponent(1.0, 0.95, 1.05, runs)}),
    )
    return claims.collapse(evidence)


@pytest.mark.parametrize(
    ("quality", "low", "high", "runs", "expected"),
    [
        # Twice the S of a perfect collapse: 4 with 6 runs a scale, 2.5 with 15.
        (4.0, 0.9, 1.1, 6, "reproduced"),
        (2.5, 0.9, 0.96, 15, "reproduced"),
        (4.1, 0.9, 1.1, 6, "direction only"),
        (2.6, 0.9, 1.1, 15, "direction only"),
        (1.0, 1.1, 1.2, 6, "direction only"),
        (4.1, 1.1, 1.2, 6, "not reproduced"),
        (math.nan, math.nan, math.nan, 6, "not reproduced"),
        (1.0, 0.9, 1.1, 3, "not testable"),
    ],
)
def test_distributions_collapse_where_s_is_small_and_d_the_one_of_the_sizes(
    quality, low, high, runs, expected
):
    claim = collapsed(quality, low, high, runs)
    assert claim.verdict == expected
    of_s, of_d = claim.quantities
    assert (of_s.null, of_d.null, of_d.null_low, of_d.null_high) == (2.5, 0.8, 0.7, 0.9)
    assert (of_s.decimals, of_d.decimals) == (1, 2)
    json.dumps(claim.as_json(), allow_nan=False)


def test_every_claim_is_judged_once():
    functions = [claim.__name__ for claim in claims.CLAIMS]
    assert len(set(functions)) == len(functions) == 20


def test_without_intervals_little_is_judged(monkeypatch):
    found = [
        Claim(name, "text", "stated", (BARE,), "reproduced", "own note")
        for name in ("D-pre", "quantile", "collapse", *claims.JUDGED_WITHOUT_INTERVAL)
    ]
    monkeypatch.setattr(claims, "CLAIMS", [lambda _, claim=claim: claim for claim in found])
    judged = claims.judge(SimpleNamespace(has_intervals=False))
    assert [c.verdict for c in judged] == ["not testable"] * 3 + ["reproduced"] * 4
    assert judged[0].note.startswith("A scale has a single run")
    assert judged[0].note.endswith("own note")
    assert claims.judge(SimpleNamespace(has_intervals=True)) == found

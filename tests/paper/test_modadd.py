"""The claims on modular addition: the rules on chosen curves, and the whole on small Transformers."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradquake import open_study
from gradquake.analysis.fits import fit_exponent
from gradquake.analysis.generalization import Robust
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.statistics import STATISTICS
from gradquake.errors import InputError
from gradquake.experiments import modular_addition
from gradquake.paper.claim import judge, read_claims, write_claims
from gradquake.paper.modadd import evidence
from gradquake.paper.modadd.claims import CLAIMS
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.plan import ARCHITECTURES, CONTROLS, GROKKING, STUDY, Plan, plan
from gradquake.paper.modadd.plates import PLATES
from gradquake.paper.modadd.statements import (
    AFTER,
    ALIGNED_AT,
    BEFORE,
    DISTANCE,
    LEAD,
    LOWEST,
    OFFSET,
    Asked,
    Beside,
    statements_of,
)
from gradquake.paper.modadd.views import TEST_90, TEST_99, Level, first_reaching
from gradquake.paper.modadd.warning import numbers_of_runs, separation
from gradquake.paper.reproduce import carry_out

EPOCHS = np.arange(0, 310, 10)
SCALES = (100, 200, 400, 800)
CLAIM = {claim.id.removeprefix("modadd-"): claim for claim in CLAIMS}


def interval(value, low, high):
    return Estimate(value=value, low=low, high=high, invalid=0.0, runs=3)


def robust(value, half=0.005, without=None):
    """A number whose interval is the same without each width, or another one without d = 32."""
    same = interval(value, value - half, value + half)
    return Robust(same, {20: same, 32: same if without is None else interval(*without), 64: same})


def beside(value, null=None, **more):
    """A number whose null has another value if one is given."""
    return Beside(robust(value, **more), robust(value if null is None else null))


def of_statistic(**changed):
    """Numbers by which all claims are reproduced, but for those that are given by their kind."""
    asked = {
        **{Asked(DISTANCE, str(level)): beside(20.0) for level in (TEST_99, TEST_90)},
        Asked(BEFORE, ""): beside(1.12),
        Asked(AFTER, ""): beside(0.92),
        **{Asked(LOWEST, control): beside(1.05) for control in CONTROLS},
        **{Asked(LEAD, control): beside(150.0) for control in CONTROLS},
    }
    kinds = {"distance": DISTANCE, "before": BEFORE, "after": AFTER, "lowest": LOWEST, "lead": LEAD}
    changed = {kinds[name]: number for name, number in changed.items()}
    return {one: changed.get(one.kind, number) for one, number in asked.items()}


def evidence_of(statements=None, *, reached=300.0, untestable=None):
    """Evidence in which all cases look alike, but for the statements and truncations that are given."""
    untestable = untestable or {}
    found = {
        a: {
            c: SimpleNamespace(
                untestable=untestable.get((a, c), ""),
                levels={ALIGNED_AT: interval(reached, reached, reached)},
            )
            for c in (GROKKING, *CONTROLS)
        }
        for a in ARCHITECTURES
    }
    given = statements or {}
    both = {
        a: {s: given.get((a, s), given.get(a, of_statistic())) for s in STATISTICS}
        for a in ARCHITECTURES
    }
    return Evidence(found, both, {})


def everywhere(**changed):
    return evidence_of(dict.fromkeys(ARCHITECTURES, of_statistic(**changed)))


def judged(name, found):
    """The judged claim "crossing", "levels", "control" or "lead"."""
    return judge(CLAIM[name], found, has_intervals=True)


@pytest.mark.parametrize(
    ("name", "changed", "verdict"),
    [
        ("crossing", {}, "reproduced"),
        ("crossing", {"distance": beside(45.0, half=10)}, "inconclusive"),
        ("crossing", {"distance": beside(270.0, half=200)}, "not reproduced"),
        ("levels", {}, "reproduced"),
        ("levels", {"before": beside(1.3)}, "direction only"),
        ("levels", {"before": beside(0.95)}, "not reproduced"),
        ("levels", {"after": beside(1.0, half=0.1)}, "inconclusive"),
        ("levels", {"before": beside(0.92), "after": beside(1.12)}, "not reproduced"),
        ("control", {}, "reproduced"),
        ("control", {"lowest": beside(1.05, half=0.1)}, "inconclusive"),
        ("control", {"lowest": beside(0.9)}, "not reproduced"),
        ("lead", {}, "reproduced"),
        ("lead", {"lead": beside(290.0)}, "direction only"),
        ("lead", {"lead": beside(-20.0)}, "not reproduced"),
        ("lead", {"lead": beside(150.0, half=300)}, "inconclusive"),
    ],
)
def test_every_verdict_can_come_out(name, changed, verdict):
    assert judged(name, everywhere(**changed)).verdict == verdict


def test_a_curve_without_a_crossing_does_not_cross_at_the_transition():
    never = robust(math.inf)
    nothing = interval(math.inf, math.inf, math.inf)
    never = Beside(*[Robust(nothing, dict.fromkeys(never.without, nothing))] * 2)
    assert judged("crossing", everywhere(distance=never)).verdict == "not reproduced"


def test_the_crossing_is_judged_at_99_percent_and_shown_at_90():
    numbers = of_statistic()
    numbers[Asked(DISTANCE, str(TEST_90))] = beside(300.0)
    claim = judged("crossing", evidence_of(dict.fromkeys(ARCHITECTURES, numbers)))
    assert claim.verdict == "reproduced"
    assert [q.value for q in claim.quantities if q.name.endswith("test 0.9")] == [300.0] * 4


@pytest.mark.parametrize("name", ["crossing", "control", "levels", "lead"])
def test_the_verdict_is_that_of_the_weakest_statistic_and_architecture(name):
    bad = of_statistic(
        distance=beside(200.0), lowest=beside(0.8), before=beside(0.8), lead=beside(-100.0)
    )
    claim = judged(name, evidence_of({("plain", "mean"): bad}))
    assert claim.verdict == "not reproduced"
    for case, verdict in claim.cases.items():
        assert verdict == ("not reproduced" if case.startswith("gamma, plain") else "reproduced")


def test_each_control_is_judged_alone():
    numbers = of_statistic()
    numbers[Asked(LOWEST, CONTROLS[0])] = beside(0.8)
    claim = judged("control", evidence_of({("plain", "max"): numbers}))
    assert claim.cases[f"D, plain, {CONTROLS[0]}"] == "not reproduced"
    assert claim.cases[f"D, plain, {CONTROLS[1]}"] == "reproduced"
    assert len(claim.cases) == 8


@pytest.mark.parametrize(
    ("value", "without", "verdict"),
    [
        (1.05, (0.97, 0.9, 1.04), "inconclusive"),  # one width carries that it is above 1
        (0.9, (1.02, 0.95, 1.1), "inconclusive"),  # one width carries that it is below 1
        (0.9, (0.8, 0.7, 0.9), "not reproduced"),
        (1.05, (math.nan, math.nan, math.nan), "inconclusive"),
    ],
)
def test_no_width_carries_a_verdict(value, without, verdict):
    claim = judged("control", everywhere(lowest=beside(value, without=without)))
    assert claim.verdict == verdict
    whole = "reproduced" if value > 1 else "not reproduced"
    assert f"with all widths {whole}" in claim.note
    assert ("1: d = 32)" in claim.note) is (verdict == "inconclusive")


def test_the_null_is_judged_by_the_same_rule():
    claim = judged("crossing", everywhere(distance=beside(20.0, null=30.0)))
    assert claim.by_the_null
    assert claim.of_nulls == {"permuted": "reproduced"}
    assert claim.quantities[0].nulls["permuted"].value == 30
    assert not judged("crossing", everywhere(distance=beside(20.0, null=300.0))).by_the_null


def test_truncated_cases_are_named_and_the_others_judged():
    why = "the limit of steps ended 68% to 94% of the avalanches of a width"
    cut = evidence_of(untestable={("layernorm", c): why for c in (GROKKING, *CONTROLS)})
    for name in CLAIM:
        claim = judged(name, cut)
        assert claim.verdict == "reproduced"
        for case, verdict in claim.cases.items():
            assert verdict == ("not testable" if "layernorm" in case else "reproduced")
        assert "Not testable: D, layernorm" in claim.note
        assert f": {why}" in claim.note
        shown = [q for q in claim.quantities if "layernorm" in q.name]
        assert shown
        assert np.isnan([q.value for q in shown]).all()


def test_a_truncated_control_leaves_the_other_one_testable():
    claim = judged("lead", evidence_of(untestable={("plain", CONTROLS[1]): "cut"}))
    assert [case for case, verdict in claim.cases.items() if verdict == "not testable"] == [
        f"{of}, plain, {CONTROLS[1]}" for of in ("D", "gamma")
    ]
    crossing = judged("crossing", evidence_of(untestable={("plain", CONTROLS[1]): "cut"}))
    assert "not testable" not in crossing.cases.values()


def test_without_a_transition_only_the_controls_are_testable():
    found = evidence_of(reached=math.inf)
    verdicts = {name: judged(name, found).verdict for name in CLAIM}
    assert verdicts == {
        "crossing": "not testable",
        "levels": "not testable",
        "control": "reproduced",
        "lead": "not testable",
    }


def test_a_claim_without_a_testable_case_is_written(tmp_path):
    claims = [judged(name, evidence_of(reached=math.inf)) for name in CLAIM]
    path = tmp_path / "claims.json"
    assert len(write_claims(path, claims)) == len(read_claims(path)) == 4


def grokking_sweep(sweep_of, exponents, control=False):
    """Runs with s = 5 N^D; training saturates at epoch 50, test accuracy at 150."""
    sizes = {n: np.tile(np.round(10**6 * 5 * float(n) ** np.array(exponents)), (2, 1)) for n in SCALES}
    accuracies = {
        "train_accuracy": np.where(EPOCHS < 50, 0.1, 1.0),
        "accuracy": np.where(EPOCHS < 150, 0.1, 0.1 if control else 1.0),
    }
    sweep = sweep_of(
        sizes,
        epochs=EPOCHS,
        **{name: {n: np.tile(of, (2, 1)) for n in SCALES} for name, of in accuracies.items()},
    )
    sweep.attrs["every"] = 10
    return sweep.assign_coords(width=("run", np.repeat([4, 8, 16, 32], 2)))


def test_the_statements_of_chosen_curves(sweep_of):
    # Down at 25, before training saturates; up at 105; down at 165, near t_g.
    curve = np.select([EPOCHS <= 20, EPOCHS <= 100, EPOCHS <= 160], [1.1, 0.9, 1.12], 0.92)
    real = grokking_sweep(sweep_of, curve)
    above = grokking_sweep(sweep_of, np.where(EPOCHS < 40, 0.9, 1.05), control=True)
    flat = grokking_sweep(sweep_of, np.full(EPOCHS.size, 1.1))
    pairs = {GROKKING: (real, flat), CONTROLS[0]: (above, above), CONTROLS[1]: (flat, flat)}
    found = statements_of({"plain": pairs, "layernorm": {}})
    assert found["layernorm"] == {}
    for of_asked in (found["plain"][statistic] for statistic in STATISTICS):
        value = {asked: number.real.all_scales.value for asked, number in of_asked.items()}
        assert value[Asked(OFFSET, "test 0.99")] == pytest.approx(16, abs=0.2)
        assert value[Asked(LOWEST, CONTROLS[0])] == pytest.approx(1.05, abs=1e-4)
        assert value[Asked(LOWEST, CONTROLS[1])] == pytest.approx(1.1, abs=1e-4)
        # Below the first control from the start, above it from 110 on, and below from 170 on.
        assert value[Asked(LEAD, CONTROLS[0])] == -20
        assert value[Asked(BEFORE, "")] == pytest.approx((6 * 0.9 + 4 * 1.12) / 10, abs=1e-4)
        assert value[Asked(AFTER, "")] == pytest.approx((2 * 1.12 + 14 * 0.92) / 16, abs=1e-4)
        crossing = of_asked[Asked(DISTANCE, "test 0.99")]
        assert crossing.real.all_scales.value == pytest.approx(16, abs=0.2)
        assert sorted(crossing.real.without) == [4, 8, 16, 32]
        assert crossing.permuted.all_scales.value == math.inf
        assert of_asked[Asked(LOWEST, CONTROLS[0])].real.widest.low == pytest.approx(1.05, abs=1e-4)


def test_early_warning_compares_one_control_and_only_runs_of_the_right_outcome(sweep_of):
    loss = {10: [[1.0], [1.1], [9.0]], 20: [[3.0], [3.1], [3.2]]}
    grokked = sweep_of(
        {n: [[1]] * 3 for n in loss}, {10: [0, 0, None], 20: [0, 0, 0]}, epochs=[0], loss=loss
    )
    other = {10: [[2.0], [2.1], [0.0]], 20: [[1.0], [5.0], [1.0]]}
    control = sweep_of(
        {n: [[1]] * 3 for n in loss}, {10: [None, None, 0], 20: [None] * 3}, epochs=[0], loss=other
    )
    area = separation((grokked, control, "train loss")).area[0]
    # At N = 10 both runs lie below both; at N = 20 three above two of three.
    assert area.value == pytest.approx((0 + 6) / (4 + 9))
    nothing = separation((control, control.isel(run=[2]), "train loss")).area[0]
    assert np.isnan(nothing.value)


def test_first_reaching(sweep_of):
    values = {n: [[0, 0.5, 0.9, 0.8], [0, 0.1, 0.2, 0.3]] for n in (10, 20)}
    sweep = sweep_of(values, epochs=[0, 10, 20, 30], accuracy=values)
    np.testing.assert_array_equal(first_reaching(sweep, Level("accuracy", 0.5)), [10, np.nan] * 2)


def test_the_plan_has_every_condition_and_the_longest_runs_first():
    runs = Plan().runs
    assert len(runs) == 3 * 4 * (8 + 7)
    assert [run.width for run in runs] == sorted((run.width for run in runs), reverse=True)
    assert len({run.config()["weight_decay"] for run in runs}) == 2
    assert Plan().n_runs == len(runs)
    assert plan().seeds == 3
    assert plan(5).seeds == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Plan(0), "seeds is 0"),
        (lambda: plan(quick=True), "quick is for the paper xor"),
        (lambda: Plan().sweep("deep", GROKKING), "architecture is 'deep'; one of plain, layernorm is"),
        (
            lambda: Plan().sweep("plain", "slow"),
            "condition is 'slow'; one of grokking, no weight",
        ),
    ],
)
def test_a_plan_says_what_is_wrong(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()


# On small Transformers

STAGES = ["measuring", "reading", "testing", "judging", "report", "drawing"]

SMALL = Plan(
    seeds=2,
    widths={"plain": (4, 8, 12, 16), "layernorm": (4, 8, 12)},
    settings={"modulus": 5, "epochs": 40, "learning_rate": 0.02},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("modadd")
    seen = []
    carry_out("modadd", SMALL, out, progress=lambda *of: seen.append(of))
    assert sum(runs for _, runs, _ in seen) == SMALL.n_runs == 56
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == STAGES
    return out


def test_what_is_written(folder):
    rows = json.loads((folder / "claims.json").read_text("utf-8"))
    assert [row["id"] for row in rows] == [claim.id for claim in CLAIMS]
    assert {path.stem for path in (folder / "figures").glob("*.png")} == set(PLATES) == {*SMALL.plates}
    found = json.loads((folder / "modadd.json").read_text("utf-8"))
    assert len(found) == 8 + 2
    assert found["plain, grokking"]["runs"] == 8
    page = (folder / "modadd.md").read_text("utf-8")
    report = (folder / "modadd.html").read_text("utf-8")
    assert "<h2>The claims</h2>" in report
    assert "plain, grokking</h2>" in report
    assert "Early warning" in report
    assert "## Early warning" in page
    assert "nan" not in page
    assert "never" not in page


def test_what_is_there_is_not_trained_again(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.glob("*.*") if p.suffix in (".json", ".md")}
    monkeypatch.setattr(modular_addition, "measure", None)
    carry_out("modadd", SMALL, folder)
    assert before == {p.name: p.read_bytes() for p in folder.glob("*.*") if p.name in before}


def test_numbers_come_from_the_runs(folder):
    with open_study(folder / STUDY) as study:
        gathered = evidence.judged_on(SMALL, {STUDY: study})
        runs = SMALL.sweep("plain", GROKKING)
        real = study.dataset_of([run.config() for run in runs])
        null = study.dataset_of([{**run.config(), "surrogate": "permuted"} for run in runs])
    found = gathered.found["plain"][GROKKING]
    assert found.truncated == {
        int(w): float(real["truncated"].values[real["width"].values == w].mean())
        for w in np.unique(real["width"].values)
    }
    sizes = [
        null["size"].values[null["n_parameters"].values == n].max()
        for n in np.unique(null["n_parameters"])
    ]
    expected = fit_exponent(np.unique(null["n_parameters"]), sizes).exponent
    assert found.ladder.exponent("permuted", "all", "max").value == pytest.approx(expected)
    for name in ("train_accuracy", "accuracy"):
        band = found.bands[name]
        np.testing.assert_allclose(band.middle, np.median(real[name].values, axis=0))
        np.testing.assert_array_equal(band.x, real["epoch"])
    # One exponent a seed from its four widths.
    seeds = numbers_of_runs(real, "D of the seed")
    mine = np.flatnonzero(real["seed"].values == 1)
    n, s = real["n_parameters"].values[mine], real["size"].values[mine, 2]
    assert seeds[mine, 2] == pytest.approx([fit_exponent(n, s).exponent] * 4)
    share = numbers_of_runs(real, "s / N")
    assert share[0, 0] == real["size"].values[0, 0] / real["n_parameters"].values[0]


def test_one_seed_has_no_intervals_and_still_a_page(tmp_path):
    few = replace(SMALL, seeds=1, settings={**SMALL.settings, "epochs": 20})
    rows = carry_out("modadd", few, tmp_path)
    assert len(rows) == 4
    assert (tmp_path / "modadd.md").exists()

"""The claims on modular addition: the rules on chosen curves, and the whole on small Transformers."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradquake import open_study
from gradquake.analysis.dimension import curve
from gradquake.analysis.fits import fit_exponent
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.statistics import STATISTICS
from gradquake.errors import InputError
from gradquake.experiments import modular_addition
from gradquake.paper.claim import judge
from gradquake.paper.modadd import evidence
from gradquake.paper.modadd.claims import CLAIMS
from gradquake.paper.modadd.evidence import Evidence
from gradquake.paper.modadd.plan import ARCHITECTURES, CONTROLS, GROKKING, STUDY, Plan, plan
from gradquake.paper.modadd.plates import PLATES
from gradquake.paper.modadd.views import TEST_90, Level, View, first_reaching
from gradquake.paper.modadd.warning import numbers_of_runs
from gradquake.paper.reproduce import carry_out

EPOCHS = np.arange(0, 310, 10)
SCALES = (100, 200, 400)


def view_of(sweep_of, exponents):
    """A view whose D(t) is given: s = 5 N^D at every epoch, in two runs."""
    sizes = {n: np.tile(np.round(10**6 * 5 * float(n) ** np.asarray(exponents)), (2, 1)) for n in SCALES}
    real = curve(sweep_of(sizes, epochs=EPOCHS), "max", n_resamples=50)
    return View(real, real, real.crossing, real.crossing_of(1.0, "down"))


def at(epoch, runs=2):
    return Estimate(
        value=float(epoch),
        low=epoch - 10,
        high=epoch + 10,
        invalid=0.0,
        runs=runs,
        kept_resamples=np.full(50, float(epoch)),
    )


@pytest.fixture(scope="module")
def rising(sweep_of):
    """D(t) that crosses 1 upwards at epoch 105."""
    return view_of(sweep_of, np.where(EPOCHS <= 100, 0.9, 1.1))


@pytest.fixture(scope="module")
def falling(sweep_of):
    """D(t) that crosses 1 downwards at epoch 105."""
    return view_of(sweep_of, np.where(EPOCHS <= 100, 1.1, 0.9))


@pytest.fixture(scope="module")
def flat(sweep_of):
    """D(t) that stays at 1.1."""
    return view_of(sweep_of, np.full(EPOCHS.size, 1.1))


def found_with(grokking, control, *, reached=120, parting=math.nan):
    """Evidence in which both architectures and statistics look alike."""
    found = {}
    for architecture in ARCHITECTURES:
        found[architecture] = {
            condition: found_of(dict.fromkeys(STATISTICS, view), reached)
            for condition, view in ((GROKKING, grokking), *((c, control) for c in CONTROLS))
        }
    parted = {c: dict.fromkeys(STATISTICS, parting) for c in CONTROLS}
    return Evidence(found, dict.fromkeys(ARCHITECTURES, parted), {})


def found_of(views, reached=120):
    return SimpleNamespace(
        levels={TEST_90: at(reached)}, on_shared_epochs=lambda statistic: views[statistic], grokked=0
    )


def judged(name, found):
    """The judged claim "crossing", "control" or "lead"."""
    (claim,) = [claim for claim in CLAIMS if claim.id == f"modadd-{name}"]
    return judge([claim], found, has_intervals=True)[0]


def test_the_chosen_curves_cross_where_they_should(rising, falling, flat):
    assert rising.up.value == pytest.approx(105, abs=0.1)
    assert falling.down.value == pytest.approx(105, abs=0.1)
    nothing = [rising.down, falling.up, flat.up, flat.down]
    assert np.isnan([crossing.value for crossing in nothing]).all()


@pytest.mark.parametrize(
    ("reached", "verdict"),
    [(120, "reproduced"), (154, "reproduced"), (156, "not reproduced"), (54, "not reproduced")],
)
def test_a_crossing_within_50_epochs_is_at_the_transition(rising, falling, flat, reached, verdict):
    for view, direction in ((rising, "up"), (falling, "down")):
        claim = judged("crossing", found_with(view, flat, reached=reached))
        assert claim.verdict == verdict
        assert (f"D(t), plain: {direction}" in claim.note) is (verdict == "reproduced")
    assert judged("crossing", found_with(flat, flat, reached=reached)).verdict == "not reproduced"


def test_one_statistic_in_both_architectures_is_direction_only(rising, flat):
    found = found_with(rising, flat)
    for architecture in ARCHITECTURES:
        found.found[architecture][GROKKING] = found_of({"max": rising, "mean": flat})
    assert judged("crossing", found).verdict == "direction only"
    found.found["plain"][GROKKING] = found_of({"max": flat, "mean": flat})
    assert judged("crossing", found).verdict == "not reproduced"


def test_without_a_transition_its_claims_are_not_testable(rising, flat):
    found = found_with(rising, flat, reached=math.inf)
    assert judged("crossing", found).verdict == judged("lead", found).verdict == "not testable"


def test_controls_must_stay_above_1(rising, falling, flat, sweep_of):
    below = view_of(sweep_of, np.full(EPOCHS.size, 0.9))
    assert judged("control", found_with(rising, flat)).verdict == "reproduced"
    for control in (rising, falling, below):
        assert judged("control", found_with(rising, control)).verdict == "not reproduced"


def test_a_control_that_is_not_known_at_some_epoch_is_not_above_1(rising, flat):
    dimension = flat.real.dimension.copy(deep=True)
    dimension["value"][3] = np.nan
    gap = replace(flat, real=replace(flat.real, dimension=dimension))
    claim = judged("control", found_with(rising, gap))
    assert claim.verdict == "not reproduced"
    assert claim.quantities[0].value == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("parting", "verdict"),
    [(150, "reproduced"), (50, "reproduced"), (160, "direction only"), (40, "direction only"),
     (250, "not reproduced"), (math.nan, "not reproduced")],
)  # fmt: skip
def test_the_lead(rising, flat, parting, verdict):
    reached = 250 if parting != 250 else 240
    assert judged("lead", found_with(rising, flat, reached=reached, parting=parting)).verdict == verdict


def test_the_lead_is_the_median_minus_the_parting_with_its_interval(rising, flat):
    claim = judged("lead", found_with(rising, flat, reached=250, parting=150))
    assert {(q.value, q.low, q.high) for q in claim.quantities} == {(100, 90, 110)}
    assert [q.name for q in claim.quantities if "plain" in q.name and "decay" in q.name] == [
        f"median t_g minus the epoch at which {of}(t) parts from no weight decay, plain"
        for of in ("D", "gamma")
    ]


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

SMALL = Plan(
    seeds=2,
    widths={"plain": (4, 8, 16), "layernorm": (4, 8, 12)},
    settings={"modulus": 5, "epochs": 40, "learning_rate": 0.02},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("modadd")
    seen = []
    carry_out("modadd", SMALL, out, progress=lambda *of: seen.append(of))
    assert sum(runs for _, runs, _ in seen) == SMALL.n_runs == 48
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == ["measuring", "reading", "drawing"]
    return out


def test_what_is_written(folder):
    rows = json.loads((folder / "claims.json").read_text("utf-8"))
    assert [row["id"] for row in rows] == ["modadd-crossing", "modadd-control", "modadd-lead"]
    assert {path.stem for path in (folder / "figures").glob("*.png")} == set(PLATES) == {*SMALL.plates}
    found = json.loads((folder / "modadd.json").read_text("utf-8"))
    assert len(found) == 8 + 2
    assert found["plain, grokking"]["runs"] == 6
    page = (folder / "modadd.md").read_text("utf-8")
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
        gathered = evidence.gather(SMALL, {STUDY: study})
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
    # One exponent a seed from its three widths.
    seeds = numbers_of_runs(real, "D of the seed")
    mine = np.flatnonzero(real["seed"].values == 1)
    n, s = real["n_parameters"].values[mine], real["size"].values[mine, 2]
    assert seeds[mine, 2] == pytest.approx([fit_exponent(n, s).exponent] * 3)
    share = numbers_of_runs(real, "s / N")
    assert share[0, 0] == real["size"].values[0, 0] / real["n_parameters"].values[0]


def test_one_seed_has_no_intervals_and_still_a_page(tmp_path):
    few = replace(SMALL, seeds=1, settings={**SMALL.settings, "epochs": 20})
    rows = carry_out("modadd", few, tmp_path)
    assert len(rows) == 3
    assert (tmp_path / "modadd.md").exists()

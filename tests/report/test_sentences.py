"""The plain sentences that an analysis says."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gradquake.report.reading import reading
from gradquake.scrutiny import scrutinize
from gradquake.study.recording import RunRecord, to_dataset

SIZES = (100, 200, 400, 800, 1600)
EPOCHS = np.arange(40) * 10
RESAMPLES = 100


def growing(before, after, spread=0.02, at=200):
    """Sizes that grow as N to a power, which changes at an epoch."""

    def sizes(n, rng):
        powers = np.where(at > EPOCHS, before, after)
        return np.ceil(10 * n**powers * np.exp(spread * rng.standard_normal(EPOCHS.size)))

    return sizes


def constant(value):
    return lambda _n, _rng: np.full(EPOCHS.size, value)


def found(
    real,
    permuted=None,
    gaussian=None,
    *,
    runs=4,
    reached=200,
    experiment="attached",
    sizes=SIZES,
    seed=0,
):
    """Put runs beside their nulls; ``reached`` is the grokking epoch of all, or of each seed."""
    each = {"real": real, "permuted": permuted or real, "gaussian": gaussian or growing(0.8, 0.8)}
    rng = np.random.default_rng(seed)
    datasets = {}
    for rung, of in each.items():
        records = []
        for n, number in product(sizes, range(runs)):
            config = {"surrogate": rung, "n_parameters": n, "seed": number, "every": 10}
            if experiment is not None:
                config["experiment"] = experiment
            epoch = reached[number] if isinstance(reached, list) else reached
            size = np.asarray(of(n, rng), np.int64)
            records.append(RunRecord(config, epoch, EPOCHS[: size.size], {"size": size}))
        datasets[rung] = to_dataset(records)
    with pytest.MonkeyPatch.context() as patch:
        # A reading says nothing of the collapse, which takes most of the time.
        patch.setattr(scrutinize, "phase_collapse", lambda *_: None)
        return scrutinize.beside(datasets.pop("real"), datasets, n_resamples=RESAMPLES)


RISE = growing(0.8, 1.2)
FLAT = growing(0.9, 0.9)

# Runs that differ so much that no interval of a change excludes 0.
NOISY = growing(0.9, 0.95, spread=1.5)


CASES = {
    "rise in the real gradients only": (RISE, FLAT, {}),
    "rise in the shuffled gradients too": (RISE, RISE, {}),
    "no change": (FLAT, FLAT, {}),
    "noise": (NOISY, NOISY, {}),
    "fall": (growing(1.2, 0.8), growing(1.2, 0.8), {}),
    "nothing groks": (RISE, FLAT, {"reached": None}),
    "one of four groks": (RISE, FLAT, {"reached": [200, None, None, None]}),
    "all grok late": (RISE, FLAT, {"reached": 900}),
    "one run a size": (RISE, FLAT, {"runs": 1}),
    "runs do not differ": (constant(7), constant(7), {}),
    "no avalanche": (constant(0), constant(0), {"gaussian": constant(0)}),
    "no avalanche in the shuffled gradients": (RISE, constant(0), {}),
    "few sizes": (RISE, FLAT, {"sizes": SIZES[:3]}),
    "without an experiment": (RISE, FLAT, {"experiment": None}),
}


@pytest.fixture(scope="module")
def sentences():
    """The reading of a case, computed once."""
    known = {}

    def of(name, statistics=("max", "mean")):
        if name not in known:
            real, permuted, more = CASES[name]
            known[name] = found(real, permuted, **more)
        return reading(known[name], statistics)

    return of


NOT_FINDINGS = re.compile(
    r"^Caution|^No run grokked|^Fewer than half|^A size has a single run|^The interval|not defined"
    r"|grokked after|ha(s|ve) no interval: "
)


def findings(said):
    """The sentences that are neither a caution nor about what is not defined."""
    return [sentence for sentence in said if not NOT_FINDINGS.search(sentence)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("statistics", [("max", "mean"), ("max",), ("mean",)])
def test_a_reading_is_short_and_every_number_has_its_interval(sentences, name, statistics):
    said = sentences(name, statistics)
    assert len(said) >= 3
    assert len(findings(said)) <= 8
    assert len(set(said)) == len(said)
    for sentence in said:
        assert re.fullmatch(r"[A-Z0-9].*\.", sentence)
        assert not re.search(r"\b(inf|nan|never|none)\b", sentence, re.IGNORECASE), sentence
    for sentence in findings(said)[1:]:
        outside = re.sub(r"\[[^]]*\]", "[]", sentence)
        for value in re.findall(r"-?\d+\.\d+(?:e-\d+)?(?: [^ ,;:.]+)?", outside):
            assert value.endswith((" []", " (no")), sentence
    if "max" not in statistics:
        assert not any(re.search(r"\bD\b", sentence) for sentence in said)
    if "mean" not in statistics:
        assert not any("amma" in sentence for sentence in said)


def holds(said, *words):
    return all(any(of in sentence for sentence in said) for of in words)


def test_the_data(sentences):
    assert sentences("no change")[0] == (
        "The sweep has 20 runs, 4 at each of 5 network sizes (N = 100 to 1600 parameters); brackets are "
        "95 % intervals over runs, for D of its line."
    )
    only_mean = sentences("no change", ("mean",))[0]
    assert only_mean.endswith("brackets are 95 % intervals over runs.")
    assert sentences("without an experiment")[0].startswith("The sweep has 20 runs, 4 at each")
    assert "brackets" not in sentences("one run a size")[0]
    said = reading(found(FLAT, experiment="m\x1bx"))
    assert said[0].startswith("The sweep has 20 runs of the experiment m\\x1bx, 4 at each")


def test_a_rise_that_shuffled_gradients_do_not_share(sentences):
    said = sentences("rise in the real gradients only")
    assert re.match(
        r"D, the exponent .* is 0\.8\d\d \[.*\] before grokking and 1\.2\d\d \[.*\] after it; it rises "
        r"by 0\.\d+ \[.*\]\.",
        said[1],
    )
    assert holds(said, "D(t) rises through 1 at epoch 1", "shuffled gradients do not cross 1")
    assert holds(said, "shuffled gradients do not do the same.")
    assert holds(said, "Do not assign the change of D and gamma to the moment of grokking")
    assert holds(said, "The maximum is biased", "gives D = 0.8")


def test_a_rise_that_follows_each_runs_own_grokking_epoch():
    def sizes(n, rng):
        number = next(seeds) % 6
        return growing(0.8, 1.2, at=100 + 40 * number)(n, rng)

    seeds = iter(range(10_000))
    analysis = found(sizes, FLAT, runs=6, reached=[100 + 40 * number for number in range(6)])
    assert analysis.timing["max"].follows.p_value < 0.05
    assert holds(reading(analysis), "Do not generalize the change of D and gamma from one graph and one")


def test_a_rise_that_shuffled_gradients_share(sentences):
    said = sentences("rise in the shuffled gradients too")
    assert holds(said, "shuffled gradients cross 1 at epoch")
    assert holds(said, "shuffled gradients do the same within the interval.")
    assert holds(
        said, "Do not take the change of D and gamma as a sign of order in the gradient: shuffled "
    )
    assert holds(said, "the same entries in random places, change alike")


def test_a_fall_is_told_as_one(sentences):
    said = sentences("fall")
    assert holds(
        said,
        "it falls: the change is -0.",
        "D(t) does not rise through 1 (a snapshot at",
        " above it): it is 1.",
    )
    assert holds(said, "Do not take the change of D and gamma as a sign of order")


def test_a_change_that_may_be_zero(sentences):
    said = sentences("noise")
    assert holds(said, "may be zero", "both intervals contain 1.")
    assert holds(said, "Do not conclude that grokking changes D and gamma: the interval of the change ")


def test_no_crossing(sentences):
    said = sentences("no change")
    assert holds(
        said,
        "D(t) does not rise through 1 (a snapshot at",
        " above it): it is 0.",
        "shuffled gradients do not cross 1.",
    )


def test_no_run_groks(sentences):
    said = sentences("nothing groks")
    assert holds(said, " over all snapshots", "Of D - 1 over all snapshots, ")
    assert holds(said, "Do not conclude anything about grokking from these runs", "No run grokked, so ")
    assert holds(
        said,
        "D after grokking and gamma after grokking are not defined: there is no snapshot at N = 100, ",
    )
    assert not holds(said, "before grokking and")


def test_few_runs_grok(sentences):
    said = sentences("one of four groks")
    assert holds(said, "Fewer than half of the runs grokked, so the median t_g")
    assert not holds(said, "epochs after the median grokking epoch")
    assert holds(said, "D after grokking and gamma after grokking have no interval: 8")


def test_runs_that_grok_after_the_last_snapshot(sentences):
    said = sentences("all grok late")
    assert holds(said, "20 of 20 runs grokked after the last snapshot, at epoch 390, so all of their")


def test_single_runs_have_no_intervals(sentences):
    said = sentences("one run a size")
    assert not any("[" in sentence for sentence in said)
    assert holds(said, "(no interval)", "it is open whether shuffled gradients do the same")
    assert holds(said, "grokking changes D and gamma: the change has no interval.")
    assert holds(said, "A size has a single run, so there are no intervals over runs.")


def test_what_is_not_defined_has_a_reason(sentences):
    said = sentences("no avalanche")
    assert len(findings(said)) == 1
    assert holds(said, "D and gamma are not defined: there is no avalanche with a positive size at N =")
    assert holds(
        said, "D(t) and gamma(t) are not defined: at every epoch, a network size has no avalanche"
    )
    said = sentences("no avalanche in the shuffled gradients")
    assert holds(
        said, "The permuted null of D and the permuted null of gamma are not defined: there is no "
    )
    assert not any(sentence.startswith("Of ") for sentence in said)


def test_cautions(sentences):
    said = sentences("few sizes")
    assert holds(said, "Caution for D and gamma: the line goes through only 3 scales; 5 or more fix ")
    assert holds(
        sentences("noise"), "Caution for D after grokking: R² is 0.", "for gamma before grokking"
    )
    assert holds(
        sentences("runs do not differ"), "the sizes do not change with N, so R² is not defined."
    )


def test_a_crossing_without_an_interval():
    # In one of four runs of every size D stays below 1, so that many resamples do not cross.
    def sizes(n, rng):
        return (growing(0.8, 0.8) if next(seeds) % 2 else growing(0.8, 1.01))(n, rng)

    seeds = iter(range(10_000))
    said = reading(found(sizes, FLAT, runs=2))
    (crossing,) = (s for s in said if s.startswith("D(t) "))
    assert re.search(
        r"rises through 1 at epoch \d+ \(no interval: \d+% of resamples do not cross\)", crossing
    )


def test_the_trivial_exponent_is_told_if_the_settings_are_known():
    scrutiny = found(FLAT)
    assert not any("trivial" in sentence for sentence in reading(scrutiny))
    scrutiny.ladder.real.dataset.attrs.update(quantile=0.9, max_steps=20)
    (said,) = [sentence for sentence in reading(scrutiny) if "trivial" in sentence]
    assert said == (
        "By construction 0.1 (N - 1) <= s <= 20 N, so D -> 1 and gamma -> 1 for large N: 1 is the "
        "trivial exponent, and D - 1 and gamma - 1 are the drift of s/N over the scales at hand."
    )
    (said,) = [sentence for sentence in reading(scrutiny, ("max",)) if "trivial" in sentence]
    assert "so D -> 1 for large N" in said
    assert "D - 1 is the drift" in said


def test_a_mean_that_grows_faster_than_the_largest_is_a_caution():
    scrutiny = found(FLAT)
    exponents = scrutiny.ladder.real.exponents["post"]
    swapped = {"max": exponents["mean"], "mean": exponents["max"]}
    real = replace(scrutiny.ladder.real, exponents={**scrutiny.ladder.real.exponents, "post": swapped})
    for of in (scrutiny, replace(scrutiny, ladder=replace(scrutiny.ladder, real=real))):
        excess = of.ladder.mean_above_max("real", "post").value
        told = [s for s in reading(of) if s.startswith("Caution: gamma exceeds D")]
        assert any("after grokking" in s for s in told) == (excess > 0)
        assert not any("gamma exceeds" in s for s in reading(of, ("max",)))

"""Models with known exponents: each kernel against a naive twin, and against exact results."""

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.errors import InputError
from gradquake.experiments import _kernels_models as kernels
from gradquake.experiments import models
from gradquake.experiments.models import (
    Avalanches,
    BranchingRun,
    DirectedSandpileRun,
    EarthquakeRun,
    MannaRun,
    OsloRun,
    measure,
)
from gradquake.experiments.run import run
from gradquake.report.result import analyze
from gradquake.study.study import open_study

WORD = (1 << 64) - 1


class Draws:
    """SplitMix64 in Python's integers (Steele, Lea and Flood 2014)."""

    def __init__(self, seed):
        self.state = seed

    def word(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & WORD
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    def uniform(self):
        return (self.word() >> 11) * 2.0**-53

    def below(self, bound):
        return int(self.uniform() * bound)


def naive_branching(chance, generations, draws):
    families = [1]
    while families[-1] and len(families) <= generations:
        families.append(sum(draws.uniform() < chance for _ in range(2 * families[-1])))
    counted = [living for living in families[:generations] if living]
    return sum(counted), len(counted), sum(counted)


def naive_directed(heights, draws):
    """Every grain falls by itself; a site with two grains topples."""
    rows, width = heights.shape
    falling = Counter({draws.below(width): 1})
    size = duration = 0
    for row in range(rows):
        below = Counter()
        for site, grains in falling.items():
            heights[row, site] += grains
            assert heights[row, site] <= 3
            if heights[row, site] >= 2:
                heights[row, site] -= 2
                size += 1
                below[site] += 1
                below[(site + 1) % width] += 1
        if not below:
            break
        duration += 1
        falling = below
    return size, duration, size


def topple_in_parallel(start, topple):
    """Topple these sites at once, then those that ``topple`` returns as unstable, and so on."""
    active, history = start, []
    while active:
        history.append(active)
        active = list(dict.fromkeys(topple(active)))
    toppled = [site for step in history for site in step]
    return len(toppled), len(history), len(set(toppled))


def naive_oslo(slopes, limits, draws):
    last = len(slopes) - 1

    def topple(active):
        for i in active:
            slopes[i] -= 2 if i < last else 1
            limits[i] = 1 + (draws.word() >> 63)
        again = [i for i in active if slopes[i] > limits[i]]
        changed = []
        for i in active:
            for j in (i - 1, i + 1):
                if 0 <= j <= last:
                    slopes[j] += 1
                    if slopes[j] > limits[j]:
                        changed.append(j)
        return again + changed

    slopes[0] += 1
    return topple_in_parallel([0] if slopes[0] > limits[0] else [], topple)


def naive_manna(heights, draws):
    side = heights.shape[0] - 2
    moves = ((-1, 0), (0, -1), (0, 1), (1, 0))

    def inside(site):
        return all(1 <= x <= side for x in site)

    def topple(active):
        for site in active:
            heights[site] -= 2
        again, changed = [site for site in active if heights[site] > 1], []
        for row, column in active:
            word = draws.word() >> 60
            for down, right in (moves[word & 3], moves[word >> 2]):
                site = row + down, column + right
                heights[site] += 1
                if inside(site) and heights[site] > 1:
                    changed.append(site)
        return again + changed

    start = 1 + draws.below(side), 1 + draws.below(side)
    heights[start] += 1
    return topple_in_parallel([start] if heights[start] > 1 else [], topple)


class NaiveEarthquakes:
    """Blocks of force ``entries`` + ``load``, as in the kernel: rounding decides between equals."""

    def __init__(self, entries, alpha):
        self.entries, self.alpha, self.load, self.loaded = entries, alpha, 0.0, 0.0

    @property
    def forces(self):
        return self.entries + self.load

    def next(self):
        """Return an avalanche, and the total force that should be left after it."""
        if self.load > 1:
            self.entries += self.load
            self.load = 0.0
        total, start = self.forces.sum(), np.unravel_index(self.entries.argmax(), self.entries.shape)
        before, self.load = self.load, max(self.load, 1.0 - self.entries[start])
        self.loaded += self.load - before
        self.lost = 0.0
        start = tuple(map(int, start))
        avalanche = topple_in_parallel([start], self.topple)
        return avalanche, total + (self.load - before) * self.entries.size - self.lost

    def unstable(self, site):
        return self.entries[site] + self.load >= 1.0

    def topple(self, active):
        side, released = len(self.entries), [self.entries[site] + self.load for site in active]
        for site in active:
            self.entries[site] = -self.load
        changed = []
        for (row, column), force in zip(active, released, strict=True):
            self.lost += (1 - 4 * self.alpha) * force
            for site in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
                if all(0 <= x < side for x in site):
                    self.entries[site] += self.alpha * force
                    changed += [site] if self.unstable(site) else []
                else:
                    self.lost += self.alpha * force
        return changed


def rows(avalanches):
    return list(zip(*(of.tolist() for of in avalanches), strict=True))


def state(seed):
    return np.array([seed], np.uint64)


seeds = pytest.mark.parametrize("seed", [1, 2, 3])


@seeds
@pytest.mark.parametrize("chance", [0.2, 0.5, 0.55])
def test_branching_equals_its_naive_twin(seed, chance):
    found, draws = Avalanches.blank(300), Draws(seed)
    kernels.branching(chance, 12, state(seed), *found)
    assert rows(found) == [naive_branching(chance, 12, draws) for _ in range(300)]


@seeds
@pytest.mark.parametrize("width", [2, 3, 8, 13])
def test_the_directed_sandpile_equals_grains_that_fall_one_by_one(seed, width):
    heights = np.random.default_rng(seed).integers(0, 2, (width, width), np.int8)
    naive, found, draws = heights.astype(int), Avalanches.blank(400), Draws(seed)
    kernels.directed_sandpile(heights, state(seed), *found)
    assert rows(found) == [naive_directed(naive, draws) for _ in range(400)]
    np.testing.assert_array_equal(heights, naive)


@seeds
@pytest.mark.parametrize("width", [2, 3, 9, 16])
def test_oslo_equals_its_naive_twin(seed, width):
    slopes, limits = np.zeros(width, np.int64), np.ones(width, np.int64)
    naive, draws = ([0] * width, [1] * width), Draws(seed)
    found = Avalanches.blank(600)
    kernels.oslo(slopes, limits, state(seed), *found)
    assert rows(found) == [naive_oslo(*naive, draws) for _ in range(600)]
    assert (slopes.tolist(), limits.tolist()) == naive


@seeds
@pytest.mark.parametrize("width", [2, 3, 8])
def test_manna_equals_its_naive_twin_and_keeps_its_grains(seed, width):
    heights = np.zeros((width + 2, width + 2), np.int64)
    naive, draws, found = heights.copy(), Draws(seed), Avalanches.blank(500)
    kernels.manna(heights, state(seed), *found)
    assert rows(found) == [naive_manna(naive, draws) for _ in range(500)]
    np.testing.assert_array_equal(heights, naive)
    assert heights.sum() == 500
    assert heights[1:-1, 1:-1].max() <= 1


@seeds
@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.25])
@pytest.mark.parametrize("width", [2, 5, 9])
def test_earthquakes_equal_their_naive_twin_and_lose_force_only_where_they_may(seed, alpha, width):
    naive = NaiveEarthquakes(np.random.default_rng(seed).random((width, width)), alpha)
    forces = np.pad(naive.entries, 1, constant_values=-np.inf)
    found = Avalanches.blank(400)
    kernels.earthquakes(forces, alpha, 0.0, *found)
    for avalanche in rows(found):
        expected, total = naive.next()
        assert avalanche == expected
        assert naive.forces.sum() == pytest.approx(total, abs=1e-9)
    np.testing.assert_array_equal(forces[1:-1, 1:-1], naive.forces)


def test_earthquakes_before_the_transient_load_are_left_out():
    naive = NaiveEarthquakes(np.random.default_rng(5).random((6, 6)), 0.2)
    forces, late = np.pad(naive.entries, 1, constant_values=-np.inf), Avalanches.blank(100)
    kernels.earthquakes(forces, 0.2, 3.0, *late)
    loads, avalanches = zip(*((naive.next()[0], naive.loaded)[::-1] for _ in range(600)), strict=True)
    first = int(np.argmax(np.array(loads) >= 3.0))
    assert first > 50
    assert rows(late) == list(avalanches[first : first + 100])


KINDS = (BranchingRun, DirectedSandpileRun, OsloRun, MannaRun, EarthquakeRun)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), width=st.integers(2, 9), seed=st.integers(0, 2**63 - 1))
def test_avalanches_are_consistent(kind, width, seed):
    size, duration, area = kind(width=width, seed=seed, avalanches=50).simulate()
    assert (size >= area).all()
    assert (area >= 0).all()
    assert (size >= duration).all()
    assert ((size > 0) == (duration > 0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_run_and_another_seed_another(kind):
    first, again, other = (
        rows(kind(width=8, seed=seed, avalanches=200).simulate()) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_a_transient_is_passed_in_parts_as_in_one(monkeypatch):
    whole = rows(OsloRun(width=12, seed=1, avalanches=50).simulate())
    monkeypatch.setattr(models, "AT_ONCE", 7)
    assert rows(OsloRun(width=12, seed=1, avalanches=50).simulate()) == whole


def mean_of(kind, width, runs=24, avalanches=4000, **settings):
    """The mean size over runs, and its standard error from their scatter."""
    means = [
        kind(width=width, seed=seed, avalanches=avalanches, **settings).simulate().size.mean()
        for seed in range(runs)
    ]
    return np.mean(means), np.std(means, ddof=1) / np.sqrt(runs)


def mean_walk(width):
    """Mean steps of a random walk from a random site of a square until it leaves: u = 1 + mean of u."""
    n = width * width
    equations = np.eye(n)
    for row, column in product(range(width), repeat=2):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            i, j = row + down, column + right
            if 0 <= i < width and 0 <= j < width:
                equations[row * width + column, i * width + j] -= 0.25
    return np.linalg.solve(equations, np.ones(n)).mean()


@pytest.mark.parametrize(
    ("kind", "width", "options", "exact"),
    [
        # Each generation has children^n members on average.
        (BranchingRun, 32, {}, 32.0),
        (BranchingRun, 32, {"children": 0.9}, (1 - 0.9**32) / 0.1),
        # Each added grain crosses every row once, and each toppling moves two grains: 1/2 a row.
        (DirectedSandpileRun, 32, {}, 16.0),
        # Each added grain takes L steps to leave, one a toppling.
        (OsloRun, 32, {}, 32.0),
        # Each added grain walks until it leaves, and each toppling moves two grains by a step.
        (MannaRun, 16, {}, mean_walk(16) / 2),
    ],
)
def test_the_mean_size_follows_from_the_flow_of_grains(kind, width, options, exact):
    mean, error = mean_of(kind, width, **options)
    assert mean == pytest.approx(exact, abs=4 * error)
    assert error < 0.03 * exact


def test_families_of_one_and_two_have_their_exact_shares():
    # A family of one has no child: (1 - p)^2. Of two: one child, which has none: 2 p (1 - p) (1 - p)^2.
    size = BranchingRun(width=50, seed=0, avalanches=100_000).simulate().size
    for members, share in ((1, 1 / 4), (2, 1 / 8)):
        error = np.sqrt(share * (1 - share) / size.size)
        assert np.mean(size == members) == pytest.approx(share, abs=4 * error)


def oslo_steady_state(width):
    """The exact probabilities of slopes after L (L + 1) / 2 grains on slopes of 1 (Dhar 2004).

    A critical slope is drawn if it first matters: a slope of 2 topples, or stays (2, True), with equal
    chances.
    """

    def relax(states):
        done = Counter()
        while states:
            slopes, weight = states.popitem()
            open_sites = (i for i, (z, kept) in enumerate(slopes) if z > 2 or (z == 2 and not kept))
            unstable = next(open_sites, None)
            if unstable is None:
                done[slopes] += weight
                continue
            z, _ = slopes[unstable]
            if z == 2:
                stays = list(slopes)
                stays[unstable] = (2, True)
                states[tuple(stays)] += weight / 2
                weight /= 2
            moved = list(slopes)
            moved[unstable] = (z - (2 if unstable < width - 1 else 1), False)
            for j in (unstable - 1, unstable + 1):
                if 0 <= j < width:
                    moved[j] = (moved[j][0] + 1, moved[j][1])
            states[tuple(moved)] += weight
        return done

    states = Counter({((1, False),) * width: Fraction(1)})
    for _ in range(width * (width + 1) // 2):
        dropped = Counter()
        for slopes, weight in states.items():
            dropped[((slopes[0][0] + 1, slopes[0][1]), *slopes[1:])] += weight
        states = relax(dropped)
    found = Counter()
    for slopes, weight in states.items():
        found[tuple(z for z, _ in slopes)] += weight
    return found


@pytest.mark.parametrize("width", [2, 3])
def test_oslo_is_stationary_after_its_transient(width):
    exact = oslo_steady_state(width)
    assert sum(exact.values()) == 1
    found = Counter()
    runs = 8000
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        slopes, limits = np.ones(width, np.int64), rng.integers(1, 3, width)
        found_sizes = Avalanches.blank(width * (width + 1) // 2)
        kernels.oslo(slopes, limits, rng.integers(0, 2**63, 1).astype(np.uint64), *found_sizes)
        found[tuple(slopes.tolist())] += 1
    assert found.keys() <= exact.keys()
    for slopes, share in exact.items():
        error = float(share * (1 - share) / runs) ** 0.5
        assert found[slopes] / runs == pytest.approx(float(share), abs=4.5 * error)


def test_records_hold_each_avalanche_and_the_linear_size(tmp_path):
    run("oslo", out=tmp_path / "s.sqlite", seeds=2, jobs=1, width=[4, 8], avalanches=30)
    with open_study(tmp_path / "s.sqlite") as study:
        sweep = study.dataset
    assert sweep.sizes == {"run": 4, "epoch": 30}
    assert sweep["n_parameters"].values.tolist() == [4, 4, 8, 8]
    expected = OsloRun(width=8, seed=1, avalanches=30).simulate()
    for name in ("size", "duration", "area"):
        np.testing.assert_array_equal(sweep[name].values[3], getattr(expected, name))


def test_a_sweep_without_gradients_has_no_nulls_to_be_analyzed_beside(tmp_path):
    path = run("manna", out=tmp_path / "s.sqlite", seeds=2, jobs=1, width=[2, 4, 8], avalanches=20)
    with pytest.raises(InputError, match="the avalanches of manna come from no gradient"):
        analyze(path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (OsloRun, {"width": 1, "seed": 0}, "width is 1; an integer of at least 2 is needed"),
        (OsloRun, {"width": 4, "seed": -1}, "seed is -1; an integer of at least 0 is needed"),
        (
            MannaRun,
            {"width": 4, "seed": 0, "avalanches": 0},
            "avalanches is 0; an integer of at least 1 is needed",
        ),
        (
            BranchingRun,
            {"width": 4, "seed": 0, "children": 2.0},
            r"children is 2.0; a number in \(0, 2\) is needed",
        ),
        (EarthquakeRun, {"width": 4, "seed": 0, "alpha": 0.3}, "alpha is not above 0 and at most 0.25"),
        (EarthquakeRun, {"width": 4, "seed": 0, "alpha": 0.0}, "alpha is not above 0 and at most 0.25"),
    ],
)
def test_bad_settings_are_refused(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run was given"):
        measure([])

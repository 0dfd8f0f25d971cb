"""How often the intervals contain the answer, and the tests err, on simulated sweeps that have one.

Prints the tables of ``docs/coverage.md`` in 10 to 15 minutes on one core. A number as argument, for
example 0.1, is the share of the simulations to do. ``--groups`` prints only the tables on what six runs
measure, and with it the path of a study of many seeds a scale, as ``gradquake run xor --seeds 200``
records it, adds those of real groups of six.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "validation")]

import simulations as sim

import gradquake as gq
from conftest import build_sweep
from gradquake.analysis.statistics import STATISTICS
from gradquake.experiments.readings import Reading
from gradquake.scrutiny.measure import in_order, measure

RUNS = (6, 12, 24, 100)
# Intervals of each kind at each number of runs; fewer where one takes long.
SWEEPS = {6: 1000, 12: 1000, 24: 1000, 100: 250}
SNAPSHOT_SWEEPS = 100


def table(title, head, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def percent(*shares):
    return " / ".join("" if math.isnan(share) else f"{100 * share:.0f}" for share in shares)


def exponents(count):
    for name, scatter in {**sim.SCATTERS, "self-averaging": sim.SHRINKING}.items():
        by_runs = [
            sim.exponent_coverage(
                build_sweep, scatter, runs, count(SWEEPS[runs]), snapshot_sweeps=count(SNAPSHOT_SWEEPS)
            )
            for runs in RUNS
        ]
        for s in STATISTICS:
            methods = ("expanded", "plain", "snapshots", "fit")
            shares = [percent(*(found[s, m] for found in by_runs)) for m in methods]
            yield name, s, *shares, f"{by_runs[2][s, 'bias']:+.3f}"


def estimands(count):
    for name, scatter in {**sim.SCATTERS, "self-averaging": sim.SHRINKING}.items():
        by_runs = [sim.estimand_coverage(scatter, runs, count(2000)) for runs in RUNS[:3]]
        over_groups = sim.group_coverage(scatter, count(2000))
        for s in STATISTICS:
            expected = " / ".join(f"{found[s, 'expected']:.2f}" for found in by_runs)
            shares = [percent(*(f[s, way] for f in by_runs)) for way in ("expanded", "fit")]
            yield name, s, expected, *shares, percent(over_groups[s])


def studied(path):
    with gq.open_study(path) as study:
        for settings in study.sweeps:
            sweep = in_order(study.select(alpha_train=settings["alpha_train"]))
            readings = [Reading("permuted"), Reading("gaussian")]
            nulls = {r.surrogate: of for r, of in measure(sweep, readings).items()}
            mode = "in-line" if settings["alpha_train"] else "shadow"
            for name, s, truth, expanded, fit in sim.study_coverage(sweep, nulls):
                yield mode, name, s, f"{truth:.3f}", percent(expanded), percent(fit)


def differences(count):
    for name in ("lognormal", "run-dominated", "Pareto tail"):
        by_runs = [
            sim.difference_coverage(build_sweep, sim.SCATTERS[name], runs, count(300))
            for runs in RUNS[:3]
        ]
        for s in STATISTICS:
            cells = [percent(*(found[s, what] for found in by_runs)) for what in (0.0, 0.1, "apart")]
            yield name, s, *cells


def crossings(count):
    for name, scatter, numbers in (("quiet", sim.QUIET, RUNS[:3]), ("loud", sim.LOUD, RUNS[:2])):
        for runs in numbers:
            found = sim.crossing_coverage(build_sweep, scatter, runs, count(200))
            for s in STATISTICS:
                shares = [percent(found[s, w]) for w in ("D(t)", "expanded", "plain", "of null")]
                bias, width = found.get((s, "bias"), float("nan")), found.get((s, "width"), float("nan"))
                yield name, str(runs), s, *shares, f"{bias:+.1f}", f"{width:.0f}"


def parts(count):
    cases = (
        ("independent, normal", sim.normal, None, 1000),
        ("independent, Student's t with 2 d.o.f.", sim.heavy_tailed, None, 1000),
        ("one patch, its share of N growing", sim.normal, sim.GROWING, 100),
        ("one patch, 5 % of N", sim.normal, sim.ONE_PATCH, 100),
        ("patches of 4, together 5 % of N", sim.normal, sim.MANY_PATCHES, 100),
        ("independent, heavier tails with N", sim.heavier_with_n, None, 200),
    )
    for name, draw, patches, sweeps in cases:
        found = sim.parts(draw, count(sweeps), patches, ("arrangement", "distribution"))
        for s in STATISTICS:
            cells = []
            for part in ("arrangement", "distribution"):
                rows = found[part, s]
                told = sim.above(rows)
                cells += [f"{rows[:, 0].mean():+.3f}", percent(told, sim.without_zero(rows) - told)]
            yield name, s, *cells


def follows(count):
    for name in ("lognormal", "run-dominated", "Pareto tail"):
        for runs in RUNS[:2]:
            found = [
                sim.follows_rejections(build_sweep, sim.SCATTERS[name], runs, count(300), own=own)
                for own in (False, True)
            ]
            yield name, str(runs), *(percent(*(f[s] for s in STATISTICS)) for f in found)


def groups(count, paths):
    head = ["sizes", "statistic", "expected exponent", "bootstrap", "line", "33 groups of 6"]
    rows = estimands(count)
    table("Intervals that contain the exponent expected of 6 / 12 / 24 runs, in %", head, rows)
    for path in paths:
        head = ["training", "what", "statistic", "mean over groups", "bootstrap", "line"]
        table(
            "Intervals of real groups of six that contain the mean over groups, in %",
            head,
            studied(path),
        )


def main():
    start = time.perf_counter()
    options = sys.argv[1:]
    share = next((float(o) for o in options if o.replace(".", "").isdigit()), 1.0)

    def count(sweeps):
        return max(5, round(share * sweeps))

    groups(count, [o for o in options if o.endswith(".sqlite")])
    if "--groups" not in options:
        everything(count)
    print(f"\n{time.perf_counter() - start:.0f} s")


def everything(count):
    head = ["sizes", "statistic", "expanded", "plain", "over snapshots", "fit", "bias of D, 24 runs"]
    table("95 % intervals that contain D, in %, at 6 / 12 / 24 / 100 runs", head, exponents(count))
    head = ["sizes", "statistic", "difference 0", "difference 0.1", "0.1 told from 0"]
    table("Paired differences contained, in %, at 6 / 12 / 24 runs", head, differences(count))
    head = [
        "scatter", "runs", "statistic", "D(t)", "crossing", "plain", "crossing of null",
        "bias, epochs", "width, epochs",
    ]  # fmt: skip
    table("95 % intervals that contain D(t) or its crossing, in %", head, crossings(count))
    head = [
        "gradients", "statistic", "arrangement", "above / below 0, %",
        "distribution", "above / below 0, %",
    ]  # fmt: skip
    table("Parts of the exponent, 6 runs, 6 sizes", head, parts(count))
    head = ["sizes", "runs", "one epoch for all: max / mean", "own t_g: max / mean"]
    table("`follows_grokking` gives p ≤ 0.05, in %", head, follows(count))


if __name__ == "__main__":
    main()

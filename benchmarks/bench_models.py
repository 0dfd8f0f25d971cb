"""Avalanches a second (of CPU time) of the models with known exponents; Oslo beside plain Python.

python benchmarks/bench_models.py
"""

from __future__ import annotations

import random
from time import process_time

from gradquake.experiments.models import (
    BRANCHING,
    DIRECTED_SANDPILE,
    EARTHQUAKES,
    MANNA,
    OSLO,
    OsloRun,
)

AVALANCHES = 1 << 18


def seconds(experiment, avalanches, **settings):
    """Time avalanches at the largest size beyond the transient: that of many less that of one."""
    width = experiment.sizes[-1]
    taken = []
    for count in (1, 1, avalanches + 1):
        start = process_time()
        found = experiment.run(width=width, seed=0, avalanches=count, **settings).simulate()
        taken.append(process_time() - start)
    return taken[2] - taken[1], found.size.mean(), taken[1]


def plain_oslo(width, avalanches):
    """Drop grains on an Oslo pile that starts with slopes of 1; return the topplings."""
    slopes, limits, size = [1] * width, [random.choice((1, 2)) for _ in range(width)], 0
    for _ in range(avalanches):
        slopes[0] += 1
        active = [0] if slopes[0] > limits[0] else []
        while active:
            i = active.pop()
            if slopes[i] <= limits[i]:
                continue
            size += 1
            slopes[i] -= 2 if i < width - 1 else 1
            limits[i] = random.choice((1, 2))
            active.append(i)
            for j in (i - 1, i + 1):
                if 0 <= j < width:
                    slopes[j] += 1
                    active.append(j)
    return size


def main():
    """Print the rates."""
    print("model                L   avalanches/s   topplings/s   transient")
    for name, experiment, settings in (
        ("branching", BRANCHING, {}),
        ("directed sandpile", DIRECTED_SANDPILE, {}),
        ("Oslo", OSLO, {}),
        ("Manna", MANNA, {}),
        ("OFC, alpha = 0.25", EARTHQUAKES, {}),
        ("OFC, alpha = 0.2", EARTHQUAKES, {"alpha": 0.2}),
    ):
        taken, size, transient = seconds(experiment, AVALANCHES, **settings)
        rate = AVALANCHES / taken
        print(
            f"{name:17} {experiment.sizes[-1]:5} {rate:14,.0f} {rate * size:13,.0f} {transient:9.2f} s"
        )
    OsloRun(width=64, seed=0).simulate()
    start = process_time()
    size = plain_oslo(64, 20_000)
    plain = size / (process_time() - start)
    start = process_time()
    avalanches = OsloRun(width=64, seed=0, avalanches=1_000_000).simulate()
    own = avalanches.size.sum() / (process_time() - start)
    print(f"Oslo at L = 64: {own:,.0f} topplings/s, {own / plain:.0f} times plain Python")


if __name__ == "__main__":
    main()

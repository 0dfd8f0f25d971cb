"""How opening, resuming and reading a study grow with it, and how a sweep grows with its workers.

Studies of runs of 100 snapshots of all variables; then the sweep of 1000 seeds at the paper's eight
sizes, on one worker and on two.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from gradquake.analysis.dimension import dimension
from gradquake.experiments import xor
from gradquake.study.configuration import config_key
from gradquake.study.execution import execute
from gradquake.study.pools import open_executor
from gradquake.study.recording import VARIABLES, RunRecord
from gradquake.study.study import open_study

SNAPSHOTS = 100


def record(config, values):
    return RunRecord(config, 30, np.arange(SNAPSHOTS), values)


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def study_of(n_runs, folder):
    """Time everything that is done with a study of so many runs."""
    path = Path(folder) / f"{n_runs}.sqlite"
    rng = np.random.default_rng(0)
    values = {
        name: rng.integers(1, 2 if kind == "|b1" else 1000, SNAPSHOTS).astype(kind)
        for name, (kind, _) in VARIABLES.items()
    }
    sizes = (81, 201, 481, 801)
    configs = [
        {"experiment": "test", "surrogate": "real", "n_parameters": n, "seed": seed}
        for n in sizes
        for seed in range(n_runs // len(sizes))
    ]

    def write():
        with open_study(path, create=True) as study:
            study.plan(configs)
            for first in range(0, n_runs, 25):
                study.write([record(config, values) for config in configs[first : first + 25]])

    def reopened():
        open_study(path).close()

    _, writing = timed(write)
    _, opening = timed(reopened)
    with open_study(path) as study:
        keys, resuming = timed(study.keys)
        assert keys == set(map(config_key, configs))
        _, listing = timed(study.contents)
        dataset, reading = timed(lambda: study.dataset)
    _, of_largest = timed(lambda: dimension(dataset, statistic="max"))
    _, of_mean = timed(lambda: dimension(dataset, statistic="mean"))
    size = path.stat().st_size
    path.unlink()
    return {
        "write": writing, "open": opening, "resume": resuming, "info": listing, "read": reading,
        "D(t), max": of_largest, "D(t), mean": of_mean, "bytes": size,
    }  # fmt: skip


def sweep(workers, seeds, folder):
    """Return how many runs a second are measured and written."""
    runs = xor.sweep((20, 30, 50, 70, 100, 120, 200, 500), seeds)
    with (
        open_study(Path(folder) / f"{workers}.sqlite", create=True) as study,
        open_executor(workers) as executor,
    ):
        # Workers start and load what is compiled before the clock does.
        execute(study, xor.measure, xor.sweep((20,), 500, epochs=1), executor)
        _, seconds = timed(lambda: execute(study, xor.measure, runs, executor))
    return len(runs) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10**5, help="of the largest study")
    parser.add_argument("--seeds", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = [n for n in (10**3, 10**4, 10**5) if n <= options.runs]
        rows = [study_of(n, folder) for n in counts]
        print(f"{'seconds for':<12}" + "".join(f"{n:>12} runs" for n in counts) + "  slope")
        for name in ("write", "open", "resume", "info", "read", "D(t), max", "D(t), mean"):
            times = [row[name] for row in rows]
            slope = np.log(times[-1] / times[-2]) / np.log(counts[-1] / counts[-2])
            print(f"{name:<12}" + "".join(f"{t:>17.4f}" for t in times) + f"  {slope:5.2f}")
        print(f"bytes a run: {rows[-1]['bytes'] / counts[-1]:.0f}")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"most memory: {most:.1f} GiB")
        one, two = (sweep(workers, options.seeds, folder) for workers in (1, 2))
        print(
            f"runs a second: {one:.1f} on one worker, {two:.1f} on two; efficiency {two / one / 2:.2f}"
        )


if __name__ == "__main__":
    main()

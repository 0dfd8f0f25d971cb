"""Readers beside a writer: never an error, never half a run, and nothing that was there is gone."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_sweep import (
    COMMAND,
    FULL,
    finished,
    started,
    wait_until,
)

from gradquake.experiments import xor
from gradquake.study.study import open_study

ROUNDS = 5 if FULL else 1

# Runs that are small enough to be analysed in a moment, each written snapshot by snapshot, then
# finished, until all are.
RUNS = xor.sweep((3, 5, 8), 20, epochs=60)
WRITER = """
import sys
import time
from test_reading import RUNS
from gradquake.experiments import xor
from gradquake.study.study import open_study

# By seed first, so that there are runs of all sizes soon.
runs = sorted(RUNS, key=lambda run: run.seed)
with open_study(sys.argv[1], create=True) as study:
    study.plan([run.config() for run in runs])
    for record in xor.measure(runs):
        (run,) = study.begin([record.config])
        for i, epoch in enumerate(record.epochs.tolist()):
            study.append({run: {epoch: {n: v[i].item() for n, v in record.values.items()}}})
            time.sleep(float(sys.argv[2]))
        study.append({run: {}}, record.grokking_epoch)
        study.finish([run])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study of these runs, written in one go."""
    path = tmp_path_factory.mktemp("written") / "study.sqlite"
    with open_study(path, create=True) as study:
        study.write(xor.measure(RUNS))
    with open_study(path) as study:
        yield study


@contextmanager
def writing(path, pause=0):
    """Start the writer, which rests for so many seconds after each snapshot, and wait for its study."""
    with started([sys.executable, "-c", WRITER, path, pause], cwd=Path(__file__).parent) as writer:
        # The last thing that is done to make one.
        wait_until(lambda: path.with_name(f"{path.name}-wal").exists(), "there was a study")
        yield writer


class Follower:
    """Reads a study again and again, and checks each reading against those before."""

    def __init__(self, path, written):
        self.path = path
        self.written = written
        self.keys = set()
        self.reached = {}

    def look(self):
        with open_study(self.path) as study:
            # Each by itself: what is finished meanwhile may be in both of them, and not in neither.
            unfinished, keys = study.unfinished(), study.keys()
            assert self.keys <= keys
            self.keys = keys
            for record in unfinished:
                assert record.epochs[-1] >= self.reached.get(record.key, 0)
                self.reached[record.key] = record.epochs[-1]
            assert self.reached.keys() <= keys | {record.key for record in unfinished}
            configs = [json.loads(key) for key in sorted(keys)]
            if configs:
                expected = self.written.dataset_of(configs)
                assert study.dataset_of(configs).identical(expected)
            check_summary(study.contents())


def check_summary(sweeps):
    """Assert that every planned run is either finished or missing; return how many are finished."""
    if not sweeps:
        return 0
    (sweep,) = sweeps
    assert sweep["runs"] + len(sweep["missing"]) == len(RUNS)
    assert len(sweep["unfinished"]) <= 1
    return sweep["runs"]


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_reader_in_a_loop(_, written, tmp_path):
    path = tmp_path / "study.sqlite"
    follower = Follower(path, written)
    with writing(path) as writer:
        while writer.poll() is None:
            follower.look()
        _, errors = writer.communicate()
        assert (writer.returncode, errors) == (0, "")
    follower.look()
    assert len(follower.keys) == len(RUNS)
    with open_study(path) as study:
        assert study.dataset.identical(written.dataset)


@pytest.mark.parametrize("_", range(ROUNDS))
def test_the_summary_of_one_connection_counts_every_run_once(_, tmp_path):
    path = tmp_path / "study.sqlite"
    counts = [0]
    with writing(path) as writer, open_study(path) as study:
        while writer.poll() is None:
            counts.append(check_summary(study.contents()))
        counts.append(check_summary(study.contents()))
    assert counts == sorted(counts)
    assert counts[-1] == len(RUNS)


def test_commands_that_read_while_it_is_written(written, tmp_path):
    path = tmp_path / "study.sqlite"
    counts, analysed = [0], []

    def run(*arguments):
        done = finished([*COMMAND, *arguments])
        assert done.returncode == 0, done.stderr
        assert all(line.startswith(("nulls ", "analysis ")) for line in done.stderr.splitlines()), (
            done.stderr
        )
        return done.stdout

    with writing(path, 0.02) as writer:
        while writer.poll() is None:
            counts.append(check_summary(json.loads(run("info", path, "--json"))["sweeps"]))
            assert "xor" in run("watch", path, "--once") or counts[-1] == 0
            if counts[-1] >= 3:  # of three sizes
                analysed.append(json.loads(run("analyze", path, "--json", "--jobs", "1")))
    counts.append(check_summary(json.loads(run("info", path, "--json"))["sweeps"]))
    assert counts == sorted(counts)
    assert analysed
    assert counts[-1] == len(RUNS)
    with open_study(path) as study:
        assert study.dataset.identical(written.dataset)

"""A real Dask scheduler with two worker processes, and what happens to them."""

import json
import sys
from contextlib import ExitStack, contextmanager

import pytest
from small_sweep import (
    COMMAND,
    COORDINATOR,
    KEYS,
    OPTIONS,
    announced_by,
    check_and_resume,
    check_kept,
    check_whole,
    finished,
    one_sentence,
    started,
    wait_until,
)

from gradquake.study.study import open_study

WORKERS = 2


class Cluster:
    """A scheduler and its workers, as processes."""

    def __init__(self, address, scheduler, workers):
        self.address = address
        self.scheduler = scheduler
        self.workers = workers


@contextmanager
def running_cluster(folder):
    note = folder / "scheduler.json"
    python = [sys.executable, "-m"]
    own = ["--no-dashboard", "--scheduler-file", note]
    worker = [*python, "distributed.cli.dask_worker", *own, "--nworkers", "1", "--nthreads", "1"]
    with ExitStack() as stack, open(folder / "log", "w") as log:

        def start(command):
            return stack.enter_context(started(command, stdout=log, stderr=log, cwd=folder))

        scheduler = start(
            [*python, "distributed.cli.dask_scheduler", *own, "--host", "127.0.0.1", "--port", "0"]
        )
        local = ["--host", "127.0.0.1", "--no-nanny", "--local-directory", folder]
        workers = [start([*worker, *local]) for _ in range(WORKERS)]

        def is_up():
            said = (folder / "log").read_text()
            assert scheduler.poll() is None, said
            return said.count("Registered to:") == WORKERS

        wait_until(is_up, "the cluster was up")
        yield Cluster(json.loads(note.read_text())["address"], scheduler, workers)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def mortal_cluster(tmp_path):
    with running_cluster(tmp_path) as running:
        yield running


def test_the_command_line_gets_the_same_bits_from_a_cluster(cluster, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    command = [*COMMAND, "run", "xor", "--out", path, *OPTIONS, "--scheduler", cluster.address]
    done = finished(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 runs of this sweep are in ")
    assert all(line.startswith("measuring ") for line in done.stderr.splitlines())
    with open_study(path) as study:
        check_whole(study, undisturbed)


def test_a_failing_run_is_named_and_the_others_are_kept(cluster, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    done = finished([*COORDINATOR, path, cluster.address, "--diverging"])
    assert done.returncode == 1
    message = one_sentence(done.stderr)
    assert message.startswith("gradquake: 1 of 13 runs failed, each tried twice; the others are kept")
    assert "xor N=801 hidden=200 seed=0: training diverged" in message
    with open_study(path) as study:
        check_kept(study, set(KEYS), undisturbed)
        (missing,) = study.missing()
    assert missing["hidden"] == 200


def test_a_killed_worker_costs_nothing(mortal_cluster, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    with started([*COORDINATOR, path, mortal_cluster.address]) as coordinator:
        told = [coordinator.stdout.readline() for _ in range(2)]
        mortal_cluster.workers[0].kill()
        output, errors = coordinator.communicate()
        assert (coordinator.returncode, errors) == (0, "")
    assert announced_by("".join(told) + output) == set(KEYS)
    with open_study(path) as study:
        check_whole(study, undisturbed)


def test_a_killed_scheduler_is_said_and_the_sweep_goes_on_here(mortal_cluster, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    options = [*OPTIONS, "--scheduler", mortal_cluster.address]
    with started([*COMMAND, "run", "xor", "--out", path, *options]) as coordinator:
        wait_until(lambda: finished_runs(path), "a run was finished")
        seen = finished_runs(path)
        mortal_cluster.scheduler.kill()
        output, errors = coordinator.communicate()
        assert (coordinator.returncode, output) == (1, "")
    assert "the workers are gone (their scheduler or pool has stopped)" in one_sentence(errors)
    check_and_resume(path, seen, undisturbed)


def finished_runs(path):
    """The keys of a study that may not be there yet."""
    if path.exists() and path.stat().st_size:
        with open_study(path) as study:
            return study.keys()
    return set()


def test_nobody_at_the_address_is_said(tmp_path):
    path = tmp_path / "study.sqlite"
    done = finished(
        [*COMMAND, "run", "xor", "--out", path, *OPTIONS, "--scheduler", "tcp://127.0.0.1:9"]
    )
    assert (done.returncode, done.stdout) == (2, "")
    message = one_sentence(done.stderr)
    assert message.startswith("gradquake: no Dask scheduler answers at tcp://127.0.0.1:9; start one")
    assert not path.exists()

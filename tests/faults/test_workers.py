"""Workers that are killed at any moment: the sweep goes on without them."""

import os
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest
from small_sweep import (
    COORDINATOR,
    FEWER,
    FULL,
    KEYS,
    PATIENCE,
    alive_in_session,
    announced_by,
    check_whole,
    started,
    wait_until,
    wait_until_alone,
    workers_of,
)

from gradquake.study.pools import WorkerDiedError, open_executor
from gradquake.study.study import open_study

# A run is given up after the fourth worker that dies of it.
MOST_KILLS = 3


@pytest.mark.parametrize("seed", range(FEWER))
def test_killed_at_any_moment(seed, lifetime, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    rng = np.random.default_rng(seed)
    pauses = rng.dirichlet(np.ones(1 + rng.integers(1, MOST_KILLS + 1))) * lifetime
    with started([*COORDINATOR, path]) as coordinator:
        for pause in pauses[:-1]:
            time.sleep(pause)
            wait_until(lambda: coordinator.poll() is not None or workers_of(coordinator), "it had one")
            if workers := workers_of(coordinator):
                with suppress(psutil.NoSuchProcess):
                    workers[rng.integers(len(workers))].kill()
        output, errors = coordinator.communicate()
        assert coordinator.returncode == 0, errors
        wait_until_alone(coordinator)
    assert announced_by(output) == set(KEYS)
    with open_study(path) as study:
        check_whole(study, undisturbed)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9] if FULL else [0.5])
def test_the_server_that_makes_the_workers_is_killed_with_them(share, undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"

    def server():
        return [p for p in alive_in_session(coordinator.pid) if "forkserver" in " ".join(p.cmdline())]

    with started([*COORDINATOR, path]) as coordinator:
        told = [coordinator.stdout.readline() for _ in range(1 + int(10 * share))]
        for process in server():
            process.kill()
        output, errors = coordinator.communicate()
        assert coordinator.returncode == 0, errors
        wait_until_alone(coordinator)
    assert announced_by("".join(told) + output) == set(KEYS)
    with open_study(path) as study:
        check_whole(study, undisturbed)


# So large that it takes a while to send.
LARGE = 200_000_000


def send_and_die(pause):
    """Return what is large, and be killed so many seconds after it is made."""
    large = bytes(LARGE)
    threading.Timer(pause, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return large


@pytest.mark.parametrize("pause", [0.01, 0.03, 0.06, 0.1, 0.15, 0.2])
def test_killed_while_it_sends_what_it_measured(pause):
    with open_executor(2) as pool:
        sent = pool.submit(send_and_die, pause)
        error = sent.exception(timeout=PATIENCE)
        assert isinstance(error, WorkerDiedError) if error else len(sent.result()) == LARGE
        assert pool.submit(os.getpid).result(timeout=PATIENCE) > 0

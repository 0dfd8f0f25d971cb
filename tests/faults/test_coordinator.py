"""A coordinator that is killed at any moment, and a second one beside it."""

import signal
import time

import numpy as np
import pytest
from small_sweep import (
    COMMAND,
    COORDINATOR,
    FAULTS,
    OPTIONS,
    announced_by,
    check_and_resume,
    check_whole,
    finished,
    one_sentence,
    started,
    wait_until_alone,
)

from gradquake.study.study import open_study


@pytest.mark.parametrize("moment", range(FAULTS))
def test_killed_at_any_moment(moment, lifetime, undisturbed, pool, tmp_path):
    path = tmp_path / "study.sqlite"
    share = (moment + np.random.default_rng(moment).random()) / FAULTS
    with started([*COORDINATOR, path]) as coordinator:
        time.sleep(share * lifetime)
        coordinator.kill()
        output, _ = coordinator.communicate()
        wait_until_alone(coordinator)
    check_and_resume(path, announced_by(output), undisturbed, pool)


def test_a_second_sweep_waits_for_no_one_once_the_first_is_killed(undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    second = [*COMMAND, "run", "xor", "--out", path, *OPTIONS, "--jobs", "1"]
    with started([*COORDINATOR, path]) as first:
        # It says so when it holds the study.
        assert first.stdout.readline() == "\n"
        # Stopped, so that it cannot end before the second begins, however busy the machine is.
        first.send_signal(signal.SIGSTOP)
        refused = finished(second)
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert f"another process runs a sweep on {path}" in one_sentence(refused.stderr)
        first.kill()
        output, _ = first.communicate()
    done = finished(second)
    assert done.returncode == 0, done.stderr
    with open_study(path) as study:
        assert announced_by(output) <= study.keys()
        check_whole(study, undisturbed)


def test_a_refused_sweep_does_not_disturb_the_first(undisturbed, tmp_path):
    path = tmp_path / "study.sqlite"
    with started([*COORDINATOR, path]) as first:
        assert first.stdout.readline() == "\n"
        first.send_signal(signal.SIGSTOP)
        refused = finished([*COORDINATOR, path])
        first.send_signal(signal.SIGCONT)
        assert "another process runs a sweep" in one_sentence(refused.stderr)
        _, errors = first.communicate()
        assert (first.returncode, errors) == (0, "")
    with open_study(path) as study:
        check_whole(study, undisturbed)

"""The undisturbed sweep, how long it takes, and a pool that continues the disturbed ones."""

import time

import pytest
from small_sweep import COORDINATOR, RUNS, check_whole, finished

from gradquake.experiments import xor
from gradquake.study.execution import execute
from gradquake.study.pools import open_executor
from gradquake.study.study import open_study


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A study with the whole sweep, measured here, in one go."""
    path = tmp_path_factory.mktemp("undisturbed") / "study.sqlite"
    with open_study(path, create=True) as study:
        execute(study, xor.measure, RUNS)
    with open_study(path) as study:
        yield study


@pytest.fixture(scope="session")
def pool():
    with open_executor(2) as opened:
        yield opened


@pytest.fixture(scope="session")
def lifetime(undisturbed, tmp_path_factory):
    """Seconds that a coordinator lives where nothing happens to it."""
    path = tmp_path_factory.mktemp("lifetime") / "study.sqlite"
    began = time.monotonic()
    done = finished([*COORDINATOR, path])
    assert done.returncode == 0, done.stderr
    with open_study(path) as study:
        check_whole(study, undisturbed)
    return time.monotonic() - began

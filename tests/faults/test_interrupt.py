"""Interrupts from the keyboard, at any moment from the first import to the end."""

import functools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_sweep import (
    FAULTS,
    FEWER,
    KEYS,
    OPTIONS,
    RUNS,
    check_kept,
    check_whole,
    one_sentence,
    started,
    wait_until_alone,
)

from gradquake.experiments import xor
from gradquake.paper.xor import evidence
from gradquake.paper.xor import plan as xor_plan
from gradquake.study.execution import execute
from gradquake.study.study import open_study

# A reproduction of few and small networks.
PLAN = functools.partial(xor_plan.Plan, hidden=(3, 5, 8), gini_seeds=3)

# The command line as its script runs it, which says when it has come to gradquake's own code.
STARTED = """
import sys
import gradquake.__main__
sys.stdout.write("started\\n")
sys.stdout.flush()
gradquake.__main__.main()
"""
COMMAND = [sys.executable, "-c", STARTED]
REPRODUCER = [sys.executable, str(Path(__file__).with_name("reproducer.py"))]


def interrupt_at(moment, command, *, whole_group):
    """Interrupt a command, or as a terminal does all that it started; return its end and its errors."""
    with started(command) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(moment)
        if process.poll() is None:
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate()
        wait_until_alone(process)
    return process.returncode, errors


@pytest.mark.parametrize("number", range(FAULTS))
def test_a_run_is_interrupted_at_any_moment(number, lifetime, undisturbed, pool, tmp_path):
    path = tmp_path / "study.sqlite"
    share = (number + np.random.default_rng(number).random()) / FAULTS
    command = [*COMMAND, "run", "xor", "--out", path, *OPTIONS, "--jobs", "2"]
    status, errors = interrupt_at(share * lifetime, command, whole_group=number % 2 == 0)
    if status == 130:
        assert one_sentence(errors).startswith("gradquake: interrupted")
    else:
        # It was done before.
        assert status == 0
        assert one_sentence(f"{errors}gradquake: ") == "gradquake: "
    with open_study(path, create=True) as study:
        check_kept(study, set(KEYS) if status == 0 else set(), undisturbed)
        execute(study, xor.measure, RUNS, pool)
        check_whole(study, undisturbed)


@pytest.fixture(scope="module")
def reproduced(pool, tmp_path_factory):
    """The study of a small reproduction, and the seconds that its measuring takes."""
    path = tmp_path_factory.mktemp("reproduced") / "study.sqlite"
    began = time.monotonic()
    with open_study(path, create=True) as study:
        evidence.measure(PLAN(seeds=2, quick=True), {xor_plan.STUDY: study}, pool)
        yield study, time.monotonic() - began


@pytest.mark.parametrize("number", range(FEWER))
def test_a_reproduction_is_interrupted_at_any_moment(number, lifetime, reproduced, pool, tmp_path):
    undisturbed, seconds = reproduced
    share = (number + np.random.default_rng(number).random()) / FEWER
    command = ["reproduce", "--quick", "--seeds", "2", "--jobs", "2", "--out", tmp_path / "out"]
    moment = share * (lifetime + seconds)
    status, errors = interrupt_at(moment, [*REPRODUCER, *command], whole_group=number % 2 == 0)
    assert status == 130
    assert one_sentence(errors).startswith("gradquake: interrupted")
    (tmp_path / "out").mkdir(exist_ok=True)
    with open_study(tmp_path / "out" / "study.sqlite", create=True) as study:
        assert study.keys() <= undisturbed.keys()
        evidence.measure(PLAN(seeds=2, quick=True), {xor_plan.STUDY: study}, pool)
        assert study.keys() == undisturbed.keys()
        for settings in undisturbed.sweeps:
            assert study.select(**settings).identical(undisturbed.select(**settings))

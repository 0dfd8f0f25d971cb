"""The sweep that faults disturb, the processes that run it, and what must hold after every fault."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from gradquake.experiments import xor
from gradquake.study.configuration import config_key
from gradquake.study.execution import execute
from gradquake.study.study import open_study

# How many moments of a process's life are tried; 100 are the full form.
FAULTS = int(os.environ.get("GRADQUAKE_FAULTS", "5"))
FULL = FAULTS >= 100
# Of what takes longer.
FEWER = max(3, FAULTS // 4)

# Ten tasks, of one or two runs: large networks, so that there are many, and few epochs.
HIDDEN, SEEDS, EPOCHS, EVERY = (1500, 2000, 2500), 4, 250, 5
RUNS = xor.sweep(HIDDEN, SEEDS, epochs=EPOCHS, every=EVERY)
KEYS = [config_key(run.config()) for run in RUNS]
OPTIONS = ["--hidden", ",".join(map(str, HIDDEN)), "--seeds", str(SEEDS)]
OPTIONS += ["--epochs", str(EPOCHS), "--every", str(EVERY)]

COMMAND = [sys.executable, "-m", "gradquake"]
COORDINATOR = [sys.executable, str(Path(__file__).with_name("coordinator.py"))]

# What the lines of progress bars begin with.
STAGES = ("measuring ", "nulls ", "conditions ", "drawing ")

# Seconds after which a test gives up on what should have happened long before.
PATIENCE = 120


def listen_to_interrupts():
    """Undo what a shell does to processes in its background, which ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(command, **options):
    """Start a process in a session of its own, and leave nothing of it behind."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    process = subprocess.Popen(
        [*map(str, command)], start_new_session=True, preexec_fn=listen_to_interrupts, **options
    )
    try:
        yield process
    finally:
        for left in alive_in_session(process.pid):
            left.kill()
        process.communicate()


def finished(command, **options):
    """Run a command to its end, and return it with what it printed."""
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )


def alive_in_session(session):
    """Every living process that a process started in its own session, and itself."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            pass
    return found


def workers_of(process):
    """The worker processes of a coordinator: what its fork server has forked."""
    found = []
    for alive in alive_in_session(process.pid):
        try:
            parent = alive.parent()
            if parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline()):
                found.append(alive)
        except psutil.Error:
            pass
    return sorted(found, key=lambda worker: worker.pid)


def wait_until(condition, what):
    """Wait for a condition, and return its first true value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.01)
    return value


def wait_until_alone(process):
    """Assert that no process outlives a coordinator."""
    wait_until(lambda: not alive_in_session(process.pid), "no worker was left")


def one_sentence(errors):
    """Return the one line that a command wrote to its errors, beside its progress bar."""
    # A bar that ends before it shows anything leaves an empty line.
    lines = [line for line in errors.splitlines() if line and not line.startswith(STAGES)]
    assert len(lines) == 1, errors
    assert lines[0].startswith("gradquake: ")
    return lines[0]


def check_kept(study, announced, undisturbed):
    """Assert that a study holds whole runs only, and all that were said to be finished."""
    kept = study.keys()
    assert announced <= kept <= set(KEYS)
    records = {record.key: record for record in study.records()}
    assert records.keys() == kept
    if kept:
        configs = [run.config() for run, key in zip(RUNS, KEYS, strict=True) if key in kept]
        assert study.dataset_of(configs).identical(undisturbed.dataset_of(configs))


def check_whole(study, undisturbed):
    """Assert that a study holds the whole sweep, bit for bit as if nothing had happened."""
    assert study.missing() == []
    assert study.unfinished() == []
    assert study.dataset.identical(undisturbed.dataset)
    assert study.dataset.attrs == undisturbed.dataset.attrs


def check_and_resume(path, announced, undisturbed, pool=None):
    """Assert that nothing was lost, and that the same call goes on to the same bits."""
    if announced:
        with open_study(path) as study:
            check_kept(study, announced, undisturbed)
    with open_study(path, create=True) as study:
        check_kept(study, announced, undisturbed)
        execute(study, xor.measure, RUNS, pool)
        check_whole(study, undisturbed)


def announced_by(output):
    """The keys of the runs that a coordinator said were finished."""
    return {KEYS[int(number)] for line in output.splitlines() for number in line.split()}

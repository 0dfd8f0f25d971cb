"""How snapshots reach the study: the writing thread, forks, interrupts, and ends of processes."""

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from loops import X, network, sgd, train
from scripts import run_at_once, run_script, script

import gradquake.torch as gqt
from gradquake import StudyError, open_study
from gradquake.study.study import Study
from gradquake.torch import journal


def until(found, wanted, seconds=60):
    """Look again and again until what is found is what is wanted."""
    end = time.monotonic() + seconds
    while (last := found()) != wanted:
        assert time.monotonic() < end, f"{last} is not {wanted}"
        time.sleep(0.05)


def unfinished_steps(path):
    # A file is empty for a moment before its tables are there.
    if not path.exists() or path.stat().st_size == 0:
        return []
    with open_study(path) as study:
        return [record.epochs.tolist() for record in study.unfinished()]


def studied(tmp_path, **more):
    """A study, a place to move it away to, and a network whose every step is measured into it."""
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path, **more)
    return path, tmp_path / "away", model, optimizer, quake


def test_measurements_reach_the_study_while_nothing_steps(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)

    def written():
        with open_study(path) as study:
            return [record.values["loss"].tolist() for record in study.unfinished()]

    with gqt.attach(model, optimizer, every=1, study=path) as quake:
        for losses in ([0.5], [0.5, 0.25]):
            train(model, optimizer, 1)
            quake.log(loss=losses[-1])
            until(written, [losses])
    assert (
        quake._journals["gradient"]._thread is None or not quake._journals["gradient"]._thread.is_alive()
    )


def test_a_process_killed_in_a_lull_leaves_all_that_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
optimizer, quake = begin("a")
for step in range(3):
    optimizer.step()
    quake.log(loss=float(step))
time.sleep(600)
"""
    command = [sys.executable, "-W", "error", "-c", script(code, path, every=1.0)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        until(lambda: unfinished_steps(path), [[0, 1, 2]])
    finally:
        running.kill()
        assert running.communicate()[1] == b""
    with open_study(path) as study:
        (found,) = study.unfinished()
    assert found.values["loss"].tolist() == [0, 1, 2]


def test_memory_does_not_grow_over_100_000_steps(tmp_path):
    code = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
optimizer, quake = begin("a", every=10)
with quake:
    for step in range(100_000):
        optimizer.step()
        quake.log(loss=0.5)
        if step == 20_000:
            before = resident()
    print(before, resident())
"""
    out = run_script(code, tmp_path / "runs.sqlite", every=1.0).stdout
    before, after = map(int, out.split())
    # 8,000 snapshots are as many kilobytes; a thread that writes has a little memory of its own.
    assert after - before < 6 * 2**20
    with open_study(tmp_path / "runs.sqlite") as study:
        assert study.dataset.sizes["epoch"] == 10_000


def test_several_processes_write_to_one_study(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
optimizer, quake = begin("a", width={width}, labels=dict(width={width}))
with quake:
    for _ in range(200):
        optimizer.step()
"""
    done = run_at_once([script(code.format(width=width), path, every=1.0) for width in (2, 3, 4)])
    assert [one.stderr for one in done] == [""] * 3
    with open_study(path) as study:
        assert study.dataset["width"].values.tolist() == [2, 3, 4]
        assert study.dataset["size"].shape == (3, 200)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_run_that_another_process_took_over_is_told_once_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.05)
    path = tmp_path / "runs.sqlite"
    model, other = network(), network()
    optimizer = sgd(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quake = gqt.attach(model, optimizer, every=1, study=path)
        train(model, optimizer, 6, quake)
        quake.dataset  # noqa: B018
        second = gqt.attach(other, sgd(other), every=1, study=path, step=0)
        for _ in range(20):
            train(model, optimizer, 6, quake)
            time.sleep(0.02)
        quake.detach()
    second.detach(finished=False)
    (told,) = [str(warning.message) for warning in said]
    assert told.endswith("another process continued it; this process no longer records its measurements")
    assert quake._journals["gradient"] not in journal._OPEN


def test_no_step_waits_for_a_study_that_another_process_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.05)
    monkeypatch.setattr(journal, "SHORT_PATIENCE", 0.2)
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # A step that waited for the lock would wait until this test lets go of it: for ever.

    def go_on():
        for _ in range(40):
            train(model, optimizer, 6, quake)
            time.sleep(0.02)
        until(lambda: quake._journals["gradient"]._failures >= journal.LASTING, True)
        train(model, optimizer, 6, quake)

    with pytest.warns(UserWarning, match="locked.*measurements stay in memory"):
        go_on()
    other.execute("ROLLBACK")
    other.close()
    quake.detach()
    with open_study(path) as study:
        assert study.dataset.sizes["epoch"] == 41 * 6


@pytest.mark.parametrize("failures", [journal.LASTING - 1, journal.LASTING + 1])
def test_only_a_failure_that_lasts_is_told(tmp_path, monkeypatch, failures):
    """Writers of one study wait for each other now and then, such as the two fields of one training."""
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.05)
    flush, tries = journal.Journal.flush, []

    def wait_in_vain(self, patience):
        tries.append(patience)
        if len(tries) <= failures:
            raise StudyError("the study is locked")
        flush(self, patience)

    monkeypatch.setattr(journal.Journal, "flush", wait_in_vain)
    path, _, model, optimizer, quake = studied(tmp_path)
    train(model, optimizer, 3)
    until(lambda: len(tries) > failures, True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(model, optimizer, 3)
        quake.detach()
    assert [str(one.message)[:19] for one in said] == ["the study is locked"] * (
        failures > journal.LASTING
    )
    with open_study(path) as study:
        assert study.dataset.sizes["epoch"] == 6


def test_a_study_that_cannot_be_written_is_said_once_and_written_when_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("gradquake.torch.journal.FLUSH_EVERY", 0.05)
    path, away, model, optimizer, quake = studied(tmp_path)
    train(model, optimizer, 3, quake)
    until(lambda: unfinished_steps(path), [[0, 1, 2]])
    path.rename(away)

    def go_on():
        train(model, optimizer, 3, quake)
        until(lambda: quake._journals["gradient"]._failures > journal.LASTING, True)
        train(model, optimizer, 3, quake)

    with pytest.warns(UserWarning, match=r"does not exist.*measurements stay in memory") as said:
        go_on()
    assert len(said) == 1
    away.rename(path)
    until(lambda: unfinished_steps(path), [list(range(9))])
    quake.detach()
    with open_study(path) as study:
        assert np.isfinite(study.dataset["loss"].values).all()


@pytest.mark.parametrize("errors", ["warn", "raise"])
def test_detach_tries_again_where_it_failed(tmp_path, errors):
    path, away, model, optimizer, quake = studied(tmp_path, errors=errors)
    train(model, optimizer, 3, quake)
    path.rename(away)
    if errors == "warn":
        with pytest.warns(UserWarning, match=r"does not exist; .* detach\(\) tries again"):
            quake.__exit__(None, None, None)
        with pytest.warns(UserWarning, match="does not exist"):
            quake.detach()
    else:
        with pytest.raises(StudyError, match="does not exist"):
            quake.detach()
    away.rename(path)
    quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2]
        assert study.unfinished() == []


# The end of a process


def test_a_forgotten_probe_leaves_what_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"

    def forget():
        model = network()
        optimizer = sgd(model)
        gqt.attach(model, optimizer, every=1, study=path)
        train(model, optimizer)

    before = set(threading.enumerate())
    forget()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 1
    gc.collect()
    deadline = time.monotonic() + 60
    found = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        with open_study(path) as study:
            found = [record.epochs.tolist() for record in study.unfinished()]
    assert found == [list(range(6))]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_script_that_forgets_to_detach_leaves_what_it_measured(tmp_path):
    code = """
optimizer, quake = begin("a")
for _ in range(3):
    optimizer.step()
"""
    run_script(code, tmp_path / "runs.sqlite")
    assert unfinished_steps(tmp_path / "runs.sqlite") == [[0, 1, 2]]


def test_what_a_forgotten_probe_could_not_write_is_written_at_exit(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
from gradquake import open_study
journal.PATIENCE, journal.SHORT_PATIENCE = 0.5, 0.1
def forget():
    optimizer, _ = begin("a")
    for _ in range(3):
        optimizer.step()
    other.execute("BEGIN IMMEDIATE")
open_study(path, create=True).close()
other = sqlite3.connect(path, isolation_level=None)
forget()
gc.collect()
while any(t.name == "gradquake journal" for t in threading.enumerate()):
    time.sleep(0.05)
other.execute("ROLLBACK")
"""
    run_script(code, path, every=0.05)
    assert unfinished_steps(path) == [[0, 1, 2]]


def test_without_a_thread_everything_is_written_at_the_end(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
optimizer, quake = begin("a")
with quake:
    for _ in range(3):
        optimizer.step()
"""
    run_script(code, path)
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2]


def test_what_is_lost_at_the_end_is_told_once(tmp_path):
    code = """
import warnings
warnings.simplefilter("default")
optimizer, quake = begin("a")
optimizer.step()
os.unlink(path)
"""
    said = run_script(code, tmp_path / "runs.sqlite").stderr
    assert said.count("does not exist; a study file is needed; the measurements since") == 1


# Forks and interrupts


def _kept(tmp_path, code, every=60.0):
    """Run a script; return the number of snapshots of its finished and its unfinished runs, by name."""
    path = tmp_path / "runs.sqlite"
    run_script(code, path, every)
    with open_study(path) as study:
        finished, unfinished = study.records(), study.unfinished()
    return [
        {record.config["labels"]["name"]: len(record.epochs) for record in records}
        for records in (finished, unfinished)
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_writes_nothing_and_hangs_on_nothing(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=1, study=path) as quake:
        for steps in (3, 2):
            train(model, optimizer, steps, quake)
            child = os.fork()
            if child == 0:
                try:
                    with warnings.catch_warnings(record=True) as said:
                        warnings.simplefilter("always")
                        optimizer.step()  # autograd's threads are the parent's
                        optimizer.step()
                        quake.detach()
                    with open_study(path) as study:
                        study.records()
                    os._exit(len(said) != 1 or "was forked" not in str(said[0].message))
                finally:
                    os._exit(9)
            assert os.waitpid(child, 0)[1] == 0
        for batch in torch.utils.data.DataLoader(X, batch_size=4, num_workers=2):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(9))


def test_a_process_that_multiprocessing_forked_keeps_what_it_measured(tmp_path):
    code = """
def train():
    optimizer, quake = begin("child")
    optimizer.step()
optimizer, quake = begin("parent")
optimizer.step()
process = multiprocessing.get_context("fork").Process(target=train)
process.start()
process.join()
optimizer.step()
quake.detach()
"""
    assert _kept(tmp_path, code) == [{"parent": 2}, {"child": 1}]


def test_several_threads_may_fork(tmp_path):
    code = """
optimizer, quake = begin("a")
def fork():
    for _ in range(30):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
threads = [threading.Thread(target=fork) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    optimizer.step()
for thread in threads:
    thread.join()
steps = quake.step
quake.detach()
assert len(quake.dataset["epoch"]) == steps
"""
    assert list(_kept(tmp_path, code, every=0.001)[0]) == ["a"]


def test_a_handler_that_detaches_while_a_write_is_interrupted_hangs_on_nothing(tmp_path, monkeypatch):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    train(model, optimizer, 6, quake)
    really = journal.open_study

    def interrupted(*arguments, **options):
        monkeypatch.setattr(journal, "open_study", really)
        quake.detach(finished=False)
        return really(*arguments, **options)

    monkeypatch.setattr(journal, "open_study", interrupted)
    with pytest.warns(UserWarning, match="the code that was interrupted is writing the study"):
        quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(6))


def test_an_interrupt_while_a_lock_is_taken_leaves_no_lock_behind(tmp_path):
    # As a signal does, between the taking of a condition's lock and the block that it guards.
    code = """
optimizer, quake = begin("a")
optimizer.step()
def interrupt(frame, event, argument):
    where = frame.f_code.co_filename, frame.f_code.co_name
    if event == "c_return" and where == (threading.__file__, "__enter__"):
        sys.setprofile(None)
        raise KeyboardInterrupt
sys.setprofile(interrupt)
try:
    optimizer.step()
    quake.log(loss=1.0, accuracy=1.0)
    quake.detach(finished=True)
except KeyboardInterrupt:
    pass
sys.setprofile(None)
quake.detach()
"""
    assert _kept(tmp_path, code) == [{"a": 2}, {}]


def test_an_interrupt_just_after_a_run_was_finished_is_no_loss(tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    train(model, optimizer)
    finish = Study.finish

    def interrupted(*args):
        finish(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quake.detach()
    quake.detach()
    assert capsys.readouterr().err == ""
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(6))

"""Damaged studies: what is read is what was written, or a StudyError in one line that names the file."""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from small_sweep import FULL, finished

from gradquake.errors import StudyError
from gradquake.study.recording import VARIABLES, RunRecord
from gradquake.study.study import open_study

# Bytes that are flipped where not all are; in a log there are few that can be.
SAMPLE = 400
PARTS = range(16) if FULL else range(1)

SETTINGS = {"experiment": "test", "alpha": 0.3}


def record(seed):
    rng = np.random.default_rng(seed)
    values = {name: (9 * rng.random(3)).astype(kind) for name, (kind, _) in VARIABLES.items()}
    config = SETTINGS | {"n_parameters": 41, "seed": seed}
    return RunRecord(config, seed or None, np.arange(3) * 10, values)


SNAPSHOTS = {
    0: {"size": 4, "threshold": 0.5, "truncated": False},
    10: {"size": 7, "threshold": 0.25, "truncated": True, "valid_loss": 0.125},
}


def write(path, after=lambda: None):
    """Write a study with finished, planned and unfinished runs; ``after`` is called after each step."""
    with open_study(path, create=True) as study:
        after()
        study.plan([record(seed).config for seed in range(4)])
        after()
        for seed in range(2):
            study.write([record(seed)])
            after()
        runs = study.begin([record(seed).config for seed in (2, 8)])
        after()
        study.append({runs[0]: SNAPSHOTS, runs[1]: {0: SNAPSHOTS[0]}}, 10)
        after()


def plain(records):
    return [
        (
            record.key,
            record.grokking_epoch,
            record.epochs.tobytes(),
            {name: (values.dtype.str, values.tobytes()) for name, values in record.values.items()},
        )
        for record in records
    ]


READINGS = {
    "keys": lambda study: study.keys(),
    "contents": lambda study: study.contents(),
    "sweeps": lambda study: study.sweeps,
    "missing": lambda study: sorted(config["seed"] for config in study.missing()),
    "unfinished": lambda study: plain(study.unfinished()),
    "records": lambda study: plain(study.records()),
    "dataset": lambda study: plain_dataset(study.dataset),
    "one run": lambda study: plain_dataset(study.dataset_of([record(0).config])),
    "text": repr,
}


def plain_dataset(dataset):
    variables = dataset.variables.items()
    return (
        {name: (v.dims, v.dtype.str, v.values.tobytes(), v.attrs) for name, v in variables},
        dataset.attrs,
    )


def read(path):
    """Everything that can be read of a study: by name a value, or the StudyError's message."""
    found = {}
    try:
        with open_study(path) as study:
            for name, reading in READINGS.items():
                try:
                    found[name] = reading(study)
                except StudyError as error:
                    found[name] = refusal(path, error)
    except StudyError as error:
        found = dict.fromkeys(READINGS, refusal(path, error))
    return found


class Refusal(str):
    """The message of a StudyError."""

    __slots__ = ()


def refusal(path, error):
    message = str(error)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return Refusal(message)


def check(found, written):
    """Assert that each reading is what was written or a refusal; return how many are the latter."""
    for name, value in found.items():
        assert isinstance(value, Refusal) or value == written[name], name
    return sum(isinstance(value, Refusal) for value in found.values())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a closed study, and all that is read of it."""
    path = tmp_path_factory.mktemp("whole") / "study.sqlite"
    write(path)
    assert os.listdir(path.parent) == [path.name]
    written = read(path)
    assert check(written, written) == 0
    assert written["missing"] == [2, 3]
    assert len(written["unfinished"]) == len(written["records"]) == 2
    return path.read_bytes(), path, written


def moved(written, source, path):
    """The readings of a study that lies elsewhere now."""
    return written | {"text": written["text"].replace(str(source), str(path))}


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_is_noticed_or_harmless(part, whole, tmp_path):
    content, source, written = whole
    path = tmp_path / "study.sqlite"
    written = moved(written, source, path)
    rng = np.random.default_rng(part)
    if FULL:
        places = range(part, len(content), len(PARTS))
    else:
        # Most of a small study is empty: half of the sample is from what is not.
        filled = np.flatnonzero(np.frombuffer(content, np.uint8))
        places = [*rng.choice(filled, SAMPLE // 2), *rng.choice(len(content), SAMPLE // 2)]
    noticed = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            noticed += check(read(path), written) > 0
        except Exception as error:
            error.add_note(f"byte {place} is {damaged[place]}, not {content[place]}")
            raise
    assert noticed > 0


def test_a_truncated_study_is_noticed(whole, tmp_path):
    content, source, written = whole
    path = tmp_path / "study.sqlite"
    step = 64 if FULL else 2048
    for kept in [*range(0, len(content), step), len(content) - 1]:
        path.write_bytes(content[:kept])
        assert check(read(path), moved(written, source, path)) > 0, kept


# The log of a killed writer

KILLED = """
import os
import signal
from test_damage import write

more = [False] + [True] * {steps}
write({path!r}, lambda: more.pop() or os.kill(os.getpid(), signal.SIGKILL))
"""


def left_by_a_killed_writer(path, steps):
    """Let a process write so many steps and die, and return the bytes of the files that it leaves."""
    path.parent.mkdir()
    code = KILLED.format(path=str(path), steps=steps)
    done = finished([sys.executable, "-c", code], cwd=Path(__file__).parent)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


STEPS = 6


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What a killed writer leaves, and what is read after each of its steps."""
    folder = tmp_path_factory.mktemp("logged")
    states = []
    for step in range(STEPS):
        files = left_by_a_killed_writer(folder / str(step) / "study.sqlite", step)
        states.append(read(folder / str(step) / "study.sqlite"))
    assert "study.sqlite-wal" in files
    return files, states


def one_of(found, states):
    """Whether what was read is all of one moment, or a refusal."""
    return any(
        all(isinstance(v, Refusal) or v == state[name] for name, v in found.items() if name != "text")
        for state in states
    )


def damages(log, rng):
    """Logs with one flipped bit, and logs that end early."""
    places = range(0, len(log), 16) if FULL else rng.choice(len(log), SAMPLE // 2, replace=False)
    for place in places:
        damaged = bytearray(log)
        damaged[place] ^= 1 << rng.integers(8)
        yield place, bytes(damaged)
    for kept in range(0, len(log), 512 if FULL else 4096):
        yield -kept, log[:kept]


def test_a_damaged_log_gives_an_earlier_state_or_is_noticed(logged, tmp_path):
    files, states = logged
    path = tmp_path / "study" / "study.sqlite"
    for place, log in damages(files["study.sqlite-wal"], np.random.default_rng(0)):
        path.parent.mkdir()
        for name, content in files.items():
            (path.parent / name).write_bytes(content)
        path.with_name("study.sqlite-wal").write_bytes(log)
        assert one_of(read(path), states), place
        shutil.rmtree(path.parent)

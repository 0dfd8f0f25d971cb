"""Disks that are really full, and processes that are killed in the midst of a write."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_sweep import (
    COMMAND,
    FAULTS,
    FEWER,
    OPTIONS,
    PATIENCE,
    check_and_resume,
    check_whole,
    finished,
    one_sentence,
)

from gradquake.study.study import open_study

# More than a disk needs for the whole sweep.
ROOM = 1_000_000

# Runs the rest of its arguments twice in a folder on a disk of its own: first with so many bytes,
# then with more, and copies out what is on the disk each time.
ON_A_SMALL_DISK = """
size=$1 disk=$2 before=$3 after=$4; shift 4
mount -t tmpfs -o size=$size gradquake "$disk" || exit 99
"$@"; status=$?
cp "$disk"/* "$before"
mount -o remount,size=64m "$disk" || exit 99
"$@" 2> "$after/errors"; echo $? > "$after/status"
cp "$disk"/* "$after"
exit $status
"""
UNSHARE = ["unshare", "--map-root-user", "--mount"]


def can_mount(folder):
    """Whether this system lets us mount a small disk."""
    try:
        tried = finished([*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=64k", "gradquake", folder])
    except FileNotFoundError:
        return False
    return tried.returncode == 0


@pytest.fixture(scope="module")
def run_with_room(tmp_path_factory):
    """A function that runs the sweep with so many bytes, then with more; see ``with_a_limit``."""
    return on_a_small_disk if can_mount(tmp_path_factory.mktemp("disk")) else with_a_limit


def command(path):
    return [*COMMAND, "run", "xor", "--out", path, *OPTIONS, "--jobs", "1"]


def on_a_small_disk(room, folder):
    disk, before, after = (folder / name for name in ("disk", "before", "after"))
    for made in (disk, before, after):
        made.mkdir()
    script = ["sh", "-c", ON_A_SMALL_DISK, "sh", room, disk, before, after]
    done = finished([*UNSHARE, *script, *command(disk / "study.sqlite")])
    assert done.returncode != 99, done.stderr
    assert (after / "status").read_text() == "0\n", (after / "errors").read_text()
    return done, before / "study.sqlite", after / "study.sqlite"


def with_a_limit(room, folder):
    """Run the sweep where no file may be larger than some bytes, then where it may.

    Returns the first process when it was done, the study that it left, and the one that became of it.
    """
    path = folder / "study.sqlite"
    done = subprocess.run(
        [*map(str, command(path))],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=lambda: limit(room),
    )
    before = folder / "before"
    before.mkdir()
    for file in folder.glob("study.sqlite*"):
        (before / file.name).write_bytes(file.read_bytes())
    again = finished(command(path))
    assert again.returncode == 0, again.stderr
    return done, before / "study.sqlite", path


def limit(room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def check_full(done, before, after, undisturbed):
    with open_study(after) as study:
        check_whole(study, undisturbed)
    if done.returncode == 0:
        with open_study(before) as study:
            check_whole(study, undisturbed)
        return False
    message = one_sentence(done.stderr)
    assert done.returncode in (1, 2)
    assert "the disk is full or has a limit" in message or "No space left" in message
    check_and_resume(before, set(), undisturbed)
    return True


@pytest.mark.parametrize("share", np.linspace(0.02, 0.2, FEWER).round(4))
def test_a_full_disk_is_said_and_goes_on_when_there_is_room(share, run_with_room, undisturbed, tmp_path):
    room = int(share * ROOM)
    assert check_full(*run_with_room(room, tmp_path), undisturbed)


@pytest.mark.parametrize("share", [0.02, 0.06])
def test_a_limit_of_a_file_is_said_like_a_full_disk(share, undisturbed, tmp_path):
    assert check_full(*with_a_limit(int(share * ROOM), tmp_path), undisturbed)


# Killed within a write

# A process that a write beyond so many bytes of any file kills, as SIGXFSZ does where it is not
# ignored; it announces every run.
WRITER = """
import resource, signal, sys
from small_sweep import RUNS
from gradquake.study.study import open_study

path, recorded, room = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_study(recorded) as study:
    records = study.records()
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
with open_study(path, create=True) as study:
    study.plan([run.config() for run in RUNS])
    for record in records:
        study.write([record])
        print(record.key, flush=True)
"""
# The pages of a study without a run, one by one; then those of the log.
WITHIN = [*range(4096, 12 * 4096, 8192), *np.linspace(12 * 4096, 400_000, FAULTS).astype(int).tolist()]


@pytest.mark.parametrize("room", WITHIN)
def test_killed_within_a_write(room, undisturbed, pool, tmp_path):
    path = tmp_path / "study.sqlite"
    writer = [sys.executable, "-c", WRITER, path, undisturbed.path, room]
    done = finished(writer, cwd=Path(__file__).parent)
    assert done.returncode in (0, -signal.SIGXFSZ), done.stderr
    announced = set(done.stdout.splitlines())
    check_and_resume(path, announced, undisturbed, pool)

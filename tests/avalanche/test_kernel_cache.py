"""Compiled code is kept on disk if that is possible and safe; a kernel works whatever is wrong there."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import gradquake
from gradquake.avalanche import _numba

# What the process prints: the value, how often compiled code came from the disk, and the folder.
CALL = """
import numpy as np
from gradquake.avalanche._kernels_threshold import select
{before}
value = select(np.array([2.0, 3.0, 1.0]), 3, 0)
print(value, sum(select.stats.cache_hits.values()), select.stats.cache_path)
"""


KERNELS = sorted(Path(_numba.__file__).parent.glob("_kernels*.py"))
NEEDED = ("avalanche/_numba.py", "avalanche/_kernels_threshold.py")


@pytest.fixture
def package(tmp_path):
    """A copy of the package whose own folder takes no compiled code, whoever runs it."""
    copy = tmp_path / "package" / "gradquake"
    source = Path(gradquake.__file__).parent
    (copy / "avalanche").mkdir(parents=True)
    for name in ("__init__.py", "avalanche/__init__.py", *NEEDED):
        shutil.copy(source / name, copy / name)
    (copy / "avalanche" / "__pycache__").write_bytes(b"")
    return copy


def called(package, *, before="", home=os.devnull, **environment):
    """Call one kernel in a process of its own; return what it printed."""
    folder = package.parent.parent / "working"
    folder.mkdir(exist_ok=True)
    known = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    found = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", CALL.format(before=before)],
        env={**known, "PYTHONPATH": str(package.parent), "HOME": str(home), **environment},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stderr == ""
    assert list(folder.iterdir()) == []
    value, hits, path = found.stdout.split()
    assert value == "1.0"
    return int(hits), None if path == "None" else Path(path)


def test_every_kernel_is_kept_in_this_way():
    files = [importlib.import_module(f"gradquake.avalanche.{file.stem}") for file in KERNELS]
    kernels = [value for file in files for value in vars(file).values() if isinstance(value, Dispatcher)]
    assert len(kernels) > 20
    for kernel in kernels:
        assert isinstance(kernel._cache, _numba.MachineCode)


def test_without_a_folder_that_can_be_written_kernels_work(package):
    assert called(package) == (0, None)


def test_without_a_home_nothing_is_written_into_the_working_directory(package):
    assert called(package, XDG_CACHE_HOME="") == (0, None)


def test_code_is_not_taken_from_a_folder_that_others_can_write_to(package, tmp_path):
    shared, own = tmp_path / "shared", tmp_path / "shared" / "own"
    own.mkdir(parents=True)
    shared.chmod(0o777)
    assert called(package, home=own) == (0, None)
    # In a folder like /tmp nobody can replace what belongs to others.
    shared.chmod(0o1777)
    _, path = called(package, home=own)
    assert path.is_relative_to(own)
    path.chmod(0o1777)
    assert called(package, home=own) == (0, None)


def test_damaged_code_is_compiled_anew_and_replaced(package, tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    hits, path = called(package, **place)
    assert hits == 0
    assert path.is_relative_to(tmp_path / "kept")
    kept = sorted(path.iterdir())
    assert {file.suffix for file in kept} == {".nbi", ".nbc"}
    for file in kept:
        file.write_bytes(bytes(100))
    assert called(package, **place) == (0, path)
    assert called(package, **place) == (1, path)


def test_a_folder_that_vanishes_while_the_program_runs(package, tmp_path):
    kept = tmp_path / "kept"
    gone = f"import shutil; shutil.rmtree({str(kept)!r}); open({str(kept)!r}, 'w').close()"
    hits, _ = called(package, before=gone, NUMBA_CACHE_DIR=str(kept))
    assert hits == 0


def test_code_is_compiled_anew_if_another_file_of_kernels_has_changed(package, tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    assert called(package, **place)[0] == 0
    assert called(package, **place)[0] == 1
    (package / "avalanche" / "_kernels_other.py").write_text("# called by select\n")
    assert called(package, **place)[0] == 0

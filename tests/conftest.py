"""Which tests need more than the core, and sweeps of chosen sizes in the schema of recorded ones."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from gradquake.cli.app import main
from gradquake.study.recording import RunRecord, to_dataset

# The optional libraries, and the tests that need them. pytest collects these tests only if the library
# is installed, so that no test is skipped. They have the marker `optional`: `make test` leaves them out.
FRAMEWORKS = ("lightning", "transformers", "accelerate", "tensorboard", "wandb", "mlflow")
NEEDED_BY = {
    "torch": [
        "pytorch",
        "docs",
        "fuzz",
        "paper/test_modadd.py",
        "cli/test_measure.py",
        "files/test_files.py",
        "files/test_file_combinations.py",
        "files/test_file_layouts.py",
        "experiments/test_modular_addition.py",
        "experiments/test_regimes.py",
        "experiments/test_xor_network.py",
    ],
    "playwright": ["report/test_browser.py"],
    "distributed": ["faults/test_cluster.py", "experiments/test_outside.py"],
    **{framework: ["pytorch/test_frameworks.py"] for framework in FRAMEWORKS},
}
TESTS = Path(__file__).parent
MISSING = [library for library in NEEDED_BY if importlib.util.find_spec(library) is None]
collect_ignore = sorted({path for library in MISSING for path in NEEDED_BY[library]})


# This file takes longest: begun last, it would keep one worker busy while the others have nothing to do.
LONGEST = TESTS / "paper" / "test_reproduce.py"


def pytest_collection_modifyitems(items):
    """Mark the tests that need more than the core, and those that kill sweeps, which take minutes."""
    items.sort(key=lambda item: item.path != LONGEST)
    homes = [TESTS / home for of_library in NEEDED_BY.values() for home in of_library]
    homes.append(TESTS / "faults")
    for item in items:
        if any(item.path.is_relative_to(home) for home in homes):
            item.add_marker(pytest.mark.optional)


def pytest_report_header():
    """Say which tests are left out."""
    if MISSING:
        return f"without {', '.join(MISSING)}, not collected: {', '.join(collect_ignore)}"
    return None


@pytest.fixture
def one_thread():
    """Let torch use one thread: the products of small networks take longer on several."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def call(monkeypatch, capsys):
    """The command line in this process, where nothing has to be loaded again."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradquake", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(
            returncode=stopped.value.code or 0, stdout=printed.out, stderr=printed.err
        )

    return called


def build_sweep(sizes, grokking=None, *, epochs=None, **variables):
    """Return a sweep with the given sizes.

    ``sizes`` and every further variable map N to an array of shape (runs, snapshots); ``grokking``
    maps N to the grokking epoch of each run, None where it never grokked.
    """
    records = []
    for n, of_scale in sizes.items():
        for seed, of_run in enumerate(np.asarray(of_scale)):
            times = np.arange(len(of_run)) if epochs is None else np.asarray(epochs)
            values = {name: np.asarray(by_n[n])[seed] for name, by_n in variables.items()}
            records.append(
                RunRecord(
                    config={"experiment": "synthetic", "n_parameters": n, "seed": seed},
                    grokking_epoch=None if grokking is None else grokking[n][seed],
                    epochs=times,
                    values={"size": of_run.astype(np.int64), **values},
                )
            )
    return to_dataset(records)


@pytest.fixture(scope="session")
def sweep_of():
    """The builder of sweeps, built once so that property tests may use it."""
    return build_sweep


@pytest.fixture(scope="session")
def random_sizes():
    """Heavy-tailed sizes of four scales with unequal numbers of runs, five snapshots each."""
    rng = np.random.default_rng(7)
    runs_of_scale = {85: 4, 201: 6, 401: 3, 1201: 5}
    return {
        n: np.ceil(n * np.exp(rng.standard_normal((runs, 5)))).astype(np.int64)
        for n, runs in runs_of_scale.items()
    }


@pytest.fixture(scope="session")
def random_grokking():
    """Grokking epochs of the runs of ``random_sizes``, some None."""
    return {
        85: [2, 3, None, 1],
        201: [1, 2, 2, 4, None, 3],
        401: [3, None, 2],
        1201: [4, 1, 2, 2, 3],
    }


@pytest.fixture(scope="session")
def random_sweep(random_sizes, random_grokking) -> xr.Dataset:
    """The sweep of ``random_sizes``."""
    return build_sweep(random_sizes, random_grokking)

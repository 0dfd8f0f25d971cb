"""The long form: atheris, guided by the coverage of gradquake.

    PYTHONPATH=src python tests/fuzz/run.py store --executions 300000

needs the group ``fuzz`` of pyproject.toml. A find is kept, told with its place, and does not end the
run; what hangs or crashes the interpreter itself does, and libFuzzer keeps its input.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

import atheris
import numpy as np

# Compiled code has no lines to cover.
PACKAGE = Path(find_spec("gradquake").origin).parent
KERNELS = [f"gradquake.{file.parent.name}.{file.stem}" for file in PACKAGE.glob("*/_kernels*.py")]

with atheris.instrument_imports(include=["gradquake"], exclude=KERNELS):
    from oracle import scratch
    from targets import TARGETS


LONGEST_INPUT = 192
REPORT_EVERY = 1000


class Run:
    """Executions of one surface, and what was found in them."""

    def __init__(self, surface: str, executions: int, folder: Path) -> None:
        self._surface = surface
        self._wanted = executions
        self._folder = folder
        self._finds: dict[str, int] = {}
        self._done = 0
        self._started = time.perf_counter()

    def __repr__(self) -> str:
        seconds = time.perf_counter() - self._started
        return f"{self._surface}: {self._done} executions in {seconds:.0f} s, {len(self._finds)} finds"

    def execute(self, data: bytes) -> None:
        """Execute one input, and keep what it found."""
        try:
            TARGETS[self._surface](data)
        except Exception as error:
            self._keep(data, error)
        self._done += 1
        if self._done % REPORT_EVERY == 0 or self._done == self._wanted:
            print(self, file=sys.stderr, flush=True)
        if self._done == self._wanted:
            # libFuzzer ends the process without what Python would do at its end.
            shutil.rmtree(scratch(), ignore_errors=True)

    def _keep(self, data: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "gradquake/" in frame.filename] or frames
        name = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        signature = f"{type(error).__name__} at {name}"
        if isinstance(error, AssertionError):
            signature += f" {str(error)[:30]}"
        self._finds[signature] = self._finds.get(signature, 0) + 1
        if self._finds[signature] > 1:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._surface}-{hashlib.sha1(data).hexdigest()[:12]}"
        path.write_bytes(data)
        traceback.print_exception(error)
        print(f"FIND {signature}: {error}"[:500], f"kept in {path}", sep="\n", file=sys.stderr)


def main() -> None:
    """Run one surface."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("surface", choices=TARGETS)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="to stop after; 0 for no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--finds", type=Path, default=Path("/tmp/gradquake-finds"))
    given = parser.parse_args()
    folder = given.finds.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # One thread, as many executions a second as can be.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run = Run(given.surface, given.executions, folder)
    options = {
        "runs": given.executions, "max_total_time": given.seconds, "seed": given.seed,
        "max_len": LONGEST_INPUT, "len_control": 0, "timeout": 60, "rss_limit_mb": 4096,
        "artifact_prefix": f"{folder}/{given.surface}-",
    }  # fmt: skip
    corpus = folder / f"{given.surface}-corpus"
    corpus.mkdir(exist_ok=True)
    rng = np.random.default_rng(given.seed)
    for i in range(100):
        (corpus / f"random-{i}").write_bytes(rng.bytes(int(rng.integers(8, LONGEST_INPUT))))
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)], run.execute
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()

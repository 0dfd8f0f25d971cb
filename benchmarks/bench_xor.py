"""How much faster are the paper's 48 runs than a careful PyTorch and SciPy script on one core."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from peers import torch_run

OURS = "from gradquake.experiments import xor; xor.measure(xor.sweep(xor.PAPER_HIDDEN, 6))"
THEIRS = "import peers, torch; from gradquake.experiments import xor"


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def new_process(code):
    """Return the time of a new Python process with an empty compile cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", code]
        return seconds(
            lambda: subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parent)
        )


def main():
    import torch

    from gradquake.avalanche.topologies import build
    from gradquake.experiments import mlp, xor

    torch.set_num_threads(1)
    runs = xor.sweep(xor.PAPER_HIDDEN, 6)
    records = xor.measure(runs)

    def peer(run):
        return torch_run(
            run,
            mlp.initial_parameters(run.hidden, run.seed),
            build(run.topology, run.n_parameters, run.seed),
        )

    snapshots, grokking_epoch = peer(runs[0])
    agree = int((snapshots[:, 0] == records[0].values["size"]).sum())
    print(f"first run: {agree} of {len(snapshots)} snapshot sizes are equal to the peer's,")
    print(f"and the grokking epoch, {grokking_epoch}: {grokking_epoch == records[0].grokking_epoch}")

    # All 48 runs of ours after each of the peer's, so that the machine's drift hits both.
    times = np.array(
        [(seconds(lambda r=run: peer(r)), seconds(lambda: xor.measure(runs))) for run in runs]
    )
    theirs, ours = times[:, 0].sum(), np.median(times[:, 1])
    cold = np.median([new_process(OURS) for _ in range(3)])
    start = np.median([new_process(THEIRS) for _ in range(3)])
    print(f"peer                          {theirs:6.2f} s  ({theirs / len(runs):.2f} s a run)")
    print(f"gradquake                     {ours:6.2f} s  {theirs / ours:5.1f} times faster")
    print(f"peer, new process             {theirs + start:6.2f} s")
    print(f"gradquake, new process, cold  {cold:6.2f} s  {(theirs + start) / cold:5.1f} times faster")


if __name__ == "__main__":
    main()

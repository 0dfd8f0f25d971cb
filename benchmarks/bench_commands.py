"""How long the commands take, beside starting Python and importing NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMMAND = str(Path(sys.executable).with_name("gradquake"))


def seconds(command, repeats, cold=False):
    times = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | ({"NUMBA_CACHE_DIR": f"{folder}/cache"} if cold else {})
            start = time.perf_counter()
            subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def main():
    reproduce = [COMMAND, "reproduce", "--out", "out"]
    quick = [*reproduce, "--quick"]
    seconds(quick, 1)
    bare = seconds([sys.executable, "-c", "import numpy"], 9)
    rows = [
        ("python -c 'import numpy'", bare),
        ("python -c 'import gradquake'", seconds([sys.executable, "-c", "import gradquake"], 9)),
        ("gradquake --help", seconds([COMMAND, "--help"], 9)),
        ("gradquake reproduce --quick, warm", seconds(quick, 3)),
        ("gradquake reproduce --quick, cold", seconds(quick, 2, cold=True)),
        ("gradquake reproduce, warm", seconds(reproduce, 1)),
    ]
    for name, time_taken in rows:
        print(f"{name:<34} {time_taken:7.2f} s  {time_taken / bare:6.1f} times import numpy")


if __name__ == "__main__":
    main()

"""The digest of the recorded numbers on processors that this machine has not: emulated ones.

    python tests/validation/processors.py

Environment variables turn instructions off in NumPy, in numba's compiler, in OpenBLAS and in the C
library. If qemu-user is installed (Debian: apt-get install qemu-user), whole processors are emulated
too, in some minutes each. On a machine of another kind run digest.py itself.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

DIGEST = Path(__file__).with_name("digest.py")

# What NumPy has code for, and this processor instructions.
OPTIONAL = [name for name in __cpu_dispatch__ if __cpu_features__[name]]

WITHOUT_AVX512 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(n for n in OPTIONAL if "512" in n or n == "X86_V4"),
    "NUMBA_CPU_NAME": "haswell",
    "OPENBLAS_CORETYPE": "Haswell",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
}
BASELINE = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(OPTIONAL),
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
}
if platform.machine() == "x86_64":
    BASELINE |= {
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-FMA,-FMA4",
    }


def emulated():
    """Return by name the environment and the interpreter of every processor."""
    found = {"this processor": ({}, [sys.executable])}
    found["without optional instructions"] = (BASELINE, [sys.executable])
    if platform.machine() == "x86_64":
        found["without AVX-512"] = (WITHOUT_AVX512, [sys.executable])
        if qemu := shutil.which("qemu-x86_64"):
            for model in ("Nehalem", "Haswell"):
                # OpenBLAS has names of its own for processors, and these two are among them.
                kernels = {"OPENBLAS_CORETYPE": model}
                found[f"qemu, {model}"] = (kernels, [qemu, "-cpu", model, sys.executable])
    return found


def compare(environment, interpreter):
    """Compare the digest on one processor; return the finished process."""
    return subprocess.run(
        [*interpreter, str(DIGEST)], env=os.environ | environment, capture_output=True, text=True
    )


def main():
    failed = False
    for name, how in emulated().items():
        done = compare(*how)
        failed |= done.returncode != 0
        print(f"{name}: {done.stdout.strip() or done.stderr.strip()}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

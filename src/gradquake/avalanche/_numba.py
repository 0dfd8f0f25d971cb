"""How kernels are compiled, and how their machine code is kept.

Kernels are the functions of files ``_kernels*.py``: compiled loops, arrays in, arrays out, no checks.
Each has a naive twin in the tests. Each releases the GIL, so that threads can share a batch. One input
gives one result, bit for bit, on every processor: sums run in a fixed order, and only +, -, *, / and the
square root are used, whose rounding IEEE 754 fixes. Elementary functions are built from these, since the
last bit of a mathematical library's results depends on the library and the processor. No kernel may be
compiled with ``fastmath``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "Array", "KernelFolder", "MachineCode", "NamedFolder", "Places", "SourceFolder", "UserFolder",
    "compiled", "index", "inlined", "kernel", "prefetch",
]  # fmt: skip

Array = NDArray[Any]

# An unsigned index saves the test for negative indices, which count from the end.
index = np.uint64


# A kernel is compiled together with the kernels that it calls, in any file.
SOURCES = tuple(
    (file.stat().st_mtime, file.stat().st_size)
    for file in (Path(__file__), *sorted(Path(__file__).parents[1].glob("*/_kernels*.py")))
)


class KernelFolder:
    """A cache whose code is out of date if any file of kernels has changed."""

    def get_source_stamp(self) -> tuple[tuple[float, int], ...]:
        """Return the state of all files of kernels."""
        return SOURCES


class NamedFolder(KernelFolder, UserProvidedCacheLocator):
    """The folder that ``NUMBA_CACHE_DIR`` names."""


class SourceFolder(KernelFolder, InTreeCacheLocator):
    """The folder beside the source."""


class UserFolder(KernelFolder, UserWideCacheLocator):
    """The user's own cache folder; no folder if another user could put code there."""

    def ensure_cache_path(self) -> None:
        """Make the folder, or raise OSError."""
        folder = Path(self.get_cache_path())
        # Without a home folder the path is relative to the folder in which the program runs.
        if not folder.is_absolute():
            raise FileNotFoundError("the user has no home folder")
        super().ensure_cache_path()
        folder = folder.resolve()
        if os.name == "posix" and not all(
            _is_safe(place, folder) for place in (folder, *folder.parents)
        ):
            raise PermissionError(f"other users can write to {folder}")


def _is_safe(place: Path, folder: Path) -> bool:
    """Return whether no other user can replace anything below ``place`` on the way to ``folder``."""
    status = place.stat()
    # As in /tmp: users may add files, and rename only their own.
    sticky = status.st_mode & stat.S_ISVTX and place != folder
    return status.st_uid in (0, os.geteuid()) and (sticky or not status.st_mode & stat.S_IWOTH)


class Places(CompileResultCacheImpl):
    """The folders that may keep machine code, in the order of trial."""

    _locator_classes = (NamedFolder, SourceFolder, UserFolder)


class MachineCode(FunctionCache):
    """The compiled code of a kernel on disk. If it cannot be read, the kernel is compiled again."""

    _impl_class = Places

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None."""
        # Unpickling a damaged file can raise any exception.
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # Without a new index, the next process would find the same damage.
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, unless the disk is full or the folder cannot be written."""
        with suppress(Exception):
            super().save_overload(sig, data)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel, and keeps its machine code if there is a place."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, error_model="numpy", **options)(function)
        # If there is no folder or no source file, the kernel is compiled in every process.
        with suppress(Exception):
            dispatcher._cache = MachineCode(function)
        return dispatcher

    return decorate


kernel = compiled()
# For small functions that other kernels call: they are compiled as part of their callers.
inlined = compiled(inline="always")


@intrinsic
def prefetch(context: Any, array: Any, i: Any) -> Any:  # noqa: ARG001
    """Prefetch ``array[i]`` into the caches, for writing."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(hint, [place, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, i), code

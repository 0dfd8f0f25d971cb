"""How kernels are compiled, and how their machine code is kept."""

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

Array = NDArray[Any]

# An unsigned index spares the compiled code the test for Python's indices from the end.
index = np.uint64


# A kernel is compiled together with the kernels that it calls, whichever file they are in.
SOURCES = tuple(
    (file.stat().st_mtime, file.stat().st_size)
    for file in (Path(__file__), *sorted(Path(__file__).parents[1].glob("*/_kernels*.py")))
)


class KernelFolder:
    """A cache whose code is out of date as soon as any file of kernels has changed."""

    def get_source_stamp(self) -> tuple[tuple[float, int], ...]:
        """Return the state of all files of kernels."""
        return SOURCES


class NamedFolder(KernelFolder, UserProvidedCacheLocator):
    """The folder that ``NUMBA_CACHE_DIR`` names."""


class SourceFolder(KernelFolder, InTreeCacheLocator):
    """The folder beside the source."""


class UserFolder(KernelFolder, UserWideCacheLocator):
    """The user's own cache folder; no folder if somebody else could put code there."""

    def ensure_cache_path(self) -> None:
        """Make the folder, or raise OSError."""
        folder = Path(self.get_cache_path())
        # Without a home the path is relative, and would lie in whatever folder the program runs in.
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
    # As in /tmp: everybody may add files there, and rename only their own.
    sticky = status.st_mode & stat.S_ISVTX and place != folder
    return status.st_uid in (0, os.geteuid()) and (sticky or not status.st_mode & stat.S_IWOTH)


class Places(CompileResultCacheImpl):
    """The folders that may keep machine code, in the order in which they are tried."""

    _locator_classes = (NamedFolder, SourceFolder, UserFolder)


class MachineCode(FunctionCache):
    """The compiled code of a kernel on disk. Whatever is wrong there, the kernel is compiled anew."""

    _impl_class = Places

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None."""
        # A damaged file can raise anything when it is unpickled.
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # Without its index, the next process would find the same damage.
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
        # There may be no place at all, or no source file: the kernel is then compiled in every process.
        with suppress(Exception):
            dispatcher._cache = MachineCode(function)
        return dispatcher

    return decorate


kernel = compiled()
# For what is small and called inside other kernels: it is then compiled with them, not besides.
inlined = compiled(inline="always")


@intrinsic
def prefetch(context: Any, array: Any, i: Any) -> Any:  # noqa: ARG001
    """Ask for ``array[i]`` to be brought into the caches, to be written to; it changes nothing else."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(hint, [place, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, i), code

"""The snapshots of a run, on their way to the study: a thread writes them, so that no step waits."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradquake.errors import RunTakenError, StudyError
from gradquake.study.configuration import config_key
from gradquake.study.recording import RunRecord, to_dataset
from gradquake.study.schema import PATIENCE
from gradquake.study.study import Study, open_study
from gradquake.torch.guest import reason, tell
from gradquake.torch.measurement import Values

if TYPE_CHECKING:
    import xarray as xr

# Measurements reach the study file within this many seconds.
FLUSH_EVERY = 1.0
# The seconds that the thread waits for another process to write, before it tries again later. A
# fork waits for the thread's write to end, and so for as long.
SHORT_PATIENCE = 1.0
# Writers of one study wait for each other, so a failure is told after so many tries in a row.
LASTING = 3

__all__ = ["Journal", "write_open_journals"]


class Journal:
    """Holds the snapshots of a run and of its nulls until they are in the study.

    Parameters
    ----------
    configs : mapping of str to dict
        The configuration of the run and of each of its nulls, by surrogate.
    path : Path, optional
        The study file, which is made if it does not exist. Without a path, all stays in memory.
    step, tensors : optional
        As in ``Study.begin``.

    Attributes
    ----------
    reached : int or None
        The last step of which the study held a snapshot when the journal was made.

    Raises
    ------
    StudyError
        If the study cannot be written, or holds the run already.
    """

    def __init__(
        self,
        configs: Mapping[str, dict[str, object]],
        path: Path | None,
        step: int | None,
        tensors: Mapping[str, int] | None = None,
    ) -> None:
        self._configs = dict(configs)
        self._tensors = dict(tensors or {})
        # The training may change the working directory.
        self._path = None if path is None else path.absolute()
        self._waiting: dict[str, dict[int, Values]] = {surrogate: {} for surrogate in configs}
        self._grokked: int | None = None
        self._grokked_written: int | None = None
        self._owned: dict[str, int] = {}
        self._complete = self._taken = False
        # Guards the fields above; never held while the study is written. It is entered itself, not
        # through the condition: Ctrl-C within a condition's `__enter__` leaves the lock held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        # Held while the study is written. A signal handler may interrupt a write and begin another.
        self._writing = threading.RLock()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._stopping = self._forgotten = False
        self._failure = ""
        self._failures = 0
        self.reached: int | None = None
        if self._path is not None:
            with open_study(self._path, create=True) as opened:
                real = next(iter(self._configs.values()))
                self.reached = opened.reached(real)
                owned = opened.begin(list(self._configs.values()), step, self._tensors)
                self._grokked = self._grokked_written = opened.grokking_epoch(owned[0])
            self._owned = dict(zip(self._configs, owned, strict=True))
            _OPEN.add(self)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how a copy is made: empty, and without the run in the study."""
        return Journal, (self._configs, None, None, self._tensors)

    @property
    def taken(self) -> bool:
        """Whether another process continued the run, or the run was removed."""
        return self._taken

    @property
    def surrogates(self) -> tuple[str, ...]:
        """The names of the run ("real") and of its nulls."""
        return tuple(self._configs)

    def keep(self, snapshots: Mapping[str, Values], step: int) -> None:
        """Keep the snapshots of a step, by surrogate. They replace earlier ones of the same step."""
        with self._lock:
            if self._path is not None and not self._owned:
                return
            for surrogate, values in snapshots.items():
                self._waiting[surrogate][step] = values
            self._have_it_written()

    @property
    def grokking_epoch(self) -> int | None:
        """The run's grokking epoch; None as long as it has none."""
        return self._grokked

    @grokking_epoch.setter
    def grokking_epoch(self, step: int | None) -> None:
        """Set the grokking epoch, or remove it."""
        with self._lock:
            self._grokked = step
            self._have_it_written()

    def failure(self) -> str:
        """Return why the thread cannot write, once each time that writing fails for long; else ''."""
        with self._lock:
            found, self._failure = self._failure, ""
        return found

    def dataset_of(self, surrogate: str) -> xr.Dataset:
        """Return all measurements of the run or of a null so far, as the Dataset of one run."""
        config = self._configs[surrogate]
        if self._path is None:
            waiting = self._waiting[surrogate]
            return to_dataset([RunRecord.of_snapshots(config, self._grokked, waiting, self._tensors)])
        if self._owned:
            self.flush(PATIENCE)
        with self._study(PATIENCE) as opened:
            key = config_key(config)
            for record in opened.unfinished():
                if record.key == key:
                    return to_dataset([record])
            return opened.dataset_of([config])

    def flush(self, patience: float) -> None:
        """Write all that is not written yet. If this fails, all is kept.

        Raises
        ------
        StudyError
            If the study cannot be written within ``patience`` seconds, or another process continued the
            run.
        """
        with self._writing:
            if self._busy:
                raise StudyError(
                    "the code that was interrupted is writing the study; try again after it"
                )
            with self._lock:
                if not self._unwritten:
                    return
                batch = {surrogate: dict(of) for surrogate, of in self._waiting.items()}
                grokked, self._busy = self._grokked, True
            try:
                with self._study(patience) as opened:
                    opened.append({self._owned[name]: of for name, of in batch.items()}, grokked)
            except RunTakenError:
                self._lose()
                raise
            finally:
                self._busy = False
            # Dropped only now, in case of an interrupt: writing a snapshot twice does no harm.
            with self._lock:
                self._grokked_written = grokked
                for surrogate, of in batch.items():
                    waiting = self._waiting[surrogate]
                    for step, values in of.items():
                        if waiting.get(step) is values:
                            del waiting[step]

    def _study(self, patience: float) -> Study:
        assert self._path is not None  # noqa: S101
        return open_study(self._path, patience=patience)

    def close(self, *, finished: bool, patience: float = PATIENCE) -> None:
        """End the thread, write the rest, and mark the run as finished if any call has said so.

        Raises
        ------
        StudyError
            If the study cannot be written. Nothing is lost, and a second call tries again.
        """
        if not self._owned:
            return
        with self._lock:
            self._stopping = True
            self._complete |= finished
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.flush(patience)
        owned, self._owned = self._owned, {}
        if self._complete:
            try:
                with self._writing, self._study(patience) as opened:
                    opened.finish(owned.values())
            except RunTakenError:
                self._lose()
                raise
            except Exception:
                # Not after Ctrl-C, when the run may be finished already.
                self._owned = owned
                raise
        _OPEN.discard(self)

    def let_go(self) -> None:
        """Let the thread write the rest and end, without waiting for it."""
        with self._lock:
            self._forgotten = True
            self._have_it_written()
            if not self._unwritten:
                _OPEN.discard(self)

    @property
    def _unwritten(self) -> bool:
        return bool(self._owned) and (
            any(self._waiting.values()) or self._grokked != self._grokked_written
        )

    def _have_it_written(self) -> None:
        if self._thread is None and self._unwritten:
            # A daemon, so that a script can end; the rest is then written at exit.
            thread = threading.Thread(target=self._work, name="gradquake journal", daemon=True)
            # A thread cannot start at a limit of the system, or in an interpreter that is ending. The
            # next call tries again, and `close` writes the rest.
            with contextlib.suppress(RuntimeError, MemoryError):
                thread.start()
                self._thread = thread
        self._changed.notify_all()

    def _work(self) -> None:
        patient_until = None
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._ending or self._unwritten)
                self._changed.wait_for(lambda: self._ending, FLUSH_EVERY)
                if self._stopping:
                    return
            try:
                self.flush(SHORT_PATIENCE)
                self._failures = 0
            except Exception as error:
                with self._lock:
                    self._failures += 1
                    if self._failures == LASTING or isinstance(error, RunTakenError):
                        self._failure = self._said_of(error)
            if self._forgotten:
                now = time.monotonic()
                patient_until = patient_until or now + PATIENCE
                if not self._unwritten:
                    _OPEN.discard(self)
                    return
                # The rest is tried once more at exit.
                if now > patient_until:
                    return
                time.sleep(FLUSH_EVERY / 10)

    def _lose(self) -> None:
        """Stop recording, because the run belongs to another process."""
        self._owned, self._taken = {}, True
        _OPEN.discard(self)

    def _said_of(self, error: Exception) -> str:
        taken = isinstance(error, RunTakenError)
        end = (
            "this process no longer records its measurements"
            if taken
            else "measurements stay in memory, and writing is tried again"
        )
        return f"{reason(error)}; {end}"

    @property
    def _ending(self) -> bool:
        return self._stopping or self._forgotten

    def _hold(self) -> None:
        self._writing.acquire()
        self._changed.acquire()

    def _release(self) -> None:
        self._changed.release()
        self._writing.release()

    def _disown(self) -> None:
        """Leave the run to the parent process, which goes on with it."""
        self._owned, self._thread = {}, None
        self._release()


# The journals that own a run in a study, until all is written.
_OPEN: set[Journal] = set()


def write_open_journals() -> None:
    """Write the rest of every open journal within PATIENCE, because the process ends."""
    deadline = time.monotonic() + PATIENCE
    for journal in list(_OPEN):
        # Only once, although a process that multiprocessing started may come here twice.
        _OPEN.discard(journal)
        try:
            journal.close(finished=False, patience=max(SHORT_PATIENCE, deadline - time.monotonic()))
        except Exception as error:
            tell(f"{reason(error)}; the measurements since the last write are lost")


_forking = threading.Lock()
_held: list[Journal] = []


def _before_fork() -> None:
    # A child that is forked during a write would keep SQLite's locks for good.
    _forking.acquire()
    for journal in list(_OPEN):
        journal._hold()
        _held.append(journal)


def _after_fork(method: str) -> None:
    held = _held[:]
    _held.clear()
    try:
        for journal in held:
            getattr(journal, method)()
    finally:
        _OPEN.difference_update(held if method == "_disown" else ())
        _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork("_release"),
        after_in_child=lambda: _after_fork("_disown"),
    )

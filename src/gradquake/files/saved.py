"""The gradients that files hold: the files in order, checked to be alike, read one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.probe import fixed_sample
from gradquake.avalanche.sums import Gradient
from gradquake.errors import InputError, printable, require_count
from gradquake.files import gradients
from gradquake.files.finding import find
from gradquake.files.steps import HINT

__all__ = ["SavedGradients", "open_gradients"]


@dataclass(frozen=True)
class SavedGradients:
    """Gradients in files, ready to be read; made by ``open_gradients``.

    Attributes
    ----------
    paths : tuple of Path
        The files in the order of their steps.
    steps : array of int64
        The step of each gradient, ascending; for a difference, that of the later file.
    layout : GradientFile
        The tensors that each file holds.
    match : tuple of str
    differences : bool
    sample : int or None
    positions : array of int64 or None
        The entries that are measured; None for all.
    notes : tuple of str
        How the files were read, as far as a reader must know it.
    """

    paths: tuple[Path, ...]
    steps: NDArray[np.int64] = field(repr=False)
    layout: gradients.GradientFile = field(repr=False)
    match: tuple[str, ...] = ()
    differences: bool = False
    sample: int | None = None
    positions: NDArray[np.int64] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.steps.size

    @property
    def n_parameters(self) -> int:
        """N, the number of entries that are measured."""
        return self.layout.n_entries if self.positions is None else self.positions.size

    @property
    def tensors(self) -> tuple[int, ...]:
        """The number of measured entries of each tensor that has any."""
        lengths = np.array([tensor.n_entries for tensor in self.layout.tensors])
        if self.positions is not None:
            lengths = np.diff(np.searchsorted(self.positions, np.cumsum([0, *lengths])))
        return tuple(lengths[lengths > 0].tolist())

    def __iter__(self) -> Iterator[tuple[int, str, Gradient]]:
        """Yield the step, the name and the entries of each gradient, all in the same memory."""
        steps: list[int] = self.steps.tolist()
        vectors = [np.empty(self.n_parameters, self.layout.dtype) for _ in range(1 + self.differences)]
        if not self.differences:
            for step, path in zip(steps, self.paths, strict=True):
                self._read(path, vectors[0])
                yield step, str(path), vectors[0]
            return
        earlier, later = vectors
        self._read(self.paths[0], earlier)
        for step, (before, after) in zip(steps, pairwise(self.paths), strict=True):
            self._read(after, later)
            with np.errstate(over="ignore"):  # the probe refuses infinities with a better message
                np.subtract(later, earlier, out=earlier)
            yield step, f"{after} minus {before}", earlier
            earlier, later = later, earlier

    def _read(self, path: Path, vector: Gradient) -> None:
        gradients.read(path, self.layout, vector, self.positions)


def open_gradients(
    paths: Sequence[Path],
    *,
    match: Sequence[str] = (),
    differences: bool = False,
    sample: int | None = None,
    seed: int = 0,
) -> SavedGradients:
    """Find files and check that they are alike, without reading their data.

    Parameters
    ----------
    paths : sequence of Path
        Files in any order, or one folder of them (see ``finding.find``).
    match : sequence of str
        Only tensors whose names fit one of these patterns.
    differences : bool
        Whether the files are checkpoints: each gradient is then one file minus the file before, in
        float64 if a tensor is stored in it, otherwise in float32.
    sample : int, optional
        Measure a random subset of this many entries, the same in every file. All entries are measured
        if there are fewer.
    seed : int
        The seed of the sample.

    Raises
    ------
    InputError
        For files that do not exist, cannot be read or are not alike; a sample below 1; or, with
        ``differences``, a single file, or files whose names do not tell their order.
    """
    require_count("seed", seed, 0)
    if sample is not None:
        require_count("sample", sample, 1)
    order = find(paths)
    found = order.paths
    if differences and len(found) < 2:
        raise InputError(f"{found[0]} is a single checkpoint; a difference needs at least two")
    if differences and order.doubt:
        raise InputError(f"{order.doubt}; differences need to know which file is later: {HINT}")
    layout = gradients.describe(found[0], match, checkpoint=differences)
    for path in found[1:]:
        gradients.check_alike(layout, gradients.describe(path, match, checkpoint=differences))
    hints = gradients.hints(found[0], layout.left_out, checkpoint=differences)
    notes = [printable(note) for note in (order.note, *hints) if note]
    if layout.left_out:
        more = f" and {len(layout.left_out) - 5} more" if len(layout.left_out) > 5 else ""
        notes.append(f"left out: {', '.join(layout.left_out[:5])}{more}")
    positions = None
    if sample is not None and sample < layout.n_entries:
        positions = fixed_sample(layout.n_entries, sample, seed)
        notes.append(f"{sample} of {layout.n_entries} entries, drawn with seed {seed}")
    return SavedGradients(
        found, order.steps[1:] if differences else order.steps, layout, tuple(match), differences,
        sample, positions, tuple(notes),
    )  # fmt: skip

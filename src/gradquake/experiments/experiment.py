"""The common form of experiments: a run's configuration, and the functions that make and measure it.

A new experiment is one file, with a run configuration and an ``Experiment``, and one line in
``table.EXPERIMENTS``. The configuration is a frozen dataclass, derived from ``ProbedRun`` if a probe
measures gradients, or from ``RecordedRun`` if the experiment makes avalanches itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.observables import checked_observables
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.settings import DEFAULT_TOPOLOGY, CascadeSettings
from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError, require_count, shortened
from gradquake.study.configuration import settle_types
from gradquake.study.execution import Measure
from gradquake.study.recording import GradientRecord, RunRecord

__all__ = ["Experiment", "ProbedRun", "RecordedRun"]

# Settings that a configuration holds only if something is to be recorded besides.
OPTIONAL = ("observe", "tensors")


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """The part of a run's configuration that all experiments share.

    An experiment derives its own frozen dataclass, with ``experiment``, the experiment's name, the
    field that gives the size of a run, ``seed``, and its own settings. A run's measurements
    depend on its configuration and on nothing else.

    Raises
    ------
    InputError
        If a field is not a number of its kind.
    """

    experiment: ClassVar[str]

    if TYPE_CHECKING:
        # A field or a property of every derived class.
        @property
        def n_parameters(self) -> int: ...  # noqa: D102
        @property
        def seed(self) -> int: ...  # noqa: D102

    def __post_init__(self) -> None:
        settle_types(self)

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        own = {"experiment": self.experiment, "surrogate": REAL, "n_parameters": self.n_parameters}
        return {**own, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class ProbedRun(RecordedRun, CascadeSettings):
    """A run whose gradients a probe measures: its snapshots and its probe.

    Parameters
    ----------
    epochs : int
        The number of updates, at least 1.
    every : int
        Epochs between snapshots, at least 1: 0, every, 2 every, ... up to ``epochs``.
    topology : str
        The graph that gradients relax on: the name of a topology. The run's seed draws it.
    alpha, quantile, max_steps
        The settings of the cascade (see ``CascadeSettings``).
    observe : str
        Observables to record beside the avalanche, separated by commas: kicks, load, clusters,
        generations, isolated. In Python a sequence of names is taken as well.

    Raises
    ------
    InputError
        For a value out of range.
    """

    epochs: int = 500
    every: int = 10
    topology: str = DEFAULT_TOPOLOGY
    observe: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "observe", checked_observables(self.observe))
        super().__post_init__()
        require_count("epochs", self.epochs, 1)
        require_count("every", self.every, 1)
        _ = self.probe  # checks its settings

    @property
    def probe(self) -> Probe:
        """The probe that measures this run."""
        return Probe.of({**vars(self), "seed": self.seed})

    @property
    def snapshots(self) -> NDArray[np.int64]:
        """The epochs of the snapshots."""
        return np.arange(0, self.epochs + 1, self.every)

    def config(self) -> dict[str, Any]:
        """Return the full configuration as JSON-ready values."""
        settings = super().config()
        return {name: value for name, value in settings.items() if value or name not in OPTIONAL}


Run = TypeVar("Run", bound=RecordedRun)


@dataclass(frozen=True)
class Experiment(Generic[Run]):
    """An experiment: it makes gradients and records what a probe measures on them.

    Attributes
    ----------
    run : type
        The configuration of a run, derived from ``RecordedRun``.
    size : str
        The field of ``run`` that gives the size of a network.
    sizes : tuple of int
        The sizes of a sweep, unless others are given.
    measure : callable
        Takes run configurations of equal settings and returns their records, and those of nulls that
        are measured with them. The records of a run do not depend on the other runs.
    gradients : callable, optional
        Takes run configurations of equal settings, and for each run the epochs to return, ascending, or
        None for its snapshots. Returns the gradients that ``measure`` measures, bit for bit. None if
        the experiment cannot make its gradients again.
    library : str, optional
        The optional library that ``measure`` needs; gradquake has an extra of the same name.
    sharpness : callable, optional
        Takes run configurations of equal settings. Returns records of ``sharpness``, the largest
        eigenvalue of the Hessian, ``rate_times_sharpness`` and ``rises`` at the snapshots (see
        ``xor.sharpness``). None if the experiment does not know its Hessian.
    """

    run: type[Run]
    size: str
    sizes: tuple[int, ...]
    measure: Measure[Run]
    gradients: (
        Callable[[Sequence[Run], Sequence[NDArray[np.int64]] | None], list[GradientRecord]] | None
    ) = None
    library: str | None = None
    sharpness: Callable[[Sequence[Run]], list[RunRecord]] | None = None

    @property
    def name(self) -> str:
        """The name under which runs are recorded and the experiment is found."""
        return self.run.experiment

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the settings that the runs of a sweep share."""
        return tuple(f.name for f in fields(self.run) if f.name not in (self.size, "seed"))

    def check_installed(self) -> None:
        """Raise InputError if the library that ``measure`` needs is not installed."""
        if self.library is not None and find_spec(self.library) is None:
            raise InputError(
                f"{self.library} is not installed; {self.name} needs it: "
                f'pip install "gradquake[{self.library}]"'
            )

    def sweep(self, sizes: Sequence[int], seeds: int, **settings: Any) -> list[Run]:
        """Return the runs of every size with seeds 0 to ``seeds`` - 1.

        Parameters
        ----------
        sizes : sequence of int
            Values of the field ``size``, each once.
        seeds : int
            The number of seeds at each size, at least 1.
        **settings
            Other fields of ``run``.

        Raises
        ------
        InputError
            For no size, a size that repeats, fewer than one seed, an unknown setting, or a setting out
            of range.
        """
        require_count("seeds", seeds, 1)
        self._check_sizes(sizes)
        unknown = sorted(settings.keys() - set(self.settings))
        if unknown:
            raise InputError(
                f"{self.name} has no setting {', '.join(unknown)}; its settings are "
                f"{', '.join(self.settings)}"
            )
        make: Callable[..., Run] = self.run
        own = [{self.size: size, "seed": seed} for size in sizes for seed in range(seeds)]
        return [make(**size_and_seed, **settings) for size_and_seed in own]

    def _check_sizes(self, sizes: object) -> None:
        given = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            raise InputError(f"{self.size} is {shortened(given)}; a list of sizes is needed")
        if len(given) == 0:
            raise InputError(f"{self.size} is empty; at least one size is needed")
        if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in given):
            raise InputError(f"{self.size} is {shortened(given)}; a list of integers is needed")
        if len(set(given)) != len(given):
            raise InputError(
                f"{self.size} is {shortened(list(given))}, which repeats a size; give each size once"
            )

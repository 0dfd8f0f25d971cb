"""No setting of NumPy's errors, and no filter of warnings, changes or ends a measurement."""

import numpy as np
import pytest

from gradquake import GradquakeError, Probe, relax
from gradquake.avalanche import probe, surrogates, topologies
from gradquake.avalanche.probe import fixed_sample

N = 201


def gradients(dtype):
    rng = np.random.default_rng(0)
    largest, smallest = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    with np.errstate(all="ignore"):
        return {
            "normal": rng.standard_normal(N).astype(dtype),
            "subnormal": (rng.integers(-50, 50, N) * smallest).astype(dtype),
            "huge": (rng.uniform(-1, 1, N) * largest).astype(dtype),
            "large": (rng.uniform(-1, 1, N) * largest / 100).astype(dtype),
            "both": np.where(rng.random(N) < 0.5, largest / 50, smallest).astype(dtype),
            "zero": np.zeros(N, dtype),
            "NaN": np.full(N, np.nan, dtype),
        }


def measured_in_parts(gradient):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "LARGE", 10)
        return Probe().measure(gradient, threads=2)


TENSORS = [100, 100, 1]
MEASUREMENTS = {
    "measure": Probe("ring").measure,
    "a rounded share": Probe(alpha=1e-50, quantile=0).measure,
    "relax": lambda g: relax(g, topologies.ring(N), threshold=1e-310),
    "measure_batch": lambda g: Probe().measure_batch([g, g], threads=2),
    "measure_pieces": lambda g: Probe("ring").measure_pieces([g[:50], g[50:]]),
    "in parts": measured_in_parts,
    "kicks": lambda g: Probe().kicks(g, 20).size,
    "load": lambda g: Probe().load(g, 20).size,
    "clusters": lambda g: Probe().clusters(g).sizes,
    "generations": lambda g: Probe().generations(g).topplings,
    "isolated size": lambda g: np.array(Probe().isolated_size(g)),
    **{
        rung: lambda g, rung=rung: surrogates.surrogate(rung, g, TENSORS, seed=2**63 - 1)
        for rung in surrogates.RUNGS
    },
}


def told(call):
    """Return all that a call gives, its error included, as something that can be compared."""
    try:
        found = call()
    except GradquakeError as error:
        return str(error)
    if isinstance(found, np.ndarray):
        return found.tobytes()
    numbers = [np.array(getattr(found, name)).tobytes() for name in ("size", "area", "deviation")]
    return numbers, found.relaxed.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", list(gradients(np.float32)))
@pytest.mark.parametrize("measurement", list(MEASUREMENTS))
def test_a_measurement_is_the_same_whatever_numpy_does_about_errors(measurement, kind, dtype):
    gradient, measure = gradients(dtype)[kind], MEASUREMENTS[measurement]
    with np.errstate(all="ignore"):
        expected = told(lambda: measure(gradient))
    for setting in ("raise", "warn"):
        with np.errstate(all=setting):
            assert told(lambda: measure(gradient)) == expected


@pytest.mark.parametrize("topology", topologies.TOPOLOGIES)
def test_graphs_and_samples_are_the_same_whatever_numpy_does_about_errors(topology):
    def made():
        graph = topologies.build(topology, N, 2**63 - 1)
        sample, seed = fixed_sample(N, 50, 2**63 - 1), surrogates.seed_at(2**63 - 1, 2**62, 3)
        return graph.indptr.tolist(), graph.indices.tolist(), sample.tolist(), seed

    expected = made()
    with np.errstate(all="raise"):
        assert made() == expected

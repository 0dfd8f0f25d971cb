"""A digest of the recorded numbers: the same on every processor, bit for bit.

    python tests/validation/digest.py            compares with the committed digest, digests.json
    python tests/validation/digest.py --write    renews it, after a change that is meant

Each part stands for a kind of sweep that ``gradquake reproduce`` records, at few sizes and seeds. The
folder ``src`` must be on Python's path, or gradquake installed.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from gradquake.avalanche import _kernels_elementary, surrogates
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.experiments import synthetic, xor
from gradquake.experiments.readings import Reading, read, sizes
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.paper.xor.conditions import conditions
from gradquake.paper.xor.plan import BASELINE_ALPHAS, BASELINE_TOPOLOGIES, GINI_HIDDEN
from gradquake.scrutiny import replay

COMMITTED = Path(__file__).with_name("digests.json")

# Small networks, whose arrays fit no vector register evenly, and a large one.
HIDDEN = (20, 33, 500)
SEEDS = 2


def digest_of(arrays):
    """Return a digest of the bits of arrays, their types and their shapes."""
    total = hashlib.sha256()
    for array in arrays:
        # Little-endian and of fixed width, whatever the machine counts with.
        kind = {"b": "?", "i": "<i8", "u": "<u8", "f": "<f8"}[array.dtype.kind]
        total.update(f"{kind} {array.shape}".encode())
        total.update(np.ascontiguousarray(array, kind).tobytes())
    return total.hexdigest()[:16]


def recorded(records):
    """Return the digest of what runs recorded."""
    arrays = []
    for record in records:
        reached = -1 if record.grokking_epoch is None else record.grokking_epoch
        arrays += [np.array([reached]), *(record.values[name] for name in sorted(record.values))]
    return digest_of(arrays)


def elementary_functions():
    """Return the digest of the kernels' own functions."""
    powers = np.arange(-1070, 11)
    x = np.concatenate([np.linspace(-40, 40, 100_001), np.ldexp(np.linspace(1, 2, powers.size), powers)])
    found = [np.copy(x) for _ in range(3)]
    _kernels_elementary.tanh(found[0])
    _kernels_elementary.sigmoid(found[1])
    _kernels_elementary.softplus(found[2])
    ends = x[: x.size // 2 * 2].reshape(-1, 2)[::5].tolist()
    found.append(np.array([_kernels_elementary.degrees(abs(first), second) for first, second in ends]))
    found.append(surrogates.standard_normal(np.random.default_rng(0), (300_000,)))
    return digest_of(found)


def digests():
    """Yield the name and the digest of every part."""
    yield "elementary functions", elementary_functions()
    inline = xor.sweep(HIDDEN, SEEDS)
    shadow = xor.sweep(HIDDEN, SEEDS, alpha_train=0.0)
    yield "in-line", recorded(xor.measure(inline))
    yield "shadow", recorded(xor.measure(shadow))
    for condition in conditions():
        runs = condition.runs(HIDDEN, SEEDS)
        yield f"{condition.group}: {condition.name}", recorded(xor.measure(runs))
    yield "Gini", recorded(xor.measure(xor.sweep([GINI_HIDDEN], SEEDS, every=1)))
    drawn = {"topology": BASELINE_TOPOLOGIES, "alpha": BASELINE_ALPHAS}
    for name, values in drawn.items():
        for value in values:
            runs = [SyntheticRun(4 * h + 1, s, **{name: value}) for h in HIDDEN for s in range(SEEDS)]
            yield f"Gaussian baseline: {name} {value}", recorded(synthetic.measure(runs))
    trained = replay.gradients(inline)
    yield "gradients", digest_of([record.gradients for record in trained])
    ways = [Reading(rung) for rung in surrogates.RUNGS]
    ways += [Reading(topology=topology) for topology in TOPOLOGIES]
    for reading in ways:
        name = ", ".join(f"{k} {v}" for k, v in reading.settings().items())
        yield f"read again: {name}", recorded([read(record, reading) for record in trained])
    found = sizes(
        trained, "barabasi_albert", quantiles=(0.8, 0.85, 0.95), alphas=(0.1, 0.5), step_limits=(20, 200)
    )
    yield "specifications", digest_of([found])


def differences():
    """Return the names of the parts that are not as committed, and the number of all parts."""
    committed, found = json.loads(COMMITTED.read_text(encoding="utf-8")), dict(digests())
    names = committed | found
    return [name for name in names if committed.get(name) != found.get(name)], len(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="renew the committed digest")
    if parser.parse_args().write:
        COMMITTED.write_text(json.dumps(dict(digests()), indent=2) + "\n", encoding="utf-8")
        return 0
    wrong, count = differences()
    print(
        "".join(f"differs: {name}\n" for name in wrong) + f"{count - len(wrong)} of {count} as committed"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

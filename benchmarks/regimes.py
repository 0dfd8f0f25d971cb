"""Whether the rise of D survives where gradient descent is stable (docs/regimes.md).

    python benchmarks/regimes.py --seeds 6 --out regimes-6.json
    python benchmarks/regimes.py --seeds 50 --only learning_rate=10/h --out regimes-50.json

Trains the paper's networks under other learning rates, activations and initial weights, in-line and
shadow, and prints for each the stability of gradient descent and the rise of D beside its permuted null.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from gradquake.analysis.ladder import Ladder
from gradquake.analysis.sweep import analyze
from gradquake.experiments import xor
from gradquake.experiments.mlp import INITIALIZATIONS
from gradquake.experiments.readings import Reading
from gradquake.scrutiny.measure import measure
from gradquake.study.recording import to_dataset

# A rate of 10/h is the paper's 0.5 for the smallest networks.
RATES = (0.5, "20/h", "10/h", "5/h", 0.05)
OTHERS = {
    "activation": ("relu", "gelu", "sigmoid"),
    "initialization": INITIALIZATIONS[1:],
}
MODES = {"in-line": {}, "shadow": {"alpha_train": 0.0}}
REAL, NULL = Reading(), Reading("permuted")
INDEPENDENT = [Reading(name, independent_graph=True) for name in ("real", "permuted")]


def conditions():
    """Yield the settings of every condition without its mode."""
    for rate in RATES:
        yield {"learning_rate": rate}
    for name, values in OTHERS.items():
        for value in values:
            for rate in (0.5, "10/h"):
                yield {name: value, "learning_rate": rate}


def stability(runs):
    """Return by size: learning rate x sharpness at the start and at its largest, and rising epochs."""
    found = {}
    for size in dict.fromkeys(run.hidden for run in runs):
        records = xor.sharpness([run for run in runs if run.hidden == size])
        product = np.array([r.values["rate_times_sharpness"] for r in records])
        rises = np.array([np.nanmean(r.values["rises"]) for r in records])
        found[size] = (product[:, 0].mean(), product.max(axis=1).mean(), rises.mean())
    return np.array(list(found.values()))


def estimate(found):
    return [float(found.value), float(found.low), float(found.high)]


def examined(settings, mode, seeds, n_resamples):
    """Return everything that the page says of one condition."""
    runs = xor.sweep(xor.PAPER_HIDDEN, seeds, **settings, **MODES[mode])
    sweep = to_dataset(xor.measure(runs))
    stable = stability(runs)
    found = {
        "settings": settings, "mode": mode, "seeds": seeds,
        "learned": float(np.isfinite(sweep["grokking_epoch"]).mean()),
        "product_start": stable[:, 0].tolist(), "product_largest": stable[:, 1].tolist(),
        "rises": stable[:, 2].tolist(),
    }  # fmt: skip
    readings = [REAL, NULL, *(INDEPENDENT if mode == "in-line" else [])]
    analyses = [analyze(one, n_resamples=n_resamples) for one in measure(sweep, readings).values()]
    pairs = [
        Ladder(real, {"permuted": null})
        for real, null in zip(analyses[::2], analyses[1::2], strict=True)
    ]
    ladder = Ladder(pairs[0].real, pairs[0].nulls, pairs[1] if len(pairs) > 1 else None)
    for s in ("max", "mean"):
        found[s] = {
            **{phase: estimate(ladder.value("real", phase, s)) for phase in ("pre", "post")},
            "rise": estimate(ladder.rise("real", s)),
            "rise_permuted": estimate(ladder.rise("permuted", s)),
            "rise_arrangement": estimate(ladder.arrangement("rise", s)),
            "post_arrangement": estimate(ladder.arrangement("post", s)),
        }
        if ladder.independent is not None:
            found[s]["rise_independent"] = estimate(ladder.independent.rise("real", s))
            found[s]["rise_imprint"] = estimate(ladder.imprint("rise", s))
    return found


def row(found):
    """Return one condition as a line of text."""

    def brackets(of):
        return f"{of[0]:.3f} [{of[1]:.3f}, {of[2]:.3f}]"

    name = " ".join(f"{value}" for value in found["settings"].values())
    start, largest, rises = (found[k] for k in ("product_start", "product_largest", "rises"))
    cells = [
        f"{name} {found['mode']}",
        f"learned {found['learned']:.2f}",
        f"start {start[0]:.2f} to {start[-1]:.2f}",
        f"largest {max(largest):.2f}",
        f"rises {max(rises):.3f}",
    ]
    for s in ("max", "mean"):
        cells += [f"{s} {key} {brackets(of)}" for key, of in found[s].items()]
    return "\n    ".join(["; ".join(cells[:5]), *cells[5:]])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument(
        "--only", action="append", help="one condition, as in learning_rate=10/h,activation=gelu"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results = []
    named = [dict(one.split("=") for one in text.split(",")) for text in options.only or ()]
    chosen = named or conditions()
    for settings in chosen:
        for mode in MODES:
            results.append(examined(settings, mode, options.seeds, options.resamples))
            print(row(results[-1]), flush=True)
            options.out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()

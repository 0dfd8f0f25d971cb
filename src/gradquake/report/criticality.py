"""How gradients answer to kicks, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradquake.analysis.scaling import Exponent
from gradquake.analysis.shown import bracketed
from gradquake.avalanche.surrogates import REAL
from gradquake.report.json import estimate_json, finite
from gradquake.report.text import Table, with_interval
from gradquake.scrutiny.criticality import MOMENTS, NULL, OBSERVED, Critical, Moment

__all__ = ["criticality_json", "kicks_table", "state_table"]


def kicks_table(of_sweeps: Mapping[str, Sequence[Critical]]) -> Table:
    """Return the sizes of kicks before, at and after t_g, beside the permuted null."""
    rows = []
    for sweep, on_each in of_sweeps.items():
        for on in on_each:
            for moment in MOMENTS:
                real = on.of[REAL][moment]
                rows.append(
                    (
                        sweep,
                        on.topology,
                        moment,
                        f"{real['kick_median'].sizes.value[-1]:g}",
                        *(_at_largest(on, REAL, moment, name) for name in ("kick_mean", "kick_max")),
                        _at_largest(on, REAL, moment, "kick_branching"),
                        _at_largest(on, NULL, moment, "kick_branching"),
                        with_interval(on.arrangement[moment]["kick_branching"]),
                        *(with_interval(real[name]) for name in ("kick_mean", "kick_max")),
                        f"{real['kick_endless'].sizes.value[-1]:.2%}",
                    )
                )
    return Table(
        "Kicks of one node, before, at and after t_g",
        (
            "sweep", "topology", "t_g", "median", "mean", "largest", "branching ratio", "permuted",
            "real - permuted", "exponent of the mean", "exponent of the largest", "endless",
        ),
        rows,
        "Topplings of 1,000 kicks of a gradient at rest, at the largest network; a branching ratio of 1 "
        "is critical. Means over the snapshots of a run (every 20 epochs), with intervals over runs. "
        "Exponents: growth with N over all networks; critical avalanches grow without bound. Endless: "
        "kicks that do not come to rest, which have no size.",
    )  # fmt: skip


def state_table(of_sweeps: Mapping[str, Sequence[Critical]]) -> Table:
    """Return clusters, the first step, the isolated size and slow loading, before, at and after t_g."""
    names = (
        "clusters_number", "clusters_largest", "clusters_mean", "first_generation", "isolated_share",
        "load_mean", "load_branching",
    )  # fmt: skip
    rows = [
        (sweep, on.topology, moment, rung, *(_at_largest(on, rung, moment, name) for name in names))
        for sweep, on_each in of_sweeps.items()
        for on in on_each
        for moment in MOMENTS
        for rung in (REAL, NULL)
    ]
    return Table(
        "Clusters, the first step, topplings without neighbors, slow loading",
        (
            "sweep", "topology", "t_g", "gradient", "clusters", "largest cluster", "mean cluster",
            "share of step 1", "isolated / s", "loading: mean size", "loading: branching ratio",
        ),
        rows,
        "At the largest network, with intervals over runs. Clusters: connected components of the nodes "
        "above the threshold. Isolated: the size without any neighbor. Loading: the first 100 "
        "avalanches.",
    )  # fmt: skip


def _at_largest(on: Critical, rung: str, moment: Moment, name: str) -> str:
    found = on.at_largest(rung, moment, name)
    return bracketed(found.value, found.low, found.high)


def criticality_json(on_each: Sequence[Critical]) -> list[dict[str, object]]:
    """Return everything as one object for each topology."""
    return [
        {
            "topology": on.topology,
            "at_largest": {
                rung: {
                    moment: {name: estimate_json(on.at_largest(rung, moment, name)) for name in OBSERVED}
                    for moment in MOMENTS
                }
                for rung in on.of
            },
            "exponents": {
                rung: {
                    moment: {name: estimate_json(of_moment[name]) for name in ("kick_mean", "kick_max")}
                    for moment, of_moment in of_rung.items()
                }
                for rung, of_rung in on.of.items()
            },
            "branching_at_scales": {
                rung: {
                    moment: _at_scales(of_moment["kick_branching"])
                    for moment, of_moment in of_rung.items()
                }
                for rung, of_rung in on.of.items()
            },
            "arrangement": {
                moment: {name: estimate_json(found) for name, found in of_moment.items()}
                for moment, of_moment in on.arrangement.items()
            },
        }
        for on in on_each
    ]


def _at_scales(found: Exponent) -> list[dict[str, object]]:
    columns = (found.n_parameters, found.sizes.value, found.sizes.low, found.sizes.high)
    return [
        {"n_parameters": int(n), "value": finite(value), "low": finite(low), "high": finite(high)}
        for n, value, low, high in zip(*columns, strict=True)
    ]

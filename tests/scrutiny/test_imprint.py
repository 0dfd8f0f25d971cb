"""In-line runs on the graph that trained them, and on an independent one."""

import json
from pathlib import Path

import numpy as np
import pytest

from gradquake.analysis.ladder import SPANS
from gradquake.analysis.statistics import STATISTICS
from gradquake.avalanche.cascade import relax
from gradquake.avalanche.topologies import TOPOLOGIES, build
from gradquake.experiments import readings, xor
from gradquake.experiments.readings import Reading
from gradquake.report.json import attribution_json
from gradquake.report.reading import reading
from gradquake.report.tables import attribution_table
from gradquake.scrutiny.imprint import is_trained_on_its_graph
from gradquake.scrutiny.measure import measure
from gradquake.scrutiny.scrutinize import beside, notes_of, scrutinize
from gradquake.study.recording import to_dataset

HIDDEN, RESAMPLES = (3, 5, 8), 40
SCHEMA = Path(__file__).parents[2] / "docs" / "analyze.schema.json"


def trained(**settings):
    return to_dataset(xor.measure(xor.sweep(HIDDEN, 3, epochs=120, **settings)))


@pytest.fixture(scope="module")
def found():
    return scrutinize(trained(), n_resamples=RESAMPLES)


def test_the_topologies_that_are_drawn_have_another_graph_for_another_seed():
    for name, topology in TOPOLOGIES.items():
        graphs = [build(name, 81, seed) for seed in (0, readings.APART)]
        same = all(np.array_equal(*(getattr(g, part) for g in graphs)) for part in ("indptr", "indices"))
        assert same != topology.drawn


def test_the_independent_graph_has_the_topology_and_another_seed():
    record = xor.gradients([xor.XorRun(8, 3, epochs=50)])[0]
    read = readings.read(record, Reading(independent_graph=True))
    graph = build("barabasi_albert", 33, readings.APART + 3)
    thresholds = np.quantile(np.abs(record.gradients), 0.9, axis=1)
    pairs = zip(record.gradients, thresholds, strict=True)
    sizes = [relax(g, graph, threshold=t, alpha=0.3, max_steps=20).size for g, t in pairs]
    assert read.values["size"].tolist() == sizes
    assert sizes != readings.read(record, Reading()).values["size"].tolist()
    assert read.config["independent_graph"]


def test_the_four_parts_add_up_to_the_exponent_minus_one(found):
    for span in SPANS:
        for statistic in STATISTICS:
            parts = found.ladder.attribution(span, statistic)
            assert list(parts.parts) == ["estimator", "distribution", "arrangement", "imprint"]
            assert sum(p.value for p in parts.parts.values()) == pytest.approx(parts.total.value)


def test_the_imprint_is_the_paired_difference_of_the_two_graphs(found):
    sweep = found.ladder.real.dataset
    independent = scrutinize_on_independent(sweep)
    own = found.ladder.exponent("real", "post", "max")
    imprint = found.ladder.imprint("post", "max")
    assert imprint.value == own.value - independent.value
    np.testing.assert_array_equal(imprint.resamples, own.resamples - independent.resamples)
    arrangement = found.ladder.arrangement("post", "max")
    null = found.ladder.independent.exponent("permuted", "post", "max")
    assert arrangement.value == independent.value - null.value
    assert found.ladder.attribution("post", "max").arrangement.value == arrangement.value


def scrutinize_on_independent(sweep):
    from gradquake.analysis.sweep import analyze

    reading = Reading(independent_graph=True)
    measured = measure(sweep, [reading])[reading]
    return analyze(measured, n_resamples=RESAMPLES).exponent("post", "max")


def test_the_imprint_is_shown_wherever_the_attribution_is(found):
    table = attribution_table(found.ladder)
    assert "imprint" in table.header
    assert "4 parts" in table.note
    assert "independent graph" in table.note
    parts = attribution_json(found.ladder)["post"]["max"]
    assert set(json.loads(SCHEMA.read_text())["$defs"]["attribution"]["properties"]) <= parts.keys()
    assert any("imprint of the graph that trained them" in line for line in reading(found))


def test_a_shadow_run_has_no_imprint_and_needs_no_note():
    found = scrutinize(trained(alpha_train=0), n_resamples=RESAMPLES)
    assert found.ladder.independent is None
    assert found.ladder.attribution("post", "max").imprint is None
    assert not any("imprint" in note for note in notes_of(found))
    assert "imprint" not in attribution_table(found.ladder).header


@pytest.mark.parametrize(
    "settings", [{"topology_train": "ring"}, {"permute_train": True}, {"alpha_train": 0}]
)
def test_only_runs_trained_on_the_graph_of_the_probe_have_an_imprint(settings):
    assert not is_trained_on_its_graph(trained(**settings))
    assert is_trained_on_its_graph(trained(alpha_train=0.1))


def test_a_topology_with_one_graph_has_a_note_instead():
    found = scrutinize(trained(topology="ring"), n_resamples=RESAMPLES)
    assert found.ladder.independent is None
    assert any("the topology ring has one graph for each size" in note for note in notes_of(found))


def test_runs_without_their_gradients_have_a_note_instead(found):
    sweep, nulls = found.ladder.real.dataset, found.ladder.nulls
    foreign = sweep.assign_attrs(experiment="attached")
    of_nulls = {rung: null.dataset.assign_attrs(experiment="attached") for rung, null in nulls.items()}
    without = beside(foreign, of_nulls, n_resamples=RESAMPLES)
    assert without.ladder.attribution("post", "max").imprint is None
    assert any("their gradients were not kept" in note for note in notes_of(without))

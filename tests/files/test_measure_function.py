"""`gradquake.measure`: an array becomes an avalanche, files become a series."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import gradquake as gq
from gradquake.avalanche import surrogates
from gradquake.avalanche.topologies import build, ring, square_lattice
from gradquake.files.measure import NULLS


def gradient(seed=0, n=201):
    return np.random.default_rng(seed).standard_t(2, n).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "gradients"
    path.mkdir()
    for step in (100, 20, 3):
        np.save(path / f"step_{step}.npy", gradient(step))
    return path


SETTINGS = {"graph": "ring", "alpha": 0.2, "quantile": 0.8, "max_steps": 7, "seed": 3}


def test_an_array_gives_what_a_probe_of_the_same_settings_gives():
    found, expected = gq.measure(gradient(), **SETTINGS), gq.Probe(**SETTINGS).measure(gradient())
    assert isinstance(found, gq.Avalanche)
    assert repr(found) == repr(expected)
    assert gq.measure(gradient()).size == gq.Probe().measure(gradient()).size
    assert gq.measure([1.0, -2.0, 0.5, 4.0]).size >= 1


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_path_or_a_list_of_paths_gives_a_series(folder, as_path):
    whole = gq.measure(as_path(folder), **SETTINGS)
    assert [one.step for one in whole] == [3, 20, 100]
    for one in whole:
        assert one.avalanche.size == gq.Probe(**SETTINGS).measure(gradient(one.step)).size
        assert tuple(one.nulls) == NULLS
    files = [as_path(folder / f"step_{step}.npy") for step in (20, 3)]
    assert gq.measure(files, **SETTINGS).measurements == whole.measurements[:2]
    assert len(gq.measure(as_path(folder / "step_3.npy"))[0].nulls["permuted"].draws) == 20


def own_ring(n, seed):  # noqa: ARG001
    return ring(n)


def test_graphs_and_builders_of_your_own_are_recorded_by_their_names(folder, tmp_path):
    out = tmp_path / "runs.sqlite"
    expected = gq.measure(folder, graph="ring", nulls=()).measurements
    for graph in (ring(201), own_ring):
        found = gq.measure(folder, graph=graph, nulls=(), out=out)
        assert found.measurements == expected
    gq.measure(folder, graph=square_lattice(201), nulls=(), out=out)
    names = [f"{own_ring.__module__}.own_ring"]
    names += [f"graph:{graph.digest}" for graph in (ring(201), square_lattice(201))]
    with gq.open_study(out) as study:
        for name in names:
            assert study.select(topology=name).sizes["run"] == 1
        with pytest.raises(gq.StudyError) as refused:
            study.select()
    choices = ", ".join(sorted(names))
    assert str(refused.value).endswith(f"by a setting in which they differ: topology ({choices})")
    with pytest.raises(gq.InputError, match="holds the finished run seed=0 already"):
        gq.measure(folder, graph=ring(201), nulls=(), out=out)
    for of in (lambda: gq.analyze(out), lambda: gq.analyze(out, topology="graph:0")):
        with pytest.raises(gq.StudyError, match=r"choose one|holds no finished run"):
            of()
    assert all(name in gq.info(out).to_json() for name in names)


@pytest.mark.parametrize("graph", [lambda n, seed: ring(n), partial(build, "ring")])  # noqa: ARG005
def test_a_builder_without_a_name_is_refused_before_a_study_is_made(graph, folder, tmp_path):
    assert gq.measure(gradient(), graph=graph).size > 0
    with pytest.raises(
        gq.InputError, match=r"^the graph is made by .*, which has no name to be recorded"
    ):
        gq.measure(folder, graph=graph, out=tmp_path / "runs.sqlite")
    assert not (tmp_path / "runs.sqlite").exists()


def test_a_series_shows_itself(folder):
    series = gq.measure(folder, nulls=["permuted"])
    assert repr(series).splitlines()[1].split() == ["step", "size", "isolated", "permuted"]
    assert len(repr(series).splitlines()) == 2 + len(series) == 5
    assert series._repr_html_().count("<tr>") == 4
    held = json.loads(series.to_json())
    for name in ("size", "isolated"):
        found = [getattr(one.avalanche, name) for one in series]
        assert [one[name] for one in held["measurements"]] == found
    for one in series:
        draws = one.nulls["permuted"].draws
        expected = sum(draw.isolated for draw in draws) / sum(draw.size for draw in draws)
        assert one.nulls["permuted"].isolated_share == pytest.approx(expected)


def test_a_long_series_is_shown_in_part(tmp_path):
    for step in range(30):
        np.save(tmp_path / f"step_{step}.npy", gradient(step))
    lines = repr(gq.measure(tmp_path, nulls=())).splitlines()
    assert len(lines) == 23
    assert lines[12] == "..."


def test_a_surrogate_from_outside_the_package_is_a_null_by_its_name(folder, monkeypatch):
    added = surrogates.Surrogate(lambda rows, rng: -rows, "negated", "every magnitude", 5)  # noqa: ARG005
    monkeypatch.setitem(surrogates.SURROGATES, "negated", added)
    for one in gq.measure(folder, nulls=["negated"], draws=1):
        # The cascade is odd in the gradient.
        assert one.nulls["negated"].value == one.avalanche.size


def test_progress_counts_every_avalanche(folder):
    calls = []
    gq.measure(folder, nulls=["permuted"], draws=2, progress=lambda *call: calls.append(call))
    assert calls == [("measuring", 1, 9)] * 9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sample": 9}, "sample is for gradients in files, and the gradient is an array; give a path"),
        ({"sample": 0}, "sample is for gradients in files"),
        ({"draws": 0}, "draws is for gradients in files"),
        ({"match": np.array(["a", "b"])}, "match is for gradients in files"),
        ({"out": "s", "labels": {"a": 1}}, "out, labels are for gradients in files"),
        ({"differences": True}, "differences is for gradients in files"),
        ({"progress": print}, "progress is for gradients in files"),
        ({"alpha": 2}, r"alpha is 2; a number in \(0, 1\) is needed"),
        ({"graph": ring(9)}, "the gradient has 201 entries and the graph 9 nodes"),
    ],
)
def test_options_that_an_array_cannot_have_are_refused(options, sentence):
    with pytest.raises(gq.InputError, match=sentence):
        gq.measure(gradient(), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"match": "*.weight"}, r"match is '\*.weight'; a list of patterns is needed"),
        ({"nulls": "permuted"}, "nulls is 'permuted'; a list of names is needed"),
        ({"nulls": ["white"]}, "a null is 'white'; one of gaussian, "),
        ({"nulls": (), "draws": 3}, "draws is given without nulls"),
        ({"labels": {"a": 1}}, "labels tell recorded runs apart; the study out is needed"),
        ({"graph": "torus"}, "graph is 'torus'"),
    ],
)
def test_options_that_files_cannot_have_are_refused(folder, options, sentence):
    with pytest.raises(gq.InputError, match=sentence):
        gq.measure(folder, **options)


def test_the_label_seed_is_the_seed_that_is_given(folder, tmp_path):
    for seed, path in ((3, tmp_path / "a"), (0, tmp_path / "b")):
        gq.measure(folder, nulls=[], seed=seed, labels={"seed": seed, "width": 4}, out=path)
        with gq.open_study(path) as study:
            (record,) = study.records()
        assert (record.config["seed"], record.config["labels"]) == (seed, {"width": 4})


def test_a_label_of_gradquakes_own_is_refused_and_not_replaced(folder, tmp_path):
    labels, path = {"total_parameters": 5}, tmp_path / "s"
    with pytest.raises(gq.InputError, match="labels names total_parameters, which gradquake records"):
        gq.measure(folder, sample=9, nulls=[], labels=labels, out=path)
    assert not path.exists()

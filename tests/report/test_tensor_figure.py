"""Topplings by tensor, from a study to the terminal, a figure and JSON."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import gradquake as gq
from gradquake.errors import InputError
from gradquake.report.live import read
from gradquake.report.text import shown_name
from gradquake.report.watch import tables
from gradquake.study.recording import RunRecord

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/analyze.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "sweep.sqlite"
    gq.run("xor", hidden=[3, 5, 8], seeds=2, epochs=100, alpha_train=0, tensors=True, out=path, jobs=1)
    return path


def test_the_figure_of_tensors(study, tmp_path):
    files = gq.plot(study, tmp_path / "tensors", tensors=True)
    assert files.png.stat().st_size > 10_000
    drawn = files.svg.read_text("utf-8")
    assert "hidden_bias" in drawn
    assert "before grokking" in drawn


def test_watch_names_the_tensors_that_topple_most(study):
    (table,) = tables(read(study))
    assert table.header[-1] == "topples most"
    assert all(" %" in row[-1] or "%" in row[-1] for row in table.rows)


def test_an_analysis_has_the_shares_as_json(study):
    found = json.loads(gq.analyze(study, jobs=1).to_json())
    jsonschema.validate(found, SCHEMA)
    shares = found["tensors"]["shares"]["all"]
    assert list(shares) == ["hidden", "hidden_bias", "output", "output_bias"]
    assert sum(of["topplings"]["value"] for of in shares.values()) == pytest.approx(1)
    assert found["tensors"]["entries"]["hidden"] == pytest.approx(16 / 33)


def test_a_study_without_tensors_has_no_figure_of_them(tmp_path):
    path = tmp_path / "plain.sqlite"
    gq.run("xor", hidden=[3], seeds=1, epochs=20, out=path, jobs=1)
    with pytest.raises(InputError, match="no run has topplings by tensor"):
        gq.plot(path, tmp_path / "x", tensors=True)
    (table,) = tables(read(path))
    assert "topples most" not in table.header


def test_names_from_a_file_are_escaped_and_shortened(tmp_path):
    bad = "\x1b[31m$x_{$<script>" + "long." * 20
    names = {bad: 2, "$\\frac{": 3, "ä\n": 4}
    path = tmp_path / "odd.sqlite"
    counts = np.array([[1, 2, 3]] * 2)
    values = dict.fromkeys(("tensor_above", "tensor_topplings", "tensor_area"), counts)
    values["size"] = counts.sum(axis=1)
    with gq.open_study(path, create=True) as study:
        study.write([RunRecord({"n_parameters": 9, "seed": 0}, 1, np.arange(2), values, names)])
    (table,) = tables(read(path))
    assert "\x1b" not in table.rows[0][-1]
    assert "\n" not in table.rows[0][-1]
    files = gq.plot(path, tmp_path / "odd", tensors=True)
    drawn = files.svg.read_text("utf-8")
    assert "<script>" not in drawn
    assert "\x1b" not in drawn
    assert len(shown_name(bad)) <= 30

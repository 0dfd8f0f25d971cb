"""`gradquake measure` as a user meets it: real files, real studies, and docs/files.md."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file

import gradquake as gq
from gradquake.analysis.dimension import dimension
from gradquake.avalanche.surrogates import RUNGS
from gradquake.files import measure
from gradquake.files.saved import open_gradients
from gradquake.report import console

NULLS = ("gaussian", "permuted", "sign_flipped")
GUIDE = Path(__file__).parents[2] / "docs" / "files.md"
MEASURED = ("threshold", "size", "duration", "area", "peak", "truncated", "deviation")


@pytest.fixture
def read(call):
    """What the command prints with --json, where it is JSON and nothing else."""

    def called(*arguments):
        done = call("measure", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout, parse_constant=lambda constant: pytest.fail(constant))

    return called


@pytest.fixture
def refused(call):
    """One sentence on the error stream and status 2, or the test fails."""

    def called(*arguments):
        done = call("measure", *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("gradquake: ")
        return done.stderr

    return called


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setattr(console, "console", lambda: Console(width=80))


def gradient(seed=0, n=201):
    return np.random.default_rng(seed).standard_t(2, n).astype(np.float32)


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "step_300.npy"
    np.save(path, gradient())
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "gradients"
    path.mkdir()
    for step in (100, 20, 3):
        np.save(path / f"step_{step}.npy", gradient(step))
    return path


@pytest.fixture
def checkpoints(tmp_path):
    path = tmp_path / "checkpoints"
    path.mkdir()
    for step in (5, 10, 15):
        tensors = {"w": gradient(step).reshape(3, 67), "b": gradient(-step % 7, 20), "n": np.array(step)}
        save_file(tensors, path / f"model_{step}.safetensors")
    return path


# What is measured


def test_one_gradient_is_what_the_probe_measures(one, read):
    found = read(one, "--graph", "ring", "--alpha", 0.2, "--quantile", 0.8, "--max-steps", 7)
    [measured] = found["measurements"]
    expected = gq.Probe("ring", alpha=0.2, quantile=0.8, max_steps=7).measure(gradient())
    assert {name: measured[name] for name in MEASURED} == {n: getattr(expected, n) for n in MEASURED}
    assert (measured["source"], measured["step"], found["n_parameters"]) == (str(one), 300, 201)
    assert measured["gradient_norm"] == pytest.approx(np.linalg.norm(gradient().astype(float)))
    assert found["settings"]["topology"] == "ring"


def test_the_nulls_of_one_gradient_are_many_draws(one, read):
    [measured] = read(one)["measurements"]
    assert tuple(measured["nulls"]) == NULLS
    for null in measured["nulls"].values():
        sizes = np.array([draw["size"] for draw in null["draws"]])
        assert sizes.size == 20
        assert null["value"] == sizes.mean()
        assert (null["low"], null["high"]) == tuple(np.quantile(sizes, [0.025, 0.975]))
        assert null["p_value"] == ((sizes >= measured["size"]).sum() + 1) / 21
    # Of a heavy-tailed gradient the avalanche is larger than any of Gaussian ones: (0 + 1) / (20 + 1).
    assert measured["nulls"]["gaussian"]["p_value"] == 1 / 21
    thresholds = {draw["threshold"] for draw in measured["nulls"]["permuted"]["draws"]}
    assert thresholds == {measured["threshold"]}


def test_draws_come_from_the_seed_and_the_first_ones_stay(one, read):
    few, many = (read(one, "--draws", n)["measurements"][0]["nulls"] for n in (2, 5))
    for rung in NULLS:
        assert many[rung]["draws"][:2] == few[rung]["draws"]
    other = read(one, "--draws", 2, "--seed", 1)["measurements"][0]["nulls"]
    assert other["gaussian"]["draws"] != few["gaussian"]["draws"]
    assert read(one, "--draws", 1)["measurements"][0]["nulls"]["gaussian"]["p_value"] is None


def test_which_nulls(one, read):
    assert read(one, "--no-nulls")["measurements"][0]["nulls"] == {}
    all_of_them = read(one, "--all-nulls", "--draws", 1)["measurements"][0]["nulls"]
    assert tuple(all_of_them) == RUNGS
    # Of a single tensor the two that know of tensors can differ from the others in their draws only.
    per_tensor = all_of_them["permuted_within_tensor"]["draws"][0]
    assert per_tensor["threshold"] == all_of_them["permuted"]["draws"][0]["threshold"]


def test_nulls_of_tensors_keep_each_tensor(tmp_path, read):
    path = tmp_path / "g.npz"
    # A cascade on the ring of a block of large entries stays near it; shuffled over all it does not.
    np.savez(path, np.full(20, 5.0), np.zeros(180))
    options = ("--all-nulls", "--graph", "ring", "--quantile", 0.85, "--draws", 3)
    [measured] = read(path, *options)["measurements"]
    within = measured["nulls"]["permuted_within_tensor"]["draws"]
    assert all({n: draw[n] for n in MEASURED} == {n: measured[n] for n in MEASURED} for draw in within)
    assert all(draw["size"] != measured["size"] for draw in measured["nulls"]["permuted"]["draws"])
    # A sample that leaves out a tensor leaves out its null.
    sampled = read(path, *options, "--sample", 5)["measurements"][0]["nulls"]
    assert len(sampled["permuted_within_tensor"]["draws"]) == 3


def test_a_folder_is_a_series_in_step_order(folder, read):
    found = read(folder)
    assert [m["step"] for m in found["measurements"]] == [3, 20, 100]
    for measured in found["measurements"]:
        assert measured["size"] == gq.Probe().measure(gradient(measured["step"])).size
        assert [len(null["draws"]) for null in measured["nulls"].values()] == [1, 1, 1]
    assert found["notes"] == []


def test_what_a_step_gives_does_not_depend_on_the_others(folder, read):
    whole = read(folder)["measurements"]
    part = read(folder / "step_20.npy", folder / "step_100.npy")["measurements"]
    assert part == whole[1:]


def test_differences_of_checkpoints(checkpoints, read):
    found = read(checkpoints, "--differences")
    assert [m["step"] for m in found["measurements"]] == [10, 15]
    assert found["n_parameters"] == 221
    assert found["left_out"] == ["'n' (int64)"]
    update = np.concatenate([gradient(-10 % 7, 20) - gradient(-5 % 7, 20), gradient(10) - gradient(5)])
    expected = gq.Probe().measure(update)
    assert found["measurements"][0]["size"] == expected.size
    assert found["measurements"][0]["threshold"] == expected.threshold


def test_match_and_sample(checkpoints, read):
    found = read(checkpoints, "--match", "w", "--sample", 50, "--seed", 2)
    opened = open_gradients([checkpoints], match=["w"], sample=50, seed=2)
    expected = gq.Probe(seed=2).measure(gradient(5)[opened.positions])
    assert found["n_parameters"] == 50
    assert found["measurements"][0]["size"] == expected.size
    assert found["notes"][-1] == "50 of 201 entries, drawn with seed 2"


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_the_norm_of_huge_and_tiny_doubles(tmp_path, scale, read):
    path = tmp_path / "g.npy"
    np.save(path, gradient().astype(float) * scale)
    [measured] = read(path)["measurements"]
    expected = np.linalg.norm(gradient().astype(float)) * scale
    assert measured["gradient_norm"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_gradients_without_an_avalanche(tmp_path, value, read, call):
    path = tmp_path / "g.npy"
    np.save(path, np.full(50, value))
    [measured] = read(path)["measurements"]
    assert (measured["size"], measured["duration"], measured["deviation"]) == (0, 0, 0)
    assert measured["nulls"]["permuted"]["p_value"] == 1
    assert call("measure", path).returncode == 0


# What is printed


@pytest.mark.usefixtures("narrow")
def test_one_gradient_fits_on_80_columns(one, call, monkeypatch):
    monkeypatch.chdir(one.parent)
    done = call("measure", one.name)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    text = done.stdout
    assert "step_300.npy: N = 201, barabasi_albert, alpha 0.3, quantile 0.9" in text
    header = ("gradient", "size [95 %]", "i/s", "T", "cut", "angle", "threshold", "p")
    assert re.search(r"\s+".join(map(re.escape, header)), text)
    assert re.search(r"gaussian +\d+(\.\d+)? \[[\d.]+, [\d.]+\] .* 0 of 20 .* 0.048", text)
    assert "sign flipped" in text
    assert "p: (1 + draws at least as large) / (1 + draws)." in " ".join(text.split())


@pytest.mark.usefixtures("narrow")
def test_a_series_fits_on_80_columns(folder, call):
    done = call("measure", folder)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert re.search(
        r"step +size +i/s +T +cut +angle +threshold +gaussian +permuted +sign fl", done.stdout
    )
    sizes = [gq.Probe().measure(gradient(step)).size for step in (3, 20, 100)]
    for step, size in zip((3, 20, 100), sizes, strict=True):
        assert re.search(rf"^ *{step} +{size} ", done.stdout, re.M)
    assert "measuring" in done.stderr
    assert "12/12 avalanches" in done.stderr


def test_without_nulls(folder, one, call):
    for path in (folder, one):
        text = call("measure", path, "--no-nulls").stdout
        assert "T: steps of the cascade" in text
        assert "gaussian" not in text
        assert "p:" not in text


def test_the_file_of_every_row_is_told(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "step_010", "step_9", "acc=0.75-step_3", "acc=0.5-step_4"):
        np.save(f"{name}.npy", gradient(len(name)))
    text = call("measure", "b.npy", "a.npy", "--no-nulls").stdout
    assert "\nstep 0: b.npy\nstep 1: a.npy\n" in text
    assert "no step can be read from the names; steps are counted 0, 1, ..." in text
    text = call("measure", "step_9.npy", "step_010.npy", "--no-nulls").stdout
    assert text.startswith("step_*.npy: N = 201")
    assert "step 9:" not in text
    text = call("measure", "acc=0.75-step_3.npy", "acc=0.5-step_4.npy", "--no-nulls").stdout
    assert "\nstep 3: acc=0.75-step_3.npy\nstep 4: acc=0.5-step_4.npy\n" in text


def test_the_step_may_be_in_the_name_of_a_folder(tmp_path, read, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (500, 1000, 1500):
        os.mkdir(f"checkpoint-{step}")
        save_file({"w": gradient(step)}, f"checkpoint-{step}/model.safetensors")
    as_a_shell_sorts = [f"checkpoint-{step}/model.safetensors" for step in (1000, 1500, 500)]
    found = read(*as_a_shell_sorts, "--differences", "--no-nulls")
    sources = [(m["step"], m["source"]) for m in found["measurements"]]
    assert sources == [
        (1000, "checkpoint-1000/model.safetensors minus checkpoint-500/model.safetensors"),
        (1500, "checkpoint-1500/model.safetensors minus checkpoint-1000/model.safetensors"),
    ]
    update = gq.Probe().measure(gradient(1000) - gradient(500))
    assert found["measurements"][0]["size"] == update.size
    text = " ".join(call("measure", *as_a_shell_sorts, "--differences", "--no-nulls").stdout.split())
    assert text.startswith("checkpoint-*/model.safetensors: N = 201")
    assert "the file before, the first minus checkpoint-500/model.safetensors" in text


def test_no_control_codes_of_names_reach_the_terminal(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"a\x1b[31m\nstep_{step}.pt" for step in (1, 2, 3)]
    for step, name in enumerate(names):
        held = {"w": torch.from_numpy(gradient(step)), "\x1b[2J\x07": torch.tensor(3)}
        torch.save({"model": held, "\x1b]0;t\x07": 3}, name)
    calls = [
        (*names, "--differences", "--no-nulls"),
        (*names[:2], "--differences", "--no-nulls"),
        (*names[::-1], "--differences", "--no-nulls", "--out", "\x1b[31m.sqlite"),
        (names[0],),
        (names[0], "--match", "\x1b[31m"),
        (names[0], names[0]),
        (names[0], "\x1b[31m.npy"),
        ("\x1b[31m",),
    ]
    for arguments in calls:
        done = call("measure", *arguments)
        lines = done.stdout + done.stderr.replace("\x1b[?25", "")
        assert all(line.isprintable() for line in lines.splitlines()), arguments
        assert "\\x1b" in lines
    done = call("measure", *names, "--differences", "--no-nulls", "--json")
    assert done.stdout.isascii()
    assert names[1] in json.loads(done.stdout)["measurements"][0]["source"]


def test_what_is_left_out_is_said(checkpoints, call):
    assert "left out: 'n' (int64)" in call("measure", checkpoints, "--differences").stdout


def test_much_that_is_left_out_is_said_in_short(tmp_path, call, read):
    for step in (1, 2):
        norms = {f"bn.{i}.num_batches_tracked": torch.tensor(step) for i in range(8)}
        torch.save({"w": torch.randn(30), **norms}, tmp_path / f"c{step}.pt")
    assert (
        "'bn.4.num_batches_tracked' (int64) and 3 more"
        in call("measure", tmp_path, "--differences").stdout
    )
    assert len(read(tmp_path, "--differences")["left_out"]) == 8


# Studies


def test_a_series_is_recorded_beside_its_nulls(folder, tmp_path, read, call):
    out = tmp_path / "study.sqlite"
    found = read(folder, "--out", out, "--label", "width=8", "--label", "optimizer=sgd", "--seed", 3)
    with gq.open_study(out) as study:
        assert sorted(s["surrogate"] for s in study.sweeps) == sorted(("real", *NULLS))
        real = study.select(surrogate="real")
        permuted = study.select(surrogate="permuted")
        configs = map(json.loads, sorted(study.keys()))
    [config] = [config for config in configs if config["surrogate"] == "real"]
    assert real["epoch"].values.tolist() == [3, 20, 100]
    for name in (*MEASURED, "gradient_norm"):
        assert real[name].values[0].tolist() == [m[name] for m in found["measurements"]]
    sizes = [m["nulls"]["permuted"]["draws"][0]["size"] for m in found["measurements"]]
    assert permuted["size"].values[0].tolist() == sizes
    assert config == {
        "experiment": "files", "surrogate": "real", "n_parameters": 201, "seed": 3,
        "topology": "barabasi_albert", "alpha": 0.3, "quantile": 0.9, "max_steps": 20,
        "differences": False, "sample": None, "match": [], "labels": {"width": 8, "optimizer": "sgd"},
    }  # fmt: skip
    listed = call("info", out).stdout
    assert "1 run finished, 0 planned and missing, 0 unfinished; 3 records of nulls" in listed


def test_a_part_is_recorded_with_the_size_of_the_whole(checkpoints, tmp_path, call):
    out = tmp_path / "study.sqlite"
    call("measure", checkpoints, "--differences", "--sample", 30, "--match", "w", "--out", out)
    with gq.open_study(out) as study:
        configs = map(json.loads, sorted(study.keys()))
    [config] = [config for config in configs if config["surrogate"] == "real"]
    assert config["labels"] == {"total_parameters": 221}
    assert (config["n_parameters"], config["sample"], config["match"]) == (30, 30, ["w"])
    assert config["differences"] is True


def test_a_run_that_is_there_is_refused_before_it_is_measured(
    folder, tmp_path, call, refused, monkeypatch
):
    out = tmp_path / "study.sqlite"
    assert call("measure", folder, "--out", out, "--label", "width=8", "--no-nulls").returncode == 0
    monkeypatch.setattr(measure, "_measured", lambda *_: pytest.fail("measured"))
    message = refused(folder, "--out", out, "--label", "width=8")
    assert (
        "holds the finished run width=8, seed=0 already; to measure it again, give it another label"
        in message
    )
    monkeypatch.undo()


def test_a_gradient_too_small_for_the_graph_is_named(tmp_path, refused):
    np.save(tmp_path / "one.npy", np.ones(1))
    assert f"{tmp_path / 'one.npy'}: n is 1; an integer of at least 3" in refused(tmp_path / "one.npy")


def test_what_fails_records_nothing(folder, tmp_path):
    out = tmp_path / "study.sqlite"
    broken = gradient()
    broken[7] = np.nan
    np.save(folder / "step_101.npy", broken)
    message = refused_after_progress(folder, "--out", out)
    assert f"{folder / 'step_101.npy'}: entry 7 of 'array' is nan" in message
    with gq.open_study(out) as study:
        assert study.keys() == set()


def refused_after_progress(*arguments):
    """The last line of the error stream of a real process that fails once it is measuring."""
    command = [str(Path(sys.executable).with_name("gradquake")), "measure", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_dimension_from_three_recorded_sizes(tmp_path, call):
    # A sixteenth of the entries topples, in the one step that there is: s = N / 16.
    out = tmp_path / "study.sqlite"
    for n in (64, 128, 256):
        for step in (0, 10):
            values = np.zeros(n)
            values[: n // 16] = 1000.0
            np.save(tmp_path / f"g{n}_{step}.npy", values)
        files = [tmp_path / f"g{n}_{step}.npy" for step in (0, 10)]
        options = ("--quantile", 0.9, "--max-steps", 1, "--no-nulls", "--label", f"width={n}")
        assert call("measure", *files, "--out", out, *options).returncode == 0
    with gq.open_study(out) as study:
        sweep = study.select(surrogate="real")
    assert sweep["size"].values.tolist() == [[4, 4], [8, 8], [16, 16]]
    np.testing.assert_allclose(dimension(sweep, "max")["value"].values, 1)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npy"], "none.npy does not exist; a gradient file or a folder"),
        (["empty"], "empty holds no file that ends in"),
        (["g.npy", "empty"], "empty is a folder"),
        (["g.npy", "--differences"], "g.npy is a single checkpoint; a difference needs at least two"),
        (["g.npy", "--match", "w"], "holds no tensor that matches 'w'; it holds 'array'"),
        (["g.npy", "--sample", "0"], "sample is 0; an integer of at least 1"),
        (["g.npy", "--sample", "1"], "n is 1; an integer of at least"),
        (["g.npy", "--alpha", "1"], "alpha is 1.0"),
        (["g.npy", "--quantile", "2"], "quantile is 2.0"),
        (["g.npy", "--max-steps", "0"], "--max-steps is 0"),
        (["g.npy", "--graph", "torus"], "graph is 'torus'; one of"),
        (["g.npy", "--graph", "computational"], "n is 200; "),
        (["g.npy", "--seed", "-1"], "seed is -1"),
        (["g.npy", "--draws", "0"], "draws is 0"),
        (["g.npy", "--no-nulls", "--all-nulls"], "choose one"),
        (["g.npy", "--no-nulls", "--draws", "3"], "--draws is a number of nulls, which --no-nulls"),
        (["g.npy", "--label", "width=3"], "--label is for the run that --out records; give --out too"),
        (["g.npy", "--out", "s", "--label", "width"], "--label is 'width'; name=value is needed"),
        (["g.npy", "--out", "s", "--label", "size=3"], "--label names size, which"),
        (
            ["g.npy", "--out", "s", "--label", "total_parameters=3"],
            "--label names total_parameters, which gradquake records itself; any name is free but loss",
        ),
        (
            ["g.npy", "--out", "s", "--label", "seed=3"],
            "the label seed is 3 and the probe's seed is 0; make them equal, or give the label another",
        ),
        (["g.npy", "--out", "s", "--label", "x=[1]"], "x in --label is [1]; text or a finite number"),
        (["g.npy", "--out", "s", "--label", "x=NaN"], "x in --label is nan; text or a finite number"),
        (["g.npy", "--out", "no/folder/s"], "s cannot be made: there is no folder /"),
        (["g.npy", "--out", "text"], "text is not a gradquake study"),
        (["g.npy", "big.npy"], "'array' has shape (300,) in big.npy and (200,) in g.npy"),
        (["text.pt"], "text.pt is not a file of nothing but tensors"),
    ],
)
def test_bad_input_is_one_clear_sentence(arguments, words, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    os.mkdir("empty")
    np.save("g.npy", gradient(n=200))
    np.save("big.npy", gradient(n=300))
    for name in ("text", "text.pt"):
        Path(name).write_text("nothing of the kind " * 100)
    assert words in refused(*arguments)


def test_a_gradient_that_overflows_is_named(tmp_path):
    path = tmp_path / "g.npy"
    # On a ring what a node hands out it gets back; a hub gets more.
    np.save(path, np.where(np.arange(64) % 8, 3e38, 1).astype(np.float32))
    message = refused_after_progress(path, "--quantile", 0.05, "--no-nulls")
    assert message.startswith(f"gradquake: {path}: the gradient is so large that its cascade overflows")


def test_a_difference_that_overflows_is_named(tmp_path, refused):
    for step, sign in ((1, -1), (2, 1)):
        np.save(tmp_path / f"c{step}.npy", np.full(64, sign * 3e38, np.float32))
    message = refused(tmp_path, "--differences")
    assert (
        f"{tmp_path / 'c2.npy'} minus {tmp_path / 'c1.npy'}: the gradient has 64 entries that" in message
    )


def test_too_little_memory_is_said(one, refused, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(gq.Probe, "graph_on", full)
    assert "not enough memory for a graph of 201 entries; measure fewer with --sample" in refused(one)


# The guide


def test_every_option_is_in_the_guide_or_is_a_setting_of_the_probe(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = set(re.findall(r"--[a-z][a-z-]+", call("measure", "--help").stdout))
    settings = {"--graph", "--alpha", "--quantile", "--max-steps", "--help"}
    assert options - settings == set(re.findall(r"--[a-z][a-z-]+", GUIDE.read_text("utf-8"))) - settings


def test_the_guide_can_be_followed(tmp_path, monkeypatch, call, capsys):
    monkeypatch.chdir(tmp_path)
    text = GUIDE.read_text("utf-8")
    saving, by_name, fitting = re.findall("```python\n(.*?)```", text, re.S)
    names = {}
    exec(saving, names)
    exec(by_name, names)
    for width in (16, 32, 64):
        os.mkdir(f"width{width}")
        for step in (0, 10):
            np.save(f"width{width}/step_{step}.npy", gradient(width + step, 10 * width))
    commands = dict.fromkeys(re.findall(r"^    gradquake (.*?)(?: +#.*)?$", text, re.M))
    assert len(commands) == 11
    for command in commands:
        done = call(*shlex.split(command))
        assert done.returncode == 0, f"{command}: {done.stderr}"
    exec(fitting, names)
    assert "nan" not in capsys.readouterr().out
    assert names["D"]["value"].size == 2

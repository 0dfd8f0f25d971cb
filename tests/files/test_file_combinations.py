"""Every pair of choices of the command on files in some run, each beside a naive computation."""

import json
import random
import re
from collections import namedtuple
from itertools import combinations, pairwise, product

import ml_dtypes
import numpy as np
import pytest
import torch
from allpairspy import AllPairs
from safetensors.numpy import save_file

import gradquake as gq
from gradquake.avalanche.probe import fixed_sample
from gradquake.avalanche.surrogates import RUNGS, seed_at, surrogate

CHOICES = {
    "form": (".npy", ".npz", ".safetensors", ".pt", ".ckpt", ".index.json"),
    "layout": ("files", "a folder", "folders", "one file"),
    "differences": (False, True),
    "nulls": ((), ("gaussian", "permuted", "sign_flipped"), RUNGS),
    "draws": (None, 2),
    "sample": (None, 60),
    "match": (None, "*w*"),
    "topology": ("barabasi_albert", "ring", "small_world_0.2"),
    "dtype": ("float16", "bfloat16", "float32", "float64"),
    "size": (300, 2**22 + 5),
    "json": (True, False),
    "order": ("of steps", "of a shell", "random"),
    "out": (False, True),
}
STEPS = (9, 100, 1000)
Case = namedtuple("Case", CHOICES)


def possible(row):
    """Whether a command, or the part of it that is drawn so far, is not refused and is fast."""
    has = dict(zip(CHOICES, row, strict=False))
    form, nulls = has.get("form"), has.get("nulls")
    refused = (
        (form == ".npy" and (has.get("match") or has.get("dtype") == "bfloat16"))
        or (form == ".npz" and has.get("dtype") == "bfloat16")
        or (form == ".index.json" and has.get("layout") == "a folder")  # which holds its parts too
        or (has.get("layout") == "one file" and has.get("differences"))
        or (nulls == () and has.get("draws"))
    )
    large = has.get("size", 0) > 2**22
    slow = large and not has.get("sample") and (nulls or has["topology"] != "ring")
    return not (refused or slow)


def completed(pair):
    """Return a plain case in which two values meet."""
    plain = Case(
        ".pt", "files", False, RUNGS, None, 60, None, "ring", "float32", 300, True, "random", False
    )
    return plain._replace(**pair)


def pairs():
    """Every two values of different choices that a possible command has."""
    for (name, values), (other, others) in combinations(CHOICES.items(), 2):
        for value, beside in product(values, others):
            if possible(completed({name: value, other: beside})):
                yield name, value, other, beside


def drawn():
    """Return cases in which every pair is met; those that the greedy draw leaves out are completed."""
    cases = [Case(*row) for row in AllPairs(list(CHOICES.values()), filter_func=possible)]
    for name, value, other, beside in pairs():
        if not any((getattr(case, name), getattr(case, other)) == (value, beside) for case in cases):
            cases.append(completed({name: value, other: beside}))
    return cases


CASES = drawn()


def test_the_cases_are_few_and_large_ones_are_among_them():
    assert len(CASES) < 60
    assert {case.size for case in CASES} == set(CHOICES["size"])


def tensors(case, step):
    """Return the named arrays that stand in the files of a step, in the order of saving."""
    rng = np.random.default_rng(step)
    small = {"layer.10.w": (6, 9), "layer.2.w": (40,), "layer.2.b": (5,)}
    rest = case.size - sum(int(np.prod(shape)) for shape in small.values())
    shapes = small | {"head.w": (rest,)}
    if case.form == ".npy":
        shapes = {"array": (case.size,)}
    dtype = ml_dtypes.bfloat16 if case.dtype == "bfloat16" else case.dtype
    return {
        name: rng.standard_t(
            3,
            shape,
        )
        .astype("f4")
        .astype(dtype)
        for name, shape in shapes.items()
    }


def saved(case, folder, step, arrays):
    """Write the files of a step, beside what no one measures; return the one that is given."""
    stem = folder / (f"step_{step}/model" if case.layout == "folders" else f"model_{step}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = stem.with_name(stem.name + case.form)
    beside = {"bn.running_mean": np.full(4, 1e4 * step, "f4"), "n": np.array(step)}
    held = arrays | (beside if case.differences else {})
    if case.form == ".npy":
        np.save(path, arrays["array"])
    elif case.form == ".npz":
        np.savez(path, **held)
    elif case.form == ".safetensors":
        save_file(held, path)
    elif case.form == ".index.json":
        parts = {name: f"{stem.name}-{len(name) % 2}.safetensors" for name in held}
        for part in set(parts.values()):
            save_file({name: held[name] for name in held if parts[name] == part}, stem.parent / part)
        path.write_text(json.dumps({"weight_map": parts}))
    else:
        bfloat16 = case.dtype == "bfloat16"
        state = {
            name: torch.from_numpy(array.astype("f4")).bfloat16()
            if bfloat16 and name in arrays
            else torch.from_numpy(array)
            for name, array in held.items()
        }
        torch.save({"model": state, "optimizer": {"state": {}}, "loss": torch.tensor(1.5)}, path)
    return path


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", name)]


def flat(case, arrays):
    """Return the entries that are measured, in their order, and the size of each tensor."""
    names = sorted(arrays, key=natural) if case.form in (".safetensors", ".index.json") else arrays
    chosen = [arrays[name].ravel() for name in names if not case.match or "w" in name]
    return np.concatenate([a.astype("f8" if case.dtype == "float64" else "f4") for a in chosen]), [
        array.size for array in chosen
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(v)[:12] for v in case))
def test_the_command_measures_what_a_naive_computation_does(case, tmp_path, call):
    steps = STEPS[-1:] if case.layout == "one file" else STEPS
    arrays = [tensors(case, step) for step in steps]
    folder = tmp_path / "given"
    paths = [saved(case, folder, step, of) for step, of in zip(steps, arrays, strict=True)]
    if case.order == "of a shell":
        paths.sort(key=str)
    elif case.order == "random":
        random.Random(1).shuffle(paths)
    options = ["--graph", case.topology, "--seed", 3]
    options += ["--differences"] * case.differences + ["--json"] * case.json
    options += {0: ["--no-nulls"], len(RUNGS): ["--all-nulls"]}.get(len(case.nulls), [])
    for name in ("draws", "sample", "match"):
        options += [] if getattr(case, name) is None else [f"--{name}", getattr(case, name)]
    out = tmp_path / "study.sqlite"
    options += ["--out", out, "--label", "width=3"] if case.out else []
    given = [folder] if case.layout == "a folder" else paths
    done = call("measure", *given, *options)
    assert done.returncode == 0, done.stderr

    vectors, (sizes, *_) = zip(*(flat(case, of) for of in arrays), strict=True)
    if case.differences:
        vectors, steps = [b - a for a, b in pairwise(vectors)], steps[1:]
    if case.sample:
        positions = fixed_sample(vectors[0].size, case.sample, 3)
        vectors = [vector[positions] for vector in vectors]
        sizes = np.histogram(positions, np.cumsum([0, *sizes]))[0]
    probe = gq.Probe(case.topology, seed=3)
    expected = [probe.measure(vector) for vector in vectors]
    if case.json:
        check_json(case, json.loads(done.stdout), steps, vectors, expected, sizes, probe)
    else:
        for step, one in zip(steps, expected, strict=True):
            assert re.search(rf"^ *{step if len(steps) > 1 else 'real'} +{one.size} ", done.stdout, re.M)
        assert ("bn.running_mean' (not trained)" in done.stdout) == (
            case.differences and case.form != ".npy" and not case.match
        )
    if case.out:
        with gq.open_study(out) as study:
            real = study.select(surrogate="real")
            assert len(study.keys()) == 1 + len(case.nulls)
        assert real["epoch"].values.tolist() == list(steps)
        assert real["size"].values.tolist() == [[one.size for one in expected]]


def check_json(case, found, steps, vectors, expected, sizes, probe):
    assert found["n_parameters"] == vectors[0].size
    assert [m["step"] for m in found["measurements"]] == list(steps)
    for measured, one, vector in zip(found["measurements"], expected, vectors, strict=True):
        assert (measured["size"], measured["area"]) == (one.size, one.area)
        assert measured["threshold"] == one.threshold
        assert measured["gradient_norm"] == pytest.approx(np.linalg.norm(vector.astype("f8")))
        assert tuple(measured["nulls"]) == case.nulls
        for rung, null in measured["nulls"].items():
            assert len(null["draws"]) == (case.draws or (1 if len(steps) > 1 else 20))
            seed = seed_at(3, measured["step"], 0)
            drawn = surrogate(rung, vector, [size for size in sizes if size], seed=seed)
            assert null["draws"][0]["size"] == probe.measure(drawn).size

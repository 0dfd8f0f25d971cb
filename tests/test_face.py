"""The public face, used as a user writes it: one script in a fresh process."""

import subprocess
import sys

SCRIPT = """
import numpy as np
import gradquake as gq

gradient = np.random.default_rng(0).standard_normal(500)

avalanche = gq.measure(gradient, seed=0)
assert avalanche.size >= avalanche.area >= avalanche.peak > 0
assert avalanche.duration > 0 and not avalanche.truncated

probe = gq.Probe(graph="ring", alpha=0.2, seed=3)
whole = probe.measure(gradient)
assert probe.measure_batch([gradient, gradient[:100]]).size.tolist()[0] == whole.size
assert probe.measure_pieces([gradient[:200], gradient[200:]]).size == whole.size

graph = gq.graphs.from_edges(500, [(i, i + 1) for i in range(499)])
tau = float(np.quantile(np.abs(gradient), 0.9))
assert gq.relax(gradient, graph, threshold=tau, alpha=0.3, max_steps=20).size > 0

gq.run("xor", hidden=[20, 30, 50], seeds=2, alpha_train=0, epochs=100, out="sweep.sqlite", jobs=2)
with gq.open_study("sweep.sqlite") as study:
    assert study.select(task="xor").sizes["run"] == 6

result = gq.analyze("sweep.sqlite", task="xor")
assert str(result) == "\\n".join(result.reading)
assert 3 <= len(result.reading)
post = result.exponent("post", "max")
assert post.low <= post.value <= post.high
assert post.fit.n_scales == 3 and len(post.cautions) > 0
assert set(result.dimension("max")) >= {"value", "low", "high"}
assert set(result.dimension("max").coords) == {"epoch"}
assert result.crossing("max").runs == 2
parts = result.attribution("post", "mean")
total = parts.estimator.value + parts.distribution.value + parts.arrangement.value
assert abs(total - (result.exponent("post", "mean").value - 1)) < 1e-12
result.plot().figure.savefig("D.png")
assert result.to_json().startswith("{")
assert "<table" in result._repr_html_() and "Result" in repr(result)
"""


def run_script(code, folder):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_face_of_the_core(tmp_path):
    run_script(SCRIPT, tmp_path)
    assert (tmp_path / "D.png").stat().st_size > 10_000

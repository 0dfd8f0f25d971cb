"""
One gradient, one avalanche
===========================

A gradient relaxes on a graph. The tenth of the entries with the largest magnitudes is unstable and
topples; neighbors may follow. The size of the avalanche depends on the share that a toppling node gives
away, on the threshold, and less on the graph.
"""

import matplotlib.pyplot as plt
import numpy as np

import gradquake as gq

gradient = np.random.default_rng(0).standard_normal(10_000)
avalanche = gq.measure(gradient, seed=0)
avalanche

# %%
# ``generations`` counts the topplings of each step: the avalanche dies out.

generations = gq.Probe(seed=0).generations(gradient)
print(generations)

# %%
# The same gradient on four graphs, at nine values of alpha. ``isolated`` is the size on a graph without
# edges. The difference to it is the part of the avalanche that neighbors cause.

alphas = np.linspace(0.1, 0.9, 9)
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for graph in ("barabasi_albert", "ring", "square_lattice", "erdos_renyi"):
    sizes = [gq.Probe(graph=graph, alpha=alpha, seed=0).measure(gradient).size for alpha in alphas]
    axes.plot(alphas, np.array(sizes) / gradient.size, "o-", label=graph)
isolated = [gq.Probe(alpha=alpha, seed=0).measure(gradient).isolated for alpha in alphas]
axes.plot(alphas, np.array(isolated) / gradient.size, "k--", label="without edges")
axes.set(xlabel="alpha", ylabel="size / N")
axes.legend()

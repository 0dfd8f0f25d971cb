"""
Is the gradient near criticality?
=================================

A critical system answers a small kick with avalanches of any size, and on average one toppling
causes one further toppling: the branching ratio is 1. ``Probe.kicks`` lets a gradient relax, kicks
single nodes over the threshold, and reports the avalanches.
"""

import matplotlib.pyplot as plt
import numpy as np

import gradquake as gq

gradient = np.random.default_rng(2).standard_normal(20_000)
print(gq.Probe(graph="square_lattice", alpha=0.3).kicks(gradient))

# %%
# The share alpha that a toppling node gives away moves the branching ratio. At the usual alpha of
# 0.3 the answer is far below 1: most kicks topple the kicked node and nothing else.

alphas = np.linspace(0.1, 0.9, 9)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for graph in ("barabasi_albert", "ring", "square_lattice"):
    answers = [gq.Probe(graph=graph, alpha=alpha, seed=0).kicks(gradient, 2000) for alpha in alphas]
    left.plot(alphas, [answer.branching_ratio for answer in answers], "o-", label=graph)
    right.plot(alphas, [answer.mean for answer in answers], "o-")
left.axhline(1, color="gray", linestyle=":")
left.set(xlabel="alpha", ylabel="branching ratio", ylim=(0, 1.05))
right.set(xlabel="alpha", ylabel="mean avalanche of a kick", yscale="log")
left.legend()

"""
A sweep: from runs to D(t)
==========================

``gq.run`` trains networks of several sizes on XOR and records an avalanche at every tenth epoch.
``gq.analyze`` trains them again, bit for bit, to measure the nulls on the same gradients. Twelve
runs are too few for a result; they show the way.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import gradquake as gq

study = Path(tempfile.mkdtemp()) / "sweep.sqlite"
gq.run("xor", hidden=[20, 50, 120, 200], seeds=3, epochs=300, alpha_train=0, out=study, jobs=1)
result = gq.analyze(study, jobs=1)

# %%
# The reading: what was found, in sentences.

print(result)

# %%
# D(t) with its 95 % band, beside that of its nulls.

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
result.plot("max", ax=axes)

# %%
# The parts of D - 1 after the networks have learned. Only the *arrangement* is destroyed by
# shuffling the entries.

parts = result.attribution("post", "max")
names = ("estimator", "distribution", "arrangement")
figure, axes = plt.subplots(figsize=(7, 2.5), layout="constrained")
estimates = [getattr(parts, name) for name in names]
for name, one in zip(names, estimates, strict=True):
    axes.plot([one.low, one.high], [name, name], "C0", linewidth=3)
    axes.plot(one.value, name, "ko")
axes.axvline(0, color="gray", linestyle=":")
axes.set_xlabel("part of D - 1 after t_g")
axes.invert_yaxis()

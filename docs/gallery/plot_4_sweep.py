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

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
result.plot("max", ax=left)

# %%
# The parts of D - 1 after the networks have learned. Only the *arrangement* is destroyed by
# shuffling the entries.

parts = result.attribution("post", "max")
names = ("estimator", "distribution", "arrangement")
estimates = [getattr(parts, name) for name in names]
for name, one in zip(names, estimates, strict=True):
    right.plot([one.low, one.high], [name, name], "C0", linewidth=3)
    right.plot(one.value, name, "ko")
right.axvline(0, color="gray", linestyle=":")
right.set_xlabel("part of D - 1 after t_g")
right.invert_yaxis()
figure

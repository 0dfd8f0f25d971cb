"""
Does the fit find exponents that are known?
===========================================

In a critical branching process cut off after L generations, the mean family grows as L^1 and the
largest as L^2: exactly known. ``gq.run`` simulates it like any experiment. The fits of
``gradquake.analysis``, which serve for gradients too, can be held against the known values.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import gradquake as gq
from gradquake.analysis.scaling import exponent

study = Path(tempfile.mkdtemp()) / "known.sqlite"
sizes = [16, 32, 64, 128, 256]
gq.run("branching", width=sizes, seeds=4, avalanches=4096, out=study, jobs=1)
with gq.open_study(study) as opened:
    sweep = opened.select(experiment="branching")

for statistic, known in (("mean", 1), ("max", 2)):
    found = exponent(sweep, statistic)
    print(f"{statistic:5} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], known: {known}")

# %%
# Both intervals contain the known exponent; that of the maximum is far wider. :doc:`/known-answers`
# tries all estimators on seven models, with more avalanches, and shows those that miss.

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
groups = sweep["size"].groupby("n_parameters")
axes.loglog(sizes, groups.mean(...), "o-", label="mean family")
axes.loglog(sizes, groups.max(...), "s-", label="largest family")
axes.loglog(sizes, np.array(sizes), "k:", label="L")
axes.loglog(sizes, np.array(sizes) ** 2.0, "k--", label="L²")
axes.set(xlabel="L", ylabel="size")
axes.legend()

"""The command line, for which the paper is small; it says when it starts."""

import functools

import gradquake.__main__
from gradquake.paper.xor import plan as xor_plan

xor_plan.Plan = functools.partial(xor_plan.Plan, hidden=(3, 5, 8), gini_seeds=3)

if __name__ == "__main__":
    print("started", flush=True)
    gradquake.__main__.main()

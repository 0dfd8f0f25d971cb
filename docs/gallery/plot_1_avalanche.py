"""
One gradient, one avalanche
===========================

x
"""

import gradquake as gq

print(gq.Probe())

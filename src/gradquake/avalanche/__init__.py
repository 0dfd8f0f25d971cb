"""One gradient becomes one avalanche: graphs, cascades, surrogates, and the probe that joins them.

Nothing here reads or writes files, or computes statistics of avalanches.
"""

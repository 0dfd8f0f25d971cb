"""One gradient, one avalanche: graphs, the cascade, the probe and the surrogates of nulls."""

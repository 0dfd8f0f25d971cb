"""A sweep measured again: on surrogates, on every topology, under every specification."""

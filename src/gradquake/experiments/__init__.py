"""Experiments: each makes gradients and records avalanches; none analyzes them."""

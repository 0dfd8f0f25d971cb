"""Experiments: each makes gradients and records what the probe saw; none analyses them."""

"""Gradients and checkpoints in files, whatever program wrote them."""

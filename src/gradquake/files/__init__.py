"""Gradients and checkpoints in files, written by any program."""

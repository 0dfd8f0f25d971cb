"""Runs on disk: the measurements of runs, the study that holds them, and the execution of sweeps."""

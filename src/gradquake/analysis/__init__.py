"""Statistics of sweeps: exponents, D(t), transitions and tails, with their intervals."""

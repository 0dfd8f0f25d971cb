"""What the recorded avalanches say: exponents, D(t), transitions, tails, each with its interval."""

"""Models with known exponents: whether the analysis recovers them."""

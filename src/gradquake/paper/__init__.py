"""The paper "Grokking as Dimensional Phase Transition in Neural Networks", end to end."""

"""What a careful user would write with the usual libraries; the benchmarks' peers."""

from __future__ import annotations

import numpy as np
import scipy.sparse


class SciPyCascade:
    """The cascade as vectorised NumPy around a SciPy CSR product; the matrix is made once."""

    def __init__(self, graph, alpha=0.3, quantile=0.9, max_steps=20):
        shape = (graph.n_nodes, graph.n_nodes)
        ones = np.ones(graph.indices.size)
        self.adjacency = scipy.sparse.csr_array((ones, graph.indices, graph.indptr), shape=shape)
        self.share = alpha / graph.degrees
        self.alpha, self.quantile, self.max_steps = alpha, quantile, max_steps

    def measure(self, gradient):
        """Return size, duration, area, peak, truncated, deviation and the relaxed gradient."""
        threshold = np.quantile(np.abs(gradient), self.quantile)
        relaxed = gradient.copy()
        toppled = np.zeros(gradient.size, bool)
        size = duration = peak = 0
        unstable = np.abs(relaxed) > threshold
        while duration < self.max_steps and unstable.any():
            moving = np.where(unstable, relaxed, 0.0)
            relaxed = relaxed - self.alpha * moving + self.adjacency @ (self.share * moving)
            topplings = np.count_nonzero(unstable)
            toppled |= unstable
            size += topplings
            peak = max(peak, topplings)
            duration += 1
            unstable = np.abs(relaxed) > threshold
        norms = np.linalg.norm(gradient) * np.linalg.norm(relaxed)
        cosine = np.clip(gradient @ relaxed / norms, -1.0, 1.0) if norms > 0 else 1.0
        deviation = np.degrees(np.arccos(cosine))
        return size, duration, np.count_nonzero(toppled), peak, unstable.any(), deviation, relaxed


def torch_run(run, initial_parameters, graph):
    """Train and measure one XOR run with PyTorch, the cascade in the loop, as gradquake records it."""
    import torch

    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    targets = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, run.hidden), torch.nn.Tanh(), torch.nn.Linear(run.hidden, 1)
    ).double()
    parameters = list(model.parameters())
    torch.nn.utils.vector_to_parameters(torch.from_numpy(initial_parameters), parameters)
    optimizer = torch.optim.SGD(parameters, lr=run.learning_rate)
    probe = SciPyCascade(graph, run.alpha, run.quantile, run.max_steps)
    snapshots, grokking_epoch = [], None
    for epoch in range(run.epochs + 1):
        optimizer.zero_grad()
        logits = model(inputs).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        loss.backward()
        accuracy = ((logits > 0) == (targets > 0.5)).double().mean().item()
        if accuracy == 1.0 and grokking_epoch is None:
            grokking_epoch = epoch
        gradient = torch.cat([p.grad.reshape(-1) for p in parameters])
        *avalanche, relaxed = probe.measure(gradient.numpy())
        if epoch % run.every == 0:
            weights = torch.cat([p.detach().reshape(-1) for p in parameters]).abs().sort().values.numpy()
            rank = 2 * np.arange(1, weights.size + 1) - weights.size - 1
            gini = (rank * weights).sum() / (weights.size * weights.sum())
            snapshots.append((*avalanche, loss.item(), accuracy, gradient.norm().item(), gini))
        start = 0
        for p in parameters:
            p.grad = torch.from_numpy(relaxed[start : start + p.numel()]).reshape(p.shape)
            start += p.numel()
        optimizer.step()
    return np.array(snapshots), grokking_epoch

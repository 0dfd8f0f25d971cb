"""The paper's second system: Transformers that learn modular addition."""

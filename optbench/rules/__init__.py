"""Foreign optimizers as Rules: optax transformations and torch.optim classes."""

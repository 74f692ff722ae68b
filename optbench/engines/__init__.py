"""Engines run the lanes of one program on one framework: `lanes` drives, `jax` and `torch` compute."""

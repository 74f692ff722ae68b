"""Has an optimizer changed what it does? Four layers against committed numbers: see `optbench.gate.check`."""

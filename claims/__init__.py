"""The documents whose claims come with optbench: one file for each, and in programs/ what measures them."""

from optbench.claim import Measurement
from optbench.claim.rules import Kind
from optbench.execute.request import Request


def studied(*runs: Request) -> Measurement:
    """What ordinary runs give, seed by seed (`programs/studies.py`)."""
    return Measurement.of("studies:study", *runs, kind=Kind.TRAINING, version=2)

"""Statistics: DataFrame in, DataFrame out; no figures."""

from typing import Any, TypeAlias

Frame: TypeAlias = Any
"""A pandas DataFrame. pandas ships no types, and what a checker infers from its source is mostly wrong."""

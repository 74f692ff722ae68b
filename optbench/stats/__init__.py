"""Statistics: DataFrame in, DataFrame out; no figures.

Unless a function says otherwise, `rows` are outcomes of a complete block at the reported trials (`outcomes.outcomes`,
`at_best`, `complete`). Columns low and high are the ends of an interval over seeds, low_tasks and high_tasks over
problems; docs/methodology.md has their measured coverage.
"""

from typing import Any, TypeAlias

Frame: TypeAlias = Any
"""A pandas DataFrame. pandas ships no types, and what a checker infers from its source is mostly wrong."""

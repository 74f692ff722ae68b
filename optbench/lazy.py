"""Packages imported when something of them is first used: `optbench list` and `show` need none of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
else:

    class Later:
        """Stands for a module until then."""

        def __init__(self, name: str):
            self.__name__ = name

        def __getattr__(self, name: str) -> Any:
            module = importlib.import_module(self.__name__)
            self.__dict__ = vars(module)  # from now on it has what the module has
            return getattr(module, name)

    np, pd, pa, pc, pq = map(Later, ("numpy", "pandas", "pyarrow", "pyarrow.compute", "pyarrow.parquet"))

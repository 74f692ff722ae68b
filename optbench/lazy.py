"""NumPy, imported when something of it is first used: `optbench list` and `show` read the catalogue without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:

    class Later:
        """Stands for NumPy until then."""

        def __getattr__(self, name: str) -> Any:
            import numpy

            self.__dict__.update(vars(numpy))
            return getattr(numpy, name)

    np = Later()

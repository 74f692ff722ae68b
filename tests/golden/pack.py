"""Pack a folder of single-case golden traces into one compressed file per optimizer.

python tests/golden/pack.py FOLDER
"""

import json
import lzma
import sys
from pathlib import Path

here = Path(__file__).parent
by_optimizer: dict[str, dict] = {}
for path in sorted(Path(sys.argv[1]).glob("*_f*.json")):
    trace = json.loads(path.read_text())
    by_optimizer.setdefault(trace["optimizer"], {})[path.stem] = trace
for optimizer, cases in by_optimizer.items():
    if not optimizer.startswith("psgd_torch"):
        text = json.dumps(cases, separators=(",", ":"))
        (here / f"{optimizer}.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))

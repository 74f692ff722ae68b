"""Pack a folder of single-case golden traces into one compressed file per optimizer (all of psgd_torch in one).

python tests/golden/pack.py FOLDER
"""

import json
import lzma
import sys
from pathlib import Path

here = Path(__file__).parent
packed: dict[str, dict] = {}
for path in sorted(Path(sys.argv[1]).glob("*_f*.json")):
    trace = json.loads(path.read_text())
    name = trace["optimizer"]
    if name.startswith("psgd_torch"):
        # In one file, as they share draws; without the problem, which no test evaluates.
        name = "psgd_torch"
        trace = {key: value for key, value in trace.items() if key != "problem"}
    packed.setdefault(name, {})[path.stem] = trace
for name, cases in packed.items():
    text = json.dumps(cases, separators=(",", ":"))
    (here / f"{name}.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))

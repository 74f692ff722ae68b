"""The picture of a report for a README: its page in Chromium, 1280 pixels wide, in few colours.

python -m tests.picture reports/sample/quickstart
"""

import base64
import io
import sys
from pathlib import Path

from PIL import Image

from tests.chromium import Tab, browser

WIDTH, HEIGHT, COLOURS = 1280, 1500, 256


def take(folder: Path) -> Path:
    """Write <folder>/page.png."""
    with browser() as driver:
        tab = Tab(driver).open((folder / "index.html").resolve(), WIDTH)
        tab.size(WIDTH, HEIGHT)
        tab.drawn()
        data = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    picture = picture.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(path := folder / "page.png", optimize=True)
    return path


if __name__ == "__main__":
    path = take(Path(sys.argv[1]))
    print(f"wrote {path}: {path.stat().st_size / 1000:.0f} kB")

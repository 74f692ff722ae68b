"""The charting library of the page: Vega, Vega-Lite and Vega-Embed as one script, as vl-convert bundles them.

Nothing is fetched: the wheel of vl-convert holds the sources. Bundling takes seconds, so the result is cached.
"""

from __future__ import annotations

import functools

import vl_convert

from optbench.environment import cache_folder, remember, remembered, version
from optbench.fields import digest

SNIPPET = "window.vegaEmbed = vegaEmbed;"


@functools.cache
def library() -> str:
    """JavaScript that defines vegaEmbed; safe between script tags."""
    path = cache_folder() / f"vega-{digest([SNIPPET, version('vl-convert-python')])}.js"
    text = remembered(path)
    if text is None:
        text = (
            vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script").replace("<!--", "<\\!--")
        )
        remember(path, text)
    return text

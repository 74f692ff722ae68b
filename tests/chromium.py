"""A headless Chromium that can reach nothing but files, for tests of pages and pictures of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
WIDE = 1280


class Tab:
    """A browser that can reach nothing but files, with one page open."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, width=WIDE, scheme="light", charts=True):
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        self.size(width)
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        if charts:
            self.drawn()
        return self

    def size(self, width, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, seconds=60):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda _: self.run(f"return {script}"))

    def drawn(self):
        """Until every chart is drawn."""
        self.wait("document.documentElement.dataset.drawn === 'all'")

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def paths(self, kind="progress", place=0):
        """How many lines a chart has."""
        return self.run(
            "return document.querySelectorAll(`.plot[data-kind='${arguments[0]}'][data-place='${arguments[1]}']"
            " .mark-line path`).length",
            kind, place,
        )  # fmt: skip

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()


@contextmanager
def browser() -> Iterator:
    """A driver, until the block ends."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()

"""Headless Chromium for tests of the live page; skipped, with the reason, where it is not installed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

pytest.importorskip("playwright", reason="drives the browser: pip install playwright")

from playwright.async_api import Browser, Page, Request, async_playwright

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = [
    "--no-sandbox",  # the tests run as root in containers; the page is our own
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
NO_CHROMIUM = "no Chromium here: apt-get install chromium, or put one on the PATH"


@dataclass
class Tab:
    """A page, and what must stay empty: errors of any kind, and requests that left the edge."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to collect."""
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "blob:")):
            self.foreign.append(request.url)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; starting one costs more than any test that uses it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_tab(
    browser: Browser,
    url: str,
    width: int = 1200,
    height: int = 900,
    dark: bool = False,
    ready: str = "text=edge: ready",
) -> AsyncIterator[Tab]:
    """The page at `url` in a context of its own, loaded, with its first answers drawn."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    try:
        page = await context.new_page()
        page.set_default_timeout(30_000)
        tab = Tab(page, url)
        tab.watch()
        await page.goto(url)
        await page.locator(ready).first.wait_for()
        yield tab
    finally:
        await context.close()

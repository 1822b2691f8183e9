"""The live page in a real browser on a real edge: what it shows is so, what it offers works."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import pytest_asyncio
from browser import CHROMIUM, NO_CHROMIUM, Tab, chromium, open_tab
from edge_rig import EdgeRig, edge_rig, picture, see_a_cat, tiny_codec
from http_rig import serving
from PIL import Image
from playwright.async_api import Browser

from edge.__main__ import guarded_app
from edge.app import create_app
from edge.codec import Codec
from splitcodec.client import AsyncEdgeClient
from splitcodec.demo import packaged_photos, services
from splitcodec.tokens import new_token, write_tokens

DOCS = Path(__file__).resolve().parent.parent / "docs"

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    async with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@dataclass
class Shown:
    """An edge and its page in a browser."""

    rig: EdgeRig
    tab: Tab

    def text(self, selector: str, text: str | re.Pattern[str]) -> object:
        """Wait until an element has a text."""
        return self.tab.page.locator(selector).filter(has_text=text).first.wait_for()

    def sound(self) -> None:
        """No error, no violation of the page's own policy, no request to another host."""
        assert self.tab.errors == []
        assert self.tab.foreign == []


@asynccontextmanager
async def shown(browser: Browser, codec: Codec, state_dir: Path, **options: object) -> AsyncIterator[Shown]:
    """An edge with two frames of camera door, in a browser."""
    how = {name: options.pop(name) for name in ("width", "dark") if name in options}
    async with edge_rig(codec, state_dir, **options) as rig, serving(create_app(rig.pipeline)) as url:
        for seed in (0, 1):
            assert (await rig.post(picture(120, 200, seed=seed), camera="door", rate=1)).status_code == 200
        async with open_tab(browser, url, **how) as tab:
            yield Shown(rig, tab)


async def test_frames_are_shown_with_their_answer_drawn_and_their_bytes(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    async with shown(browser, codec, tmp_path) as page:
        await page.text("#found", "cat 0.75")
        newest = page.rig.cloud.frames[-1].bitstream
        await page.text("#facts", f"{len(newest)} B, the posted file had")
        await page.text("#device", "box-1")
        await page.text("#state-cloud", "cloud: connected")
        await page.text("#state-spool", "spool: empty")
        size = await page.tab.page.evaluate(
            "async () => { const p = document.getElementById('picture'); await p.decode();"
            " return [p.naturalWidth, p.naturalHeight, p.alt] }"
        )
        assert size[:2] == [200, 120]
        assert "door at" in size[2]
        assert "cat 0.75" in size[2]
        assert await page.tab.page.locator("#strip button").count() == 2
        await page.rig.post(picture(seed=5), camera="door")
        await page.tab.page.locator("#strip li:nth-child(3)").wait_for()
        for chart in ("#chart-bitrate svg", "#chart-latency svg"):
            label = await page.tab.page.locator(chart).get_attribute("aria-label")
            assert re.search(r"of the last 5 minutes|over 5 minutes", label or ""), label
        page.sound()


async def test_the_picker_really_swaps(browser: Browser, codec: Codec, tmp_path: Path) -> None:
    async with shown(browser, codec, tmp_path) as page:
        form = page.tab.page
        await form.locator("#prompt-task option").first.wait_for(state="attached")
        await form.get_by_label("of camera").fill("door")
        await form.get_by_label("fixed rate", exact=True).fill("0.5")
        assert await form.locator("input[name=mode][value=rate]").is_checked()
        await form.get_by_role("button", name="Swap").click()
        await page.text("#prompt-said", "the next frame of door uses detect")
        assert (await page.rig.post(camera="door")).json()["rate"] == 0.5
        await page.text("#prompt-now", "rate 0.5")
        await form.get_by_role("button", name="Do as the edge is set").click()
        await page.text("#prompt-now", "as the edge is set")
        assert (await page.rig.post(camera="door")).json()["rate"] == 1.0
        await form.get_by_label("kilobits per second").fill("50")
        await form.get_by_role("button", name="Swap").click()
        await page.text("#prompt-now", "50 kbit/s")
        assert (await page.rig.http.get("/v1/cameras/door/prompt")).json()["target_kbps"] == 50
        page.sound()


async def test_pictures_are_sent_by_button_and_by_drop(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    async with shown(browser, codec, tmp_path) as page:
        tab = page.tab.page
        await tab.get_by_label("as camera").fill("phone")
        chosen = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture(seed=3)}
        await tab.locator("#file").set_input_files(chosen)
        await page.text("#sent", "a.jpg: cat 0.75")
        data = await tab.evaluate_handle(
            "bytes => { const t = new DataTransfer();"
            " t.items.add(new File([new Uint8Array(bytes)], 'b.png', {type: 'image/png'})); return t }",
            list(picture(kind="PNG")),
        )
        await tab.dispatch_event("#drop", "drop", {"dataTransfer": data})
        await page.text("#sent", "b.png: cat 0.75")
        assert page.rig.cloud.seqs("phone") == sorted(page.rig.cloud.seqs("phone"))
        assert len(page.rig.cloud.seqs("phone")) == 2
        page.sound()
        await tab.locator("#file").set_input_files({**chosen, "buffer": b"no picture"})
        await page.text("#sent", "a.jpg was not taken")


async def test_the_webcam_sends_frames_until_it_is_stopped(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    async with shown(browser, codec, tmp_path) as page:
        tab = page.tab.page
        await tab.get_by_label("frames per second").fill("10")
        await tab.get_by_role("button", name="Start webcam").click()
        await page.rig.cloud.wait_for(frames=4)
        assert page.rig.cloud.frames[-1].key.camera == "page"
        await tab.get_by_role("button", name="Stop webcam").click()
        await tab.locator("#webcam-view").wait_for(state="hidden")
        page.sound()


async def test_an_absent_cloud_and_a_filling_spool_are_told(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    async with shown(browser, codec, tmp_path, deadline_s=0.2) as page:
        never = asyncio.Event()

        async def slowly(frame, context):  # type: ignore[no-untyped-def]
            await never.wait()
            return await see_a_cat(frame, context)

        page.rig.cloud.answer = slowly
        await page.tab.page.locator("#file").set_input_files(
            {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture()}
        )
        await page.text("#sent", "a.jpg is kept on the edge")
        await page.text("#state-spool", "spool: 1 frames")
        never.set()
        await page.text("#state-spool", "spool: empty")
        page.sound()


async def test_a_token_is_asked_for_kept_in_the_tab_and_sent(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    ends = datetime.now(timezone.utc) + timedelta(hours=1)
    token, record = new_token(["frames", "results", "prompts"], ends, None)
    stranger, _ = new_token(["frames"], ends, None)
    write_tokens(tmp_path / "tokens", [record])
    async with edge_rig(codec, tmp_path / "state", token_file=tmp_path / "tokens") as rig:
        guarded = guarded_app(rig.pipeline.settings, rig.pipeline)
        async with serving(guarded) as url, open_tab(browser, url, ready="#login[open]") as tab:
            page = tab.page
            field = page.get_by_role("textbox", name="Token")
            await field.fill(stranger)
            await page.get_by_role("button", name="Use it").click()
            await page.locator("#login-why").filter(has_text="is unknown").wait_for()
            await field.fill(token)
            await page.keyboard.press("Enter")
            await page.locator("#login").wait_for(state="hidden")
            await page.get_by_label("as camera").fill("phone")
            chosen = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture(seed=3)}
            await page.locator("#file").set_input_files(chosen)
            await page.locator("#sent").filter(has_text="a.jpg: cat 0.75").wait_for()
            kept = await page.evaluate(
                "() => [localStorage.length, document.cookie, sessionStorage.getItem('splitcodec-token')]"
            )
            assert kept == [0, "", token]
            assert await page.locator("#token").input_value() == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_page_meets_wcag_2_aa(browser: Browser, codec: Codec, tmp_path: Path, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="brings axe-core")
    async with shown(browser, codec, tmp_path, dark=dark) as page:
        await page.text("#found", "cat 0.75")
        results = await axe.Axe().run(
            page.tab.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        )
        assert results.violations_count == 0, results.generate_report()


async def test_everything_works_by_keyboard_in_reading_order(
    browser: Browser, codec: Codec, tmp_path: Path
) -> None:
    async with shown(browser, codec, tmp_path) as page:
        tab = page.tab.page
        await tab.locator("#strip button").nth(1).wait_for()
        await tab.locator("#prompt-task option").first.wait_for(state="attached")
        order = []
        for _ in range(40):
            await tab.keyboard.press("Tab")
            name = await tab.evaluate(
                "() => { const e = document.activeElement; return e === document.body ? '' :"
                " e.id || e.className || e.value || e.textContent.slice(0, 5) }"
            )
            if not name:
                break
            order.append(name)
        places = [
            "skip", "shown-camera", "follow", "send-camera", "file", "webcam", "webcam-fps", "prompt-camera",
            "prompt-task", "auto", "prompt-rate", "prompt-kbps", "prompt-reset",
        ]  # fmt: skip
        assert [name for name in order if name in places] == places
        await tab.locator("#strip button").nth(1).focus()
        await tab.keyboard.press("Enter")
        assert not await tab.get_by_label("follow").is_checked()
        assert await tab.locator("#strip button").nth(1).get_attribute("aria-current") == "true"


async def test_page_fits_a_phone(browser: Browser, codec: Codec, tmp_path: Path) -> None:
    async with shown(browser, codec, tmp_path, width=360) as page:
        await page.text("#found", "cat 0.75")
        wide = await page.tab.page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= 360
        small = await page.tab.page.evaluate(
            "() => [...document.querySelectorAll('button, .button, select')].filter(e => e.offsetParent &&"
            " e.getBoundingClientRect().height < 36).map(e => e.id)"
        )
        assert small == []
        shot = Image.open(io.BytesIO(await page.tab.page.screenshot()))
        assert shot.width == 360


async def test_real_photos_through_both_services_are_shown(
    browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Also makes the screenshots of the documentation: pytest --regen tests/test_edge_page.py."""
    photos = [_as_jpeg(photo) for photo in packaged_photos()]
    with services(tmp_path, "default") as url:
        for name, width, height in (("desktop", 1200, 1000), ("phone", 390, 1400)):
            async with (
                open_tab(browser, url, width, height) as tab,
                AsyncEdgeClient(url, deadline_s=60) as client,
            ):
                for _ in range(2):
                    for photo in photos:
                        report = await client.detect(photo, camera="door")
                labels = [found.label for found in report.detections or ()]
                assert labels
                await tab.page.locator("#found").filter(has_text=labels[0]).wait_for()
                await tab.page.locator("#facts").filter(has_text="as JPEG 75").wait_for()
                await tab.page.locator("#ratio").filter(has_not_text="–").wait_for()  # noqa: RUF001
                await tab.page.locator("#strip li:nth-child(5) img[src]").wait_for()
                shot = await tab.page.screenshot()
                assert tab.errors == []
            if request.config.getoption("--regen"):
                image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
                image.save(DOCS / f"page-{name}.png", optimize=True)


def _as_jpeg(photo: Path) -> bytes:
    """As a camera would post it."""
    buffer = io.BytesIO()
    with Image.open(photo) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()

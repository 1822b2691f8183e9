"""Clients against scripted edges and broken links: what is asked again, and what ends a call."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine

import pytest
from edge_rig import picture
from fault_proxy import fault_proxy
from http_rig import Said, Script, serving
from test_client_edge import QUICK
from waiting import until

from splitcodec.client import AsyncEdgeClient, Credentials, EdgeClient, Retry
from splitcodec.errors import (
    DeadlineExceeded,
    EdgeRefused,
    EdgeUnavailable,
    NotAuthenticated,
    QueueFull,
    SettingsError,
)


async def test_a_replay_whose_connection_broke_is_not_repeated() -> None:
    script, said = await over_a_link_that_breaks(QUICK, lambda client: client.replay())
    assert "may have been taken all the same" in said
    assert [path for _, path, *_ in script.asked] == ["/v1/quarantine/replay"]


async def test_a_change_with_an_etag_is_not_repeated_over_a_broken_link() -> None:
    def change(client: AsyncEdgeClient) -> Coroutine[None, None, object]:
        return client.set_prompt("door", task="detect", if_match="0123")

    script, said = await over_a_link_that_breaks(QUICK, change)
    assert "may have been taken all the same" in said
    assert [headers["if-match"] for *_, headers, _ in script.asked] == ['"0123"']


def problem(kind: str) -> bytes:
    return json.dumps(
        {"type": f"urn:splitcodec:problem:{kind}", "title": "T", "status": 0, "detail": "D", "remedy": "R."}
    ).encode()


async def test_a_busy_edge_is_asked_again_after_the_pause_it_names() -> None:
    busy = Said(429, problem("queue-full"), ((b"retry-after", b"1"),))
    script = Script([busy, Said(200, b"[]")])
    async with serving(script) as url, AsyncEdgeClient(url, retry=QUICK) as client:
        started = time.monotonic()
        assert await client.prompts() == ()
        assert time.monotonic() - started >= 1.0
    assert len(script.asked) == 2


async def test_a_frame_is_posted_again_only_where_the_edge_did_not_take_it() -> None:
    script = Script([Said(503, problem("spool-full")), Said(500, b"oops")])
    async with serving(script) as url, AsyncEdgeClient(url, retry=QUICK) as client:
        with pytest.raises(EdgeRefused, match="500"):
            await client.detect(picture())
    assert [method for method, *_ in script.asked] == ["POST", "POST"]


async def broken_post(retry: Retry) -> tuple[Script, str]:
    """A picture posted over a link that breaks before the answer: what was asked, and what came of it."""
    return await over_a_link_that_breaks(retry, lambda client: client.detect(picture()))


async def over_a_link_that_breaks(
    retry: Retry, call: Callable[[AsyncEdgeClient], Coroutine[None, None, object]]
) -> tuple[Script, str]:
    """As broken_post, for any call."""
    script = Script([Said(500, b"oops")], hold=asyncio.Event())
    async with serving(script) as url:
        with fault_proxy(url.removeprefix("http://")) as link:
            async with AsyncEdgeClient(f"http://{link.address}", retry=retry) as client:
                post = asyncio.ensure_future(call(client))
                await until(lambda: script.asked)
                link.cut()
                script.hold.set()  # type: ignore[union-attr]
                with pytest.raises((EdgeUnavailable, EdgeRefused)) as raised:
                    await post
    return script, str(raised.value)


async def test_a_post_whose_connection_broke_is_repeated_with_its_key() -> None:
    script, said = await broken_post(QUICK)
    assert "500" in said
    first, again = (headers["idempotency-key"] for *_, headers, _ in script.asked)
    assert first == again


async def test_without_retries_there_is_no_key() -> None:
    script, said = await broken_post(Retry(attempts=1))
    assert "may have been taken all the same" in said
    assert len(script.asked) == 1
    assert "idempotency-key" not in script.asked[0][2]


async def test_attempts_end_with_the_last_error() -> None:
    script = Script([Said(429, problem("queue-full"))])
    async with serving(script) as url, AsyncEdgeClient(url, retry=Retry(3, 0.01, 0.02)) as client:
        with pytest.raises(QueueFull, match=r"GET /v1/prompts: 429 T: D\. R\."):
            await client.prompts()
    assert len(script.asked) == 3


async def test_silence_ends_at_the_deadline() -> None:
    script = Script([Said(200)], hold=asyncio.Event())

    def ask(url: str) -> None:
        with EdgeClient(url, deadline_s=0.3) as client:
            client.prompts()

    async with serving(script) as url, AsyncEdgeClient(url, deadline_s=0.3) as client:
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s"):
            await client.prompts()
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s"):
            await asyncio.to_thread(ask, url)
        script.hold.set()  # type: ignore[union-attr]


async def test_no_edge_is_an_error_that_says_where() -> None:
    async with AsyncEdgeClient("http://127.0.0.1:1", retry=Retry(2, 0.01, 0.01)) as client:
        with pytest.raises(EdgeUnavailable, match=r"http://127\.0\.0\.1:1/v1/prompts"):
            await client.prompts()


@pytest.mark.parametrize("body", [b"[1]", b"{", b'[{"task": 3}]'])
async def test_an_answer_of_another_shape_is_refused(body: bytes) -> None:
    async with serving(Script([Said(200, body)])) as url, AsyncEdgeClient(url) as client:
        with pytest.raises(EdgeRefused, match="client of the edge's version"):
            await client.prompts()


async def test_the_token_is_sent_and_a_refusal_names_its_class() -> None:
    script = Script([Said(401, problem("not-authenticated"))])
    login = Credentials(token="abc")
    async with serving(script) as url, AsyncEdgeClient(url, credentials=login) as client:
        with pytest.raises(NotAuthenticated):
            await client.prompts()
    assert script.asked[0][2]["authorization"] == "Bearer abc"


def test_a_bad_address_or_a_token_in_the_clear_is_refused_at_once() -> None:
    for url in ("127.0.0.1:8080", "ftp://box", "http://", "http://box:port", ""):
        with pytest.raises(SettingsError):
            EdgeClient(url)
    with pytest.raises(SettingsError, match="unencrypted"):
        EdgeClient("http://box.example:8080", credentials=Credentials(token="abc"))
    EdgeClient("https://box.example:8080", credentials=Credentials(token="abc")).close()


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitcodec.client.exchange.MAX_ANSWER_BYTES", 1000)
    async with serving(Script([Said(200, b" " * 5000)])) as url, AsyncEdgeClient(url) as client:
        with pytest.raises(EdgeRefused, match="more than 1000 bytes"):
            await client.prompts()

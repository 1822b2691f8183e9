"""Tokens and limits of the edge: every route in the table, and no way around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from edge_rig import JPEG_TYPE, EdgeRig, edge_rig, picture
from fastapi.routing import APIRoute

from edge.__main__ import guarded_app
from edge.access import ROUTES, scopes_of
from edge.app import create_app
from edge.codec import Codec
from splitcodec.tokens import SCOPES, Scope, new_token, write_tokens


def make_tokens(place: Path, *scopes: Scope) -> dict[Scope, dict[str, str]]:
    """A file with one token for each scope; the header of each."""
    ends = datetime.now(timezone.utc) + timedelta(hours=1)
    made = {scope: new_token([scope], ends, None) for scope in scopes}
    write_tokens(place, [record for _, record in made.values()])
    return {scope: {"Authorization": f"Bearer {token}"} for scope, (token, _) in made.items()}


@asynccontextmanager
async def guarded(
    codec: Codec, folder: Path, **options: object
) -> AsyncIterator[tuple[EdgeRig, httpx.AsyncClient]]:
    """An edge, and a client that comes through its gate."""
    async with edge_rig(codec, folder / "state", **options) as rig:
        transport = httpx.ASGITransport(guarded_app(rig.pipeline.settings, rig.pipeline))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            yield rig, client


def routes(rig: EdgeRig) -> list[tuple[str, str]]:
    """Method and a path of every route of the application."""
    found = [
        (method, route.path_format.replace("{", "").replace("}", ""))
        for route in _flat(create_app(rig.pipeline).routes)
        for method in route.methods
    ]
    assert len(found) > 15
    return found


def _flat(items: list[object]) -> list[APIRoute]:
    """The routes in a list, those of included routers too, wherever this version of FastAPI keeps them."""
    out: list[APIRoute] = []
    for item in items:
        if isinstance(item, APIRoute):
            out.append(item)
        elif (router := getattr(item, "original_router", None)) is not None:
            out.extend(_flat(router.routes))
    return out


async def test_every_route_is_in_the_table(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        lacking = [route for route in routes(rig) if scopes_of(*route) == ("admin",)]
        assert lacking == []


async def test_a_scope_opens_its_routes_and_no_others(codec: Codec, tmp_path: Path) -> None:
    headers = make_tokens(tmp_path / "t.json", *SCOPES)
    async with guarded(codec, tmp_path, token_file=tmp_path / "t.json", protect_metrics=True) as (
        rig,
        client,
    ):
        rig.pipeline.news.close()  # events would be waited for
        for method, path in routes(rig):
            needed = scopes_of(method, path)
            for scope in SCOPES:
                answer = await client.request(method, path, headers=headers[scope])
                let_in = needed is None or scope == "admin" or scope in needed
                assert (answer.status_code == 403) != let_in, (method, path, scope)
                assert answer.status_code != 401
                if not let_in:
                    assert "needs scope" in answer.json()["detail"]
            answer = await client.request(method, path)
            assert (answer.status_code == 401) == (needed is not None), (method, path)
            if needed is not None:
                assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_frame_without_a_token_is_never_looked_at(codec: Codec, tmp_path: Path) -> None:
    headers = make_tokens(tmp_path / "t.json", "frames")["frames"]
    async with guarded(codec, tmp_path, token_file=tmp_path / "t.json") as (rig, client):
        answer = await client.post("/v1/frames", content=picture(), headers=JPEG_TYPE)
        assert answer.status_code == 401
        assert rig.cloud.frames == []
        assert "splitcodec_edge_frames_total{" not in (await client.get("/metrics")).text
        answer = await client.post("/v1/frames", content=picture(), headers={**JPEG_TYPE, **headers})
        assert answer.status_code == 200
        text = (await client.get("/metrics")).text
        assert 'splitcodec_access_refused_total{reason="NotAuthenticated"} 1.0' in text


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/v1/frames", b"edge/healthz?"),
        ("/v1/frames", b"edge/healthz#"),
        ("//healthz", b"edge"),
        ("/healthz/", b"edge"),
        ("/healthz\n", b"edge"),
        ("/page/../v1/frames", b"edge"),
        ("/V1/frames", b"edge"),
    ],
)
async def test_no_spelling_of_a_request_gets_around_the_table(
    codec: Codec, tmp_path: Path, path: str, host: bytes
) -> None:
    make_tokens(tmp_path / "t.json")
    async with edge_rig(codec, tmp_path / "state", token_file=tmp_path / "t.json") as rig:
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", host)],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "server": ("edge", 80),
            "http_version": "1.1",
        }
        await guarded_app(rig.pipeline.settings, rig.pipeline)(scope, receive, send)
        assert sent[0]["status"] == 401


async def test_callers_that_ask_too_often_wait_and_others_do_not(codec: Codec, tmp_path: Path) -> None:
    headers = make_tokens(tmp_path / "t.json", "results", "prompts")
    options = {"token_file": tmp_path / "t.json", "client_requests_per_s": 0.01}
    async with guarded(codec, tmp_path, **options) as (_, client):
        for scope in ("results", "prompts"):
            assert (await client.get("/v1/prompts", headers=headers[scope])).status_code == 200
            hasty = await client.get("/v1/prompts", headers=headers[scope])
            assert hasty.status_code == 429
            assert int(hasty.headers["retry-after"]) >= 1
        assert (await client.get("/v1/prompts")).status_code == 401
        assert (await client.get("/v1/prompts")).status_code == 429  # guessing is slowed down by address
        for path in ("/healthz", "/readyz"):
            for _ in range(3):
                assert (await client.get(path)).status_code == 200


async def test_a_web_socket_is_refused(codec: Codec, tmp_path: Path) -> None:
    make_tokens(tmp_path / "t.json")
    async with edge_rig(codec, tmp_path / "state", token_file=tmp_path / "t.json") as rig:
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/", "headers": []}
        await guarded_app(rig.pipeline.settings, rig.pipeline)(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_table_has_no_scope_that_does_not_exist() -> None:
    assert {scope for _, _, scopes in ROUTES for scope in scopes or ()} <= set(SCOPES)

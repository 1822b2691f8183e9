"""Tokens, limits and TLS of the edge: every route in the table, real certificates on real sockets."""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from edge_rig import JPEG_TYPE, EdgeRig, edge_rig, picture, tiny_codec
from edge_tls import TlsFiles, listening
from fastapi.routing import APIRoute
from identities import Identity, make_identity, put

from edge.__main__ import certificates, guarded_app
from edge.access import ROUTES, scopes_of
from edge.app import create_app
from edge.codec import Codec
from edge.settings import EdgeSettings
from splitcodec.certificates import ServerTls, export_expiry
from splitcodec.errors import SettingsError
from splitcodec.tokens import SCOPES, Scope, new_token, write_tokens

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


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


class Connection:
    """One kept HTTPS connection, used from threads."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=context)

    def _get(self) -> tuple[int, bytes]:
        self._connection.request("GET", "/healthz")
        status = self._connection.getresponse()
        status.read()
        certificate = self._connection.sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        return status.status, certificate or b""

    async def get(self) -> tuple[int, bytes]:
        """The status of /healthz and the server's certificate."""
        return await asyncio.to_thread(self._get)

    def close(self) -> None:
        self._connection.close()


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.cert_pem.decode())


async def test_replaced_certificates_serve_new_connections_and_old_ones_live_on(
    codec: Codec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = make_identity("authority")
    first, second = make_identity("edge", authority), make_identity("edge", authority)
    files = TlsFiles(tmp_path)
    files.write(first, authority)
    context = files.trusting(authority)
    async with listening(codec, tmp_path, **files.options(mutual=False)) as (_, port):
        old = Connection(port, context)
        assert await old.get() == (200, der(first))
        files.write(second, authority)
        new = Connection(port, context)
        assert await new.get() == (200, der(second))
        assert await old.get() == (200, der(first))
        with caplog.at_level(logging.ERROR):
            (tmp_path / "k.pem").write_bytes(first.key_pem)  # half of a set: the key of another certificate
            for _ in range(2):
                late = Connection(port, context)
                assert await late.get() == (200, der(second))
                late.close()
        assert len([line for line in caplog.records if "certificates in use stay" in line.message]) == 1
        (tmp_path / "k.pem").write_bytes(second.key_pem)
        for connection in (old, new):
            assert (await connection.get())[0] == 200
            connection.close()


async def test_clients_of_a_withdrawn_authority_are_refused_from_then_on(
    codec: Codec, tmp_path: Path
) -> None:
    servers, old, new = (make_identity(name) for name in ("servers", "old", "new"))
    files = TlsFiles(tmp_path)
    files.write(make_identity("edge", servers), old)
    async with listening(codec, tmp_path, **files.options(mutual=True)) as (_, port):
        old_client = files.trusting(servers, make_identity("box", old))
        let_in = Connection(port, old_client)
        assert (await let_in.get())[0] == 200
        files.write(make_identity("edge", servers), new)
        for context in (old_client, files.trusting(servers)):
            refused = Connection(port, context)
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                await refused.get()
            refused.close()
        welcome = Connection(port, files.trusting(servers, make_identity("box", new)))
        assert (await welcome.get())[0] == 200
        welcome.close()
        let_in.close()


async def test_a_client_of_an_expired_certificate_is_refused(codec: Codec, tmp_path: Path) -> None:
    authority = make_identity("authority")
    files = TlsFiles(tmp_path)
    files.write(make_identity("edge", authority), authority)
    async with listening(codec, tmp_path, **files.options(mutual=True)) as (_, port):
        late = Connection(port, files.trusting(authority, make_identity("box", authority, lifetime_s=-60)))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            await late.get()
        late.close()


async def test_the_end_of_every_certificate_is_in_the_metrics(codec: Codec, tmp_path: Path) -> None:
    authority, soon = make_identity("authority"), make_identity("edge", lifetime_s=600)
    files = TlsFiles(tmp_path)
    files.write(soon, authority)
    settings = EdgeSettings(
        state_dir=tmp_path / "s", cloud_ca=tmp_path / "ca.pem", **files.options(mutual=True)
    )
    async with edge_rig(codec, tmp_path / "state") as rig:
        export_expiry(rig.pipeline.metrics.certificate_expiry, certificates(settings))

        def ends(use: str) -> float | None:
            name = "splitcodec_certificate_expiry_timestamp_seconds"
            return rig.pipeline.metrics.registry.get_sample_value(name, {"use": use})

        assert ends("server") == soon.certificate.not_valid_after_utc.timestamp()
        assert ends("client_ca") == ends("cloud_ca") == authority.certificate.not_valid_after_utc.timestamp()
        assert ends("uplink") is None
        (tmp_path / "c.pem").write_text("no certificate")
        assert ends("server") == 0


def test_unusable_tls_files_stop_the_start(tmp_path: Path) -> None:
    one, other = make_identity("one"), make_identity("other")
    cert, key = put(tmp_path / "c.pem", one.cert_pem), put(tmp_path / "k.pem", other.key_pem)
    with pytest.raises(SettingsError, match="cannot be read"):
        ServerTls(cert, key, None)
    with pytest.raises(SettingsError, match="cannot be read"):
        ServerTls(cert, tmp_path / "none.pem", None)

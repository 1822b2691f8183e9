"""The HTTP proxy of the environment: near clouds do without, others name it when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cloud_helpers import infer_request, running
from edge_rig import fake_cloud

from edge.follow import GrpcPromptSource
from edge.settings import EdgeSettings
from edge.uplink import GrpcUplink
from splitcodec.checkup import check_cloud
from splitcodec.client import AsyncCloudClient, CloudClient
from splitcodec.client.retry import Retry
from splitcodec.errors import CloudUnavailable
from splitcodec.readiness import HttpPlace, require_ready
from splitcodec.wire.options import client_options
from splitcodec.wire.proxies import EXCEPTIONS, PROXIES, is_near, place_of, proxy_of

PATIENCE_S = 20.0
FAR = "cloud.example:50051"


@dataclass
class Proxy:
    """An HTTP proxy that refuses everything, and the requests it got."""

    address: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def proxied(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy that the environment names, with a password."""
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxy.address = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        yield proxy


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("10.1.2.3:50051", True),
        ("192.168.0.9:1", True),
        ("[fd00::1]:50051", True),
        ("169.254.1.1:1", True),
        ("cloud:50051", True),
        ("cloud.local:50051", True),
        ("Cloud.Internal.:50051", True),
        ("dns:///cloud:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("8.8.8.8:50051", False),
        ("[2001:4860::1]:50051", False),
        ("cloud.example:50051", False),
        ("dns:///cloud.example:50051", False),
        ("local.example:50051", False),
    ],
)
def test_what_counts_as_near(target: str, near: bool) -> None:
    assert is_near(target) is near
    assert (("grpc.enable_http_proxy", 0) in client_options(target)) is near
    assert ("grpc.enable_http_proxy", 0) not in client_options(target, use_proxy=True)


def test_the_proxy_is_the_one_that_grpc_takes_and_its_password_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert proxy_of(FAR) is None
    assert place_of(FAR) == FAR
    monkeypatch.setenv("http_proxy", "http://user:secret@last.example:1")
    monkeypatch.setenv("https_proxy", "first.example:2")
    assert proxy_of(FAR) == "http://first.example:2 (https_proxy)"
    monkeypatch.delenv("https_proxy")
    assert place_of(FAR) == f"{FAR} through the proxy http://last.example:1 (http_proxy)"
    assert proxy_of("cloud:1") is None
    assert proxy_of("cloud:1", use_proxy=True) is not None
    monkeypatch.setenv("no_proxy", "other.example, .example,10.0.0.0/8")
    assert proxy_of(FAR) is None
    assert proxy_of("10.1.1.1:1", use_proxy=True) is None
    assert proxy_of("11.1.1.1:1") is not None


async def test_an_edge_reaches_a_near_cloud_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxied(monkeypatch) as proxy, fake_cloud() as cloud:
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream():
            pass
        await uplink.close()
    assert proxy.asked == []


async def test_spans_reach_a_near_collector_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = pytest.importorskip("splitcodec.spans", reason="pip install '.[tracing]'")
    async with proxied(monkeypatch) as proxy:
        provider = spans.exporting_provider("test", "http://127.0.0.1:9")
        provider.get_tracer("test").start_span("one").end()
        await asyncio.to_thread(provider.force_flush, 2000)
        await asyncio.to_thread(provider.shutdown)
    assert proxy.asked == []


@pytest.mark.parametrize(
    "options",
    [{"cloud_target": FAR}, {"cloud_target": "127.0.0.1:9", "use_proxy": True}],
    ids=["far", "asked"],
)
async def test_an_error_of_an_edge_behind_a_proxy_names_it(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    async with proxied(monkeypatch) as proxy:
        uplink = GrpcUplink(EdgeSettings(**options, insecure=True, deadline_s=PATIENCE_S))
        with pytest.raises(CloudUnavailable) as caught:
            async with uplink.stream():
                pass
        with pytest.raises(CloudUnavailable) as fetching:
            await GrpcPromptSource(uplink.link).fetch(bytes(8), Path("/dev/null"), 1)
        await uplink.close()
    for error in (caught, fetching):
        assert f"{options['cloud_target']} through the proxy {proxy.address} (http_proxy)" in str(error.value)
        assert "secret" not in str(error.value)
    assert proxy.asked[0].startswith(f"CONNECT {options['cloud_target']}")


async def test_clients_reach_a_near_cloud_directly_and_name_the_proxy_where_they_take_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = Retry(attempts=1)
    async with proxied(monkeypatch) as proxy, running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        async with AsyncCloudClient(target) as client:
            assert (await client.get("box", "door", 1)).seq == 1
        assert (await asyncio.to_thread(_get, target, use_proxy=False)) == 1
        assert not proxy.asked
        async with AsyncCloudClient(target, use_proxy=True, retry=once) as client:
            with pytest.raises(CloudUnavailable, match=f"through the proxy {proxy.address}"):
                await client.get("box", "door", 1)
        with pytest.raises(CloudUnavailable, match=f"through the proxy {proxy.address}"):
            await asyncio.to_thread(_get, target, use_proxy=True)
    assert proxy.asked


def _get(target: str, *, use_proxy: bool) -> int:
    with CloudClient(target, use_proxy=use_proxy, retry=Retry(attempts=1)) as client:
        return client.get("box", "door", 1).seq


async def test_the_checks_of_a_service_ask_it_directly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with proxied(monkeypatch) as proxy, running(tmp_path) as cloud:
        place = HttpPlace("127.0.0.1", cloud.server.metrics_port)
        await asyncio.to_thread(require_ready, place)
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        assert not await asyncio.to_thread(lambda: list(check_cloud(target, None, None, None)))
        assert not proxy.asked
        (trouble,) = await asyncio.to_thread(
            lambda: list(check_cloud(target, None, None, None, use_proxy=True))
        )
    assert f"through the proxy {proxy.address} (http_proxy) takes no calls" in trouble.what
    assert "no_proxy" in trouble.remedy

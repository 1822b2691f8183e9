"""Health checks of both services, plain and over TLS, whoever signed what clients must show."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cloud_helpers import PlainRunner
from edge_rig import tiny_codec
from edge_tls import TlsFiles, listening
from identities import Identity, make_identity, put
from prometheus_client import CollectorRegistry

from cloud.health import ready_place as cloud_place
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.codec import Codec
from edge.health import ready_place as edge_place
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge
from splitcodec.errors import RuntimeUnavailable, SettingsError
from splitcodec.readiness import require_ready

Options = dict[str, Any]
SERVICES = ("edge", "cloud")
KINDS = ("plain", "tls", "mutual, one authority", "mutual, two authorities")


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


def tls_options(folder: Path, kind: str) -> Options:
    """Settings of a service whose clients need nothing, or a certificate of its authority or of another."""
    if kind == "plain":
        return {}
    servers = make_identity("servers")
    clients = make_identity("clients") if kind == "mutual, two authorities" else servers
    files = TlsFiles(folder)
    files.write(make_identity("service", servers), clients)
    return files.options(mutual=kind != "tls") | health_files(folder, kind, clients)


def health_files(folder: Path, kind: str, clients: Identity) -> Options:
    if kind != "mutual, two authorities":
        return {}
    probe = make_identity("probe", clients)
    return {
        "health_cert": put(folder / "health.pem", probe.cert_pem),
        "health_key": put(folder / "health.key", probe.key_pem),
    }


def edge_settings(folder: Path, port: int, options: Options) -> EdgeSettings:
    return EdgeSettings(port=port, state_dir=folder / "unused", **options)


async def check(service: str, codec: Codec, folder: Path, served: Options, asked: Options) -> None:
    """Serve by one set of options and ask whether it is ready by another."""
    if service == "edge":
        await check_edge(codec, folder, served, asked)
    else:
        await check_cloud(folder, served, asked)


async def check_edge(codec: Codec, folder: Path, served: Options, asked: Options) -> None:
    """An edge, asked on its own port."""
    async with listening(codec, folder, **served) as (_, port):
        await asyncio.to_thread(require_ready, edge_place(edge_settings(folder, port, asked)))


async def check_cloud(folder: Path, served: Options, asked: Options) -> None:
    """A cloud whose metrics server takes connections from anywhere, and so over TLS."""
    common: Options = {"port": 0, "data_dir": folder / "data", "metrics_host": "0.0.0.0", "insecure": True}
    settings = CloudSettings(metrics_port=0, **common, **served)
    async with CloudServer(settings, PlainRunner(), CollectorRegistry()) as server:
        asking = CloudSettings(metrics_port=server.metrics_port, **common, **asked)
        await asyncio.to_thread(require_ready, cloud_place(asking))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_is_healthy_however_it_is_secured(
    codec: Codec, tmp_path: Path, service: str, kind: str
) -> None:
    options = tls_options(tmp_path, kind)
    await check(service, codec, tmp_path, options, options)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_check_that_is_not_let_in_names_the_setting(
    codec: Codec, tmp_path: Path, service: str
) -> None:
    options = tls_options(tmp_path, "mutual, two authorities")
    own = {name: value for name, value in options.items() if not name.startswith("health_")}
    with pytest.raises(RuntimeUnavailable, match=r"does not answer \(.+\); .*set health_cert"):
        await check(service, codec, tmp_path, options, own)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_plain_check_of_a_service_with_tls_is_a_typed_error(
    codec: Codec, tmp_path: Path, service: str
) -> None:
    options = tls_options(tmp_path, "tls")
    with pytest.raises(RuntimeUnavailable, match="does not answer"):
        await check(service, codec, tmp_path, options, {})


async def test_files_that_cannot_be_shown_are_named(codec: Codec, tmp_path: Path) -> None:
    options = tls_options(tmp_path, "mutual, two authorities")
    stranger = put(tmp_path / "stranger.key", make_identity("stranger").key_pem)
    for key in (tmp_path / "absent.key", stranger):
        with pytest.raises(SettingsError, match=rf"health\.pem with the key .*{key.name} cannot be shown"):
            await check_edge(codec, tmp_path / key.stem, options, {**options, "health_key": key})


@pytest.mark.parametrize("load", [load_edge, load_cloud])
def test_a_health_certificate_goes_with_its_key_and_mutual_tls(load: Any) -> None:
    with pytest.raises(SettingsError, match="health_cert and health_key go together"):
        load(["--health-cert=h.pem"])
    with pytest.raises(SettingsError, match="health_cert needs tls_client_ca"):
        load(["--health-cert=h.pem", "--health-key=h.key", "--tls-cert=c.pem", "--tls-key=c.key"])

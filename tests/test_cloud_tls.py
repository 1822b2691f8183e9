"""TLS of the cloud service: who is let in, and certificates replaced while it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, PlainRunner
from identities import Identity, make_identity
from prometheus_client import CollectorRegistry

from cloud.server import CloudServer
from cloud.settings import CloudSettings
from splitcodec.errors import SettingsError
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub


@dataclass(frozen=True)
class Files:
    """The PEM files of a server."""

    folder: Path

    def write(self, server: Identity, authority: Identity) -> None:
        for name, data in (
            ("c.pem", server.cert_pem),
            ("k.pem", server.key_pem),
            ("ca.pem", authority.cert_pem),
        ):
            fresh = self.folder / f"{name}.new"
            fresh.write_bytes(data)
            os.replace(fresh, self.folder / name)

    def settings(self, data_dir: Path, mutual: bool = True) -> CloudSettings:
        return CloudSettings(
            port=0,
            metrics_port=0,
            data_dir=data_dir,
            tls_cert=self.folder / "c.pem",
            tls_key=self.folder / "k.pem",
            tls_client_ca=self.folder / "ca.pem" if mutual else None,
        )


async def list_prompts(port: int, trust: Identity, client: Identity | None = None) -> int:
    """How many prompts a call over a new TLS connection returns."""
    credentials = grpc.ssl_channel_credentials(
        trust.cert_pem, client.key_pem if client else None, client.cert_pem if client else None
    )
    # A pool of its own, so that every call makes a new connection.
    options = (*client_options(), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        answer = await PromptsStub(channel).List(ListPromptsRequest(), timeout=PATIENCE_S)
    return len(answer.prompts)


async def test_only_clients_of_the_authority_are_let_in(tmp_path: Path) -> None:
    authority, stranger = make_identity("authority"), make_identity("stranger")
    files = Files(tmp_path)
    files.write(make_identity("cloud", authority), authority)
    async with CloudServer(files.settings(tmp_path / "data"), PlainRunner(), CollectorRegistry()) as server:
        assert await list_prompts(server.grpc_port, authority, make_identity("box", authority)) == 1
        for client in (None, make_identity("box", stranger)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await list_prompts(server.grpc_port, authority, client)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError):
            await list_prompts(server.grpc_port, stranger, make_identity("box", authority))


async def test_replaced_certificates_serve_the_next_connection_and_broken_ones_do_not(tmp_path: Path) -> None:
    old, new = make_identity("old"), make_identity("new")
    files = Files(tmp_path)
    files.write(make_identity("cloud", old), old)
    settings = files.settings(tmp_path / "data", mutual=False)
    async with CloudServer(settings, PlainRunner(), CollectorRegistry()) as server:
        assert await list_prompts(server.grpc_port, old) == 1
        files.write(make_identity("cloud", new), new)
        assert await list_prompts(server.grpc_port, new) == 1
        (tmp_path / "k.pem").unlink()
        assert await list_prompts(server.grpc_port, new) == 1
        (tmp_path / "k.pem").write_bytes(old.key_pem)  # the key of another certificate
        assert await list_prompts(server.grpc_port, new) == 1


async def test_missing_certificate_files_stop_the_start(tmp_path: Path) -> None:
    settings = Files(tmp_path).settings(tmp_path / "data")
    with pytest.raises(SettingsError, match=r"c\.pem"):
        await CloudServer(settings, PlainRunner(), CollectorRegistry()).start()

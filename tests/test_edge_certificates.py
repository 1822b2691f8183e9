"""TLS of the edge: certificates that are replaced, withdrawn, expired or unusable, on real sockets."""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
from pathlib import Path

import pytest
from edge_rig import edge_rig
from edge_tls import TlsFiles, listening
from identities import Identity, make_identity, put

from edge.__main__ import certificates
from edge.codec import Codec
from edge.settings import EdgeSettings
from splitcodec.certificates import ServerTls, export_expiry
from splitcodec.errors import SettingsError

PATIENCE_S = 20.0


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

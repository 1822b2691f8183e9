"""TLS from PEM files that may be replaced while a service runs: contexts, and when certificates end."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from splitcodec.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client import Gauge

log = logging.getLogger(__name__)
Stamp = tuple[tuple[int, int, int], ...]


def stamp_of(*paths: Path | None) -> Stamp:
    """Differs after a change of any of the files. OSError if one is missing."""
    found = (path.stat() for path in paths if path is not None)
    return tuple((status.st_mtime_ns, status.st_ctime_ns, status.st_ino) for status in found)


def stamp_or_none(*paths: Path | None) -> Stamp | None:
    """`stamp_of`, None while a file is missing: a state like any other, so it is met, and logged, once."""
    try:
        return stamp_of(*paths)
    except OSError:
        return None


def expiry_of(path: Path) -> float:
    """Unix time in seconds at which the first of the PEM certificates in a file ends. SettingsError."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"certificate {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} holds no certificate in PEM; check the file") from error
    return min(certificate.not_valid_after_utc.timestamp() for certificate in found)


def export_expiry(gauge: Gauge, files: Mapping[str, Path | None], pack_ends: datetime | None = None) -> None:
    """Let a gauge with label `use` tell when each certificate file ends, read at every scrape.

    files: by use. A file that cannot be read counts as one that ended at 0, so that an alert fires.
    pack_ends: the end of the pack's signature, under use `pack`.
    """
    if pack_ends is not None:
        gauge.labels("pack").set(pack_ends.timestamp())
    for use, path in files.items():
        if path is not None:
            gauge.labels(use).set_function(lambda path=path: _expiry_or_zero(path))  # type: ignore[misc]


class ServerTls:
    """The TLS side of a server; replaced files serve the next connection, running ones go on.

    A half-written or broken set is logged once and the one in use stays. Sessions are never resumed, so
    a client authority that was taken away counts at the next connection.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        """client_ca: only clients with its certificates are let in. SettingsError: the files are unusable."""
        self._files = (cert, key, client_ca)
        try:
            self._stamp: Stamp | None = stamp_of(*self._files)
            self.context = self._current = self._load()
        except OSError as error:  # ssl.SSLError is one too
            raise SettingsError(
                f"the TLS files cannot be read ({error}); check tls_cert, tls_key and tls_client_ca"
            ) from error
        self.context.sni_callback = self._on_hello  # called for every ClientHello, also one without a name

    def _load(self) -> ssl.SSLContext:
        cert, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.load_cert_chain(cert, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _on_hello(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self._refresh()
        connection.context = self._current

    def _refresh(self) -> None:
        stamp = stamp_or_none(*self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = self._load()
        except OSError as error:
            log.error("the TLS files cannot be used (%s); the certificates in use stay", error)
            return
        log.info("certificates were replaced")


def _expiry_or_zero(path: Path) -> float:
    try:
        return expiry_of(path)
    except SettingsError:
        return 0.0

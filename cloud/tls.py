"""Server credentials from PEM files; the files are looked at again for every new connection."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from cloud.settings import CloudSettings
from splitcodec.errors import SettingsError

log = logging.getLogger(__name__)


class CertificateFiles:
    """Certificate chain, key and optional client authorities; `changed` notices replaced files."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._stamp = self._look()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold now. OSError if one cannot be read."""
        return grpc.ssl_server_certificate_configuration(
            [(self._key.read_bytes(), self._cert.read_bytes())],
            self._client_ca.read_bytes() if self._client_ca else None,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, or None to keep the ones in use; a half-written set keeps them too."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            fresh = self.read()
        except OSError:
            log.exception("certificates cannot be read again; the ones in use stay")
            return None
        self._stamp = stamp
        log.info("certificates were replaced")
        return fresh

    def _look(self) -> tuple[tuple[int, int], ...]:
        paths = [path for path in (self._cert, self._key, self._client_ca) if path is not None]
        return tuple((status.st_mtime_ns, status.st_ino) for status in (path.stat() for path in paths))


def server_credentials(settings: CloudSettings) -> grpc.ServerCredentials | None:
    """Credentials of the settings' TLS files, None without any. SettingsError if a file cannot be read."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        files = CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        initial = files.read()
    except OSError as error:
        raise SettingsError(
            f"TLS file {error.filename}: {error.strerror}; check tls_cert, tls_key, tls_client_ca"
        ) from error
    return grpc.dynamic_ssl_server_credentials(
        initial,
        files.changed,  # type: ignore[arg-type]  # the stub forgets None, which keeps the certificates in use
        require_client_authentication=settings.tls_client_ca is not None,
    )

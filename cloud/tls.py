"""Server credentials from PEM files; the files are looked at again for every new connection."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from cloud.settings import CloudSettings
from splitcodec.certificates import ServerTls, stamp_or_none
from splitcodec.errors import SettingsError

log = logging.getLogger(__name__)


class CertificateFiles:
    """Certificate chain, key and optional client authorities; `changed` notices replaced files."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (cert, key, client_ca)
        self._stamp = stamp_or_none(*self._files)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold now. SettingsError: one is unreadable, or the key another's."""
        ServerTls(*self._files)  # gRPC would say nothing of a pair that does not belong together
        cert, key, client_ca = self._files
        try:
            return grpc.ssl_server_certificate_configuration(
                [(key.read_bytes(), cert.read_bytes())], client_ca.read_bytes() if client_ca else None
            )
        except OSError as error:
            raise SettingsError(
                f"TLS file {error.filename}: {error.strerror}; check tls_cert, tls_key, tls_client_ca"
            ) from error

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, or None to keep the ones in use; a half-written set keeps them too."""
        stamp = stamp_or_none(*self._files)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            fresh = self.read()
        except SettingsError as error:
            log.error("%s; the certificates in use stay", error)
            return None
        log.info("certificates were replaced")
        return fresh


def server_credentials(settings: CloudSettings) -> grpc.ServerCredentials | None:
    """Credentials of the settings' TLS files, None without any. SettingsError if a file cannot be read."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    initial = files.read()
    return grpc.dynamic_ssl_server_credentials(
        initial,
        files.changed,  # type: ignore[arg-type]  # the stub forgets None, which keeps the certificates in use
        require_client_authentication=settings.tls_client_ca is not None,
    )

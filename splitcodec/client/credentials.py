"""How a client shows who it is, and how it knows whom it talks to: a bearer token and TLS files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from splitcodec.errors import SettingsError
from splitcodec.service import is_loopback

TOKEN_CHARACTERS = range(0x21, 0x7F)  # what may stand in an Authorization header after `Bearer `


@dataclass(frozen=True)
class Credentials:
    """Optional parts of a connection; PEM files are read once, when the client is made.

    token: bearer token; ca: authorities the service's certificate must come from (implies TLS for gRPC);
    cert and key: what this client shows (mutual TLS); tls: TLS for gRPC with the system's authorities.
    """

    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tls: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise SettingsError("cert and key go together; give both or neither")
        if self.token is not None and not (
            self.token and all(ord(character) in TOKEN_CHARACTERS for character in self.token)
        ):
            raise SettingsError("the token is empty or holds blanks or control characters; pass it as issued")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The gRPC metadata (and HTTP headers) that carry the token."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def check_address(self, host: str, *, encrypted: bool) -> None:
        """SettingsError: the token would cross a network in the clear."""
        if self.token is not None and not encrypted and not is_loopback(host):
            raise SettingsError(
                f"the token would travel to {host} unencrypted; use TLS (https:// for an edge, `ca` or `tls` "
                "for a cloud)"
            )

    def ssl_context(self) -> ssl.SSLContext:
        """For HTTPS. SettingsError: a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:  # ssl.SSLError is one too
            raise SettingsError(f"the TLS files cannot be used ({error}); check ca, cert and key") from error
        return context

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """For gRPC; None without TLS. SettingsError: a file cannot be read."""
        if not self.tls and self.ca is None and self.cert is None:
            return None
        try:
            return grpc.ssl_channel_credentials(
                root_certificates=self.ca.read_bytes() if self.ca else None,
                private_key=self.key.read_bytes() if self.key else None,
                certificate_chain=self.cert.read_bytes() if self.cert else None,
            )
        except OSError as error:
            raise SettingsError(
                f"{error.filename} cannot be read ({error.strerror}); check ca, cert and key"
            ) from error

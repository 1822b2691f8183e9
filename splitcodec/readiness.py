"""Asks a service on this machine whether it is ready: for container health checks and systemd."""

from __future__ import annotations

import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from splitcodec.errors import RuntimeUnavailable, SettingsError

READY_PATH: Final = "/readyz"
TIMEOUT_S: Final = 3.0
PAUSE_S: Final = 0.2
WAIT_FLAG: Final = "--wait-s="


@dataclass(frozen=True)
class HttpPlace:
    """Where a service answers HTTP here; cert, key: PEM files to show it where it does so over TLS."""

    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        """Of its readiness; an address that means `any` is asked on the loopback one."""
        host = self.host.strip("[]")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            if address.is_unspecified:
                host = "127.0.0.1" if address.version == 4 else "::1"
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.cert else 'http'}://{shown}:{self.port}{READY_PATH}"


def split_wait(arguments: list[str]) -> tuple[float, list[str]]:
    """The value of `--wait-s=SECONDS`, 0 without it, and the other arguments. SettingsError: not a number."""
    given = [word for word in arguments if word.startswith(WAIT_FLAG)]
    others = [word for word in arguments if word not in given]
    try:
        return max([float(word.removeprefix(WAIT_FLAG)) for word in given], default=0.0), others
    except ValueError:
        raise SettingsError(f"{given} is not {WAIT_FLAG}SECONDS, a number") from None


def wait_until_ready(place: HttpPlace, patience_s: float) -> None:
    """`require_ready` until it succeeds, for so many seconds at most; its last error then."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return require_ready(place)
        except RuntimeUnavailable:
            if time.monotonic() >= deadline:
                raise
        time.sleep(PAUSE_S)


def require_ready(place: HttpPlace) -> None:
    """Returns if the service says that it is ready. RuntimeUnavailable if not, SettingsError for port 0.

    Over TLS the certificate is not checked: nothing secret is said and the peer is this machine. Where the
    service asks for client certificates it is shown the place's. SettingsError: those files cannot be used.
    """
    if place.port == 0:
        raise SettingsError(
            "port 0 takes a free port, which cannot be known here; set the port of the service"
        )
    try:
        with _opener(place).open(place.url, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise RuntimeUnavailable(f"{place.url} says {error.code}; see the log of the service") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error) or type(error).__name__
        remedy = "see the log of the service, or start it"
        if place.cert is not None:
            remedy += "; where it lets in clients of another authority than its own, set health_cert"
        raise RuntimeUnavailable(f"{place.url} does not answer ({reason}); {remedy}") from None


def _opener(place: HttpPlace) -> urllib.request.OpenerDirector:
    """It takes no proxy of the environment: the service is on this machine."""
    direct = urllib.request.ProxyHandler({})
    if place.cert is None:
        return urllib.request.build_opener(direct)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.load_cert_chain(place.cert, place.key)
    except OSError as error:
        raise SettingsError(
            f"the certificate {place.cert} with the key {place.key} cannot be shown ({error}); give files "
            "that this user can read and that belong together"
        ) from None
    return urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))

"""What can be wrong around a service here: folder, disk, clock, port, certificates, database, cloud.

Each check looks, and changes nothing but for one file that it makes and removes. It gives Troubles: each says
what is wrong and what to do; none means that all is well.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import grpc

from splitcodec.certificates import expiry_of
from splitcodec.errors import RuntimeUnavailable, SettingsError
from splitcodec.readiness import HttpPlace, require_ready
from splitcodec.wire.options import client_options
from splitcodec.wire.proxies import place_of

FREE_SHARE: Final = 0.05
FREE_BYTES: Final = 256 * 2**20
EXPIRY_WARNING_S: Final = 14 * 86_400.0
CLOCK_SLACK_S: Final = 300.0
CLOUD_TIMEOUT_S: Final = 5.0
HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
SERVING: Final = b"\x08\x01"  # HealthCheckResponse{status: SERVING}; its package is not installed on edges


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong, and what to do about it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def check_folder(folder: Path, setting: str) -> Iterator[Trouble]:
    """That files can be made in a folder, or the folder itself."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    remedy = f"chown it to the user of the service, or set {setting} to a folder of its own"
    if not place.is_dir():
        yield Trouble(f"{setting} {folder}: {place} is not a folder", remedy)
        return
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Trouble(
            f"{setting} {folder} cannot be written ({error.strerror}, as user {os.getuid()})", remedy
        )


def check_disk(folder: Path, needed: int, setting: str) -> Iterator[Trouble]:
    """That a folder's disk is not nearly full, and holds `needed` more bytes, which `setting` promises."""
    place = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    disk = shutil.disk_usage(place)
    least = min(FREE_BYTES, int(disk.total * FREE_SHARE))
    if disk.free < least:
        yield Trouble(
            f"the disk of {folder} is nearly full: {_mb(disk.free)} of {_mb(disk.total)} are free, "
            f"{_mb(least)} is the least",
            "delete what is not needed there, or move the folder to a larger disk",
        )
    elif disk.free < needed:
        yield Trouble(
            f"the disk of {folder} has {_mb(disk.free)} free, {setting} may need {_mb(needed)} more",
            f"lower {setting}, or make room",
        )


def check_clock(made: str, folder: Path, now: float | None = None) -> Iterator[Trouble]:
    """That the clock is past `made`, the date of a pack, and past the files in `folder`."""
    seconds = time.time() if now is None else now
    remedy = "set the clock, and let systemd-timesyncd or chrony keep it"
    if seconds < datetime.fromisoformat(made).replace(tzinfo=timezone.utc).timestamp():
        yield Trouble(f"the clock says {_date(seconds)}, before the pack was made on {made}", remedy)
        return
    files = folder.iterdir() if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else []
    newest = max((one.lstat().st_mtime for one in files), default=0.0)
    if newest > seconds + CLOCK_SLACK_S:
        yield Trouble(
            f"the clock says {_date(seconds)}, but {folder} was written to at {_date(newest)}", remedy
        )


def check_port(host: str, port: int, setting: str, running: HttpPlace) -> Iterator[Trouble]:
    """That an address can be bound, or is in use by the service itself, which then answers at `running`."""
    if port == 0:
        return
    try:
        family = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        try:
            require_ready(running)
        except (RuntimeUnavailable, SettingsError):
            yield Trouble(
                f"{setting} {host}:{port} cannot be bound ({error.strerror or error})",
                f"stop what listens there (`ss -ltnp sport = :{port}`), or choose another {setting}",
            )


def check_certificate(
    cert: Path, key: Path | None, setting: str, now: float | None = None
) -> Iterator[Trouble]:
    """That PEM certificates can be read, are in their time for two weeks more, and fit their key."""
    seconds = time.time() if now is None else now
    try:
        end = expiry_of(cert)
    except SettingsError as error:
        yield Trouble(str(error), f"put the right file at {setting}")
        return
    if end <= seconds:
        yield Trouble(
            f"{setting} {cert} expired on {_date(end)}", "renew it; a running service reads it again"
        )
    elif end < seconds + EXPIRY_WARNING_S:
        yield Trouble(
            f"{setting} {cert} expires on {_date(end)}", "renew it; a running service reads it again"
        )
    if key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        except OSError as error:  # ssl.SSLError is one too
            yield Trouble(
                f"{key} does not open {cert} ({error})", "put the key that belongs to the certificate"
            )


def check_database(path: Path, setting: str) -> Iterator[Trouble]:
    """That an SQLite file is whole, and that no damaged one had to be moved aside beside it."""
    aside = sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}")) if path.parent.is_dir() else []
    if aside:
        yield Trouble(
            f"{len(aside)} damaged file(s) were moved aside in {setting}, the last is {aside[-1].name}",
            "look at the disk (`smartctl -a`, `dmesg`), then delete them",
        )
    if not path.exists():
        return
    try:
        place = f"file:{urllib.parse.quote(str(path))}?mode=ro"
        connection = sqlite3.connect(place, uri=True, timeout=5.0)
        try:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        answer = str(error)
    if answer != "ok":
        yield Trouble(
            f"{path} is damaged ({answer.splitlines()[0]})",
            "look at the disk; the service moves the file aside and saves what can be read when it starts",
        )


def check_cloud(
    target: str, ca: Path | None, cert: Path | None, key: Path | None, *, use_proxy: bool = False
) -> Iterator[Trouble]:
    """That the cloud at host:port answers and serves, over TLS where `ca` is set.

    use_proxy: see `splitcodec.wire.proxies`; where a proxy is on the way, only that way is tried.
    """
    place = place_of(target, use_proxy=use_proxy)
    proxied = place != target
    if not proxied and (why := _unreachable(target)):
        yield Trouble(
            f"the cloud {target} cannot be reached ({why})",
            "check cloud_target, the network and the firewall; frames wait in the spool meanwhile",
        )
        return
    try:
        with _channel(target, ca, cert, key, use_proxy) as channel:
            check = channel.unary_unary(
                HEALTH_METHOD, lambda request: bytes(request), lambda answer: bytes(answer)
            )
            status = check(b"", timeout=CLOUD_TIMEOUT_S)
    except OSError as error:
        yield Trouble(f"{error.filename}: {error.strerror}", "check cloud_ca, cloud_cert and cloud_key")
    except grpc.RpcError as error:
        what = f"the cloud {place} takes connections but not calls ({_details(error)})"
        remedy = (
            "check that both sides use TLS or neither, cloud_ca, and that its certificate names that host"
        )
        if proxied:
            what = f"the cloud {place} takes no calls ({_details(error)})"
            remedy = "let the proxy CONNECT to it, or name the cloud in no_proxy"
        yield Trouble(what, remedy)
    else:
        if status != SERVING:
            yield Trouble(
                f"the cloud {target} says that it does not serve", "look at its log; it may be stopping"
            )


def _details(error: object) -> str:
    """One line of what gRPC says about a failed call."""
    said = error.details() if isinstance(error, grpc.Call) else None
    return (said or type(error).__name__).splitlines()[0]


def _unreachable(target: str) -> str:
    """Why host:port takes no connection; empty if it does."""
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CLOUD_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _channel(
    target: str, ca: Path | None, cert: Path | None, key: Path | None, use_proxy: bool
) -> grpc.Channel:
    options = client_options(target, use_proxy=use_proxy)
    if ca is None:
        return grpc.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, cert.read_bytes() if cert else None
    )
    return grpc.secure_channel(target, credentials, options=options)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"

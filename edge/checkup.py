"""`python -m edge.checkup`: what is wrong around an edge with these settings, for `splitcodec doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from edge.health import ready_place
from edge.settings import EdgeSettings, load_settings
from edge.spool_file import SPOOL_FILE
from splitcodec.checkup import (
    Trouble,
    check_certificate,
    check_clock,
    check_cloud,
    check_database,
    check_disk,
    check_folder,
    check_port,
)
from splitcodec.doctor import examine, tell
from splitcodec.errors import SplitcodecError
from splitcodec.packs import load_pack


def troubles(settings: EdgeSettings) -> Iterator[Trouble]:
    """All but the engines, which splitcodec.doctor.examine looks at."""
    spool = settings.state_dir / SPOOL_FILE
    used = spool.stat().st_size if spool.is_file() else 0
    yield from check_folder(settings.state_dir, "state_dir")
    yield from check_disk(settings.state_dir, max(0, settings.spool_bytes - used), "spool_bytes")
    yield from check_clock(load_pack(settings.pack).manifest.provenance.created, settings.state_dir)
    yield from check_database(spool, "state_dir")
    yield from check_port(settings.host, settings.port, "port", ready_place(settings))
    if settings.tls_cert is not None:
        yield from check_certificate(settings.tls_cert, settings.tls_key, "tls_cert")
    if settings.health_cert is not None:
        yield from check_certificate(settings.health_cert, settings.health_key, "health_cert")
    for name in ("tls_client_ca", "cloud_ca"):
        if (authority := getattr(settings, name)) is not None:
            yield from check_certificate(authority, None, name)
    if settings.cloud_cert is not None:
        yield from check_certificate(settings.cloud_cert, settings.cloud_key, "cloud_cert")
    files = (settings.cloud_ca, settings.cloud_cert, settings.cloud_key)
    yield from check_cloud(settings.cloud_target, *files, use_proxy=settings.use_proxy)


def main() -> None:
    """Takes the flags and variables of splitcodec-edge; exits 1 if something is wrong."""
    try:
        settings = load_settings(sys.argv[1:])
        report = examine(settings.pack, settings.engine, settings.threads, troubles=troubles(settings))
    except SplitcodecError as error:
        sys.exit(tell(error))
    print("\n".join(report.lines()))
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()

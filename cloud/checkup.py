"""`python -m cloud.checkup`: what is wrong around a cloud with these settings, for `splitcodec doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from cloud.health import ready_place
from cloud.settings import CloudSettings, load_settings
from cloud.store import DATABASE_FILE
from splitcodec.checkup import (
    Trouble,
    check_certificate,
    check_clock,
    check_database,
    check_disk,
    check_folder,
    check_port,
)
from splitcodec.doctor import examine, tell
from splitcodec.errors import SplitcodecError
from splitcodec.packs import load_pack


def troubles(settings: CloudSettings) -> Iterator[Trouble]:
    """All but the engines, which splitcodec.doctor.examine looks at."""
    database = settings.data_dir / DATABASE_FILE
    used = database.stat().st_size if database.is_file() else 0
    running = ready_place(settings)
    yield from check_folder(settings.data_dir, "data_dir")
    yield from check_disk(settings.data_dir, max(0, settings.retention_bytes - used), "retention_bytes")
    for place in settings.packs:
        yield from check_clock(load_pack(place).manifest.provenance.created, settings.data_dir)
    yield from check_database(database, "data_dir")
    yield from check_port(settings.host, settings.port, "port", running)
    yield from check_port(settings.metrics_host, settings.metrics_port, "metrics_port", running)
    if settings.tls_cert is not None:
        yield from check_certificate(settings.tls_cert, settings.tls_key, "tls_cert")
    if settings.health_cert is not None:
        yield from check_certificate(settings.health_cert, settings.health_key, "health_cert")
    if settings.tls_client_ca is not None:
        yield from check_certificate(settings.tls_client_ca, None, "tls_client_ca")


def main() -> None:
    """Takes the flags and variables of splitcodec-cloud; exits 1 if something is wrong."""
    try:
        settings = load_settings(sys.argv[1:])
        reports = [examine(place, settings.engine, max(1, settings.threads)) for place in settings.packs[1:]]
        reports.append(
            examine(settings.packs[0], settings.engine, max(1, settings.threads), troubles=troubles(settings))
        )
    except SplitcodecError as error:
        sys.exit(tell(error))
    print("\n".join(line for report in reports for line in report.lines()))
    sys.exit(0 if all(report.ok for report in reports) else 1)


if __name__ == "__main__":
    main()

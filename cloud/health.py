"""`python -m cloud.health`: exit 0 if the service of these settings on this machine is ready, 1 if not."""

from __future__ import annotations

import sys

from cloud.settings import CloudSettings, load_settings
from splitcodec.errors import SplitcodecError
from splitcodec.readiness import HttpPlace, split_wait, wait_until_ready
from splitcodec.service import is_loopback


def ready_place(settings: CloudSettings) -> HttpPlace:
    """Where the service answers about its readiness."""
    host, port = settings.metrics_host, settings.metrics_port
    if is_loopback(host):
        return HttpPlace(host, port)
    cert, key = settings.health_cert or settings.tls_cert, settings.health_key or settings.tls_key
    return HttpPlace(host, port, cert, key)


def main() -> None:
    """Takes the flags and variables of splitcodec-cloud, and --wait-s=SECONDS to wait until it is ready."""
    try:
        patience_s, flags = split_wait(sys.argv[1:])
        wait_until_ready(ready_place(load_settings(flags)), patience_s)
    except SplitcodecError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

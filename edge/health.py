"""`python -m edge.health`: exit 0 if the service of these settings on this machine is ready, 1 if not."""

from __future__ import annotations

import sys

from edge.settings import EdgeSettings, load_settings
from splitcodec.errors import SplitcodecError
from splitcodec.readiness import HttpPlace, split_wait, wait_until_ready


def ready_place(settings: EdgeSettings) -> HttpPlace:
    """Where the service answers about its readiness."""
    cert, key = settings.health_cert or settings.tls_cert, settings.health_key or settings.tls_key
    return HttpPlace(settings.host, settings.port, cert, key)


def main() -> None:
    """Takes the flags and variables of splitcodec-edge, and --wait-s=SECONDS to wait until it is ready."""
    try:
        patience_s, flags = split_wait(sys.argv[1:])
        wait_until_ready(ready_place(load_settings(flags)), patience_s)
    except SplitcodecError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

"""What to say when a command needs a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from splitcodec.errors import RuntimeUnavailable


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turns a missing third-party package into RuntimeUnavailable that names the extra which brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "splitcodec", "edge", "cloud"):
            raise
        raise RuntimeUnavailable(
            f"{missing} is not installed; in the source folder run: pip install '.[{extra}]'"
        ) from error

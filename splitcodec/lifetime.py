"""How long something is valid, as people write it: 12h, 90d, 2y, never."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final

from splitcodec.errors import SettingsError

_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "y": timedelta(days=365)}
MAX_COUNT: Final = 100_000


def end_of(lifetime: str) -> datetime | None:
    """When something made now ends, in UTC to the second; None for `never`. Raises SettingsError."""
    if lifetime == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([hdy])", lifetime)
    if found is None or int(found[1]) > MAX_COUNT:
        raise SettingsError(
            f"{lifetime!r} is no lifetime; write hours, days or years: 12h, 90d, 2y, or never"
        )
    now = datetime.now(timezone.utc).replace(microsecond=0)
    try:
        return now + int(found[1]) * _UNITS[found[2]]
    except OverflowError:
        raise SettingsError(f"{lifetime} ends after the calendar; write `never` if you mean it") from None

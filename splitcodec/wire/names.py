"""Names and numbers that edge, cloud and clients agree on beside the messages themselves."""

from __future__ import annotations

from typing import Final

ERROR_KEY: Final = "splitcodec-error"
"""Trailing metadata key under which the cloud names the class of its error."""
SETTLED_KEY: Final = "splitcodec-settled"
"""Trailing metadata key beside it, SETTLED where the same request would be refused for ever."""
SETTLED: Final = "true"
TIME_KEY: Final = "splitcodec-time"
"""Initial metadata of FeatureIngest.Stream: unix nanoseconds on the cloud's clock."""
CURSOR_KEY: Final = "splitcodec-cursor"
"""Initial metadata of Results.Watch: the cursor it starts after; resume from it if no result came."""
RATE_ONE: Final = 256
"""A rate travels as u8.8 fixed point: 256 is one trained rate point."""
MAX_SEQ: Final = 2**63 - 1
"""Frames of a camera are numbered from 0 up to it; it is what SQLite holds."""
NAME_CHARACTERS: Final = "A-Za-z0-9._:-"
NAME_REGEX: Final = f"[{NAME_CHARACTERS}]{{1,128}}"
"""A device or a camera, as part of a regular expression; see FrameKey in results.proto."""
NAME_PATTERN: Final = f"^{NAME_REGEX}$"
"""A whole device or camera name."""

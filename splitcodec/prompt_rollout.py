"""What an operator sees of a change of prompts: a line for each device, as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from splitcodec.client.answers import DevicePrompts
    from splitcodec.client.prompt_admin import PromptAdmin, PromptChange

PAUSE_S: Final = 0.2


def follow_rollout(
    admin: PromptAdmin, change: PromptChange, wait_s: float, say: Callable[[str], None]
) -> bool:
    """Say of every device of the prompt's codec whether it uses the prompt, for at most wait_s seconds.

    Whether none has failed. A device that is away gets the prompt when it is back.
    """
    digest, codec = change.prompt.prompt_digest, change.prompt.codec_digest
    end, failed = time.monotonic() + wait_s, False
    open_ones: dict[str, DevicePrompts] = {}
    said: set[str] = set()
    while True:
        for told in admin.devices():
            if told.codec_digest != codec or told.device in said:
                continue
            record = told.state_of(digest)
            if record is None or record.state not in ("active", "failed"):
                open_ones[told.device] = told
                continue
            open_ones.pop(told.device, None)
            said.add(told.device)
            failed = failed or record.state == "failed"
            say(f"{told.device}: {record.state}{f': {record.reason}' if record.reason else ''}")
        if not open_ones or time.monotonic() >= end:
            break
        time.sleep(min(PAUSE_S, max(0.0, end - time.monotonic())))
    for name, told in sorted(open_ones.items()):
        heard = datetime.fromtimestamp(told.told, timezone.utc).isoformat(timespec="seconds")
        say(f"{name}: not yet, last heard {heard}; it gets the prompt when it is back")
    return not failed

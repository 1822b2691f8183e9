"""`state.json`, where an edge kept its name and numbers before the spool did: read once, and removed.

{"format": 1, "device": NAME, "reserved": {CAMERA: SEQ}}; SEQ is the first number that was never handed out.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.identity import MAX_CEILING, Identity
from edge.settings import Name

log = logging.getLogger(__name__)
_FILE: Final = "state.json"


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = Field(1, ge=1, le=1)
    device: Name
    reserved: dict[Name, int] = Field(default_factory=dict)


def read_old_state(folder: Path) -> Identity:
    """Name and ceiling of that file; neither if there is none. A damaged one is moved aside. OSError."""
    path = folder / _FILE
    if not path.exists():
        return Identity()
    try:
        state = _State.model_validate(json.loads(path.read_bytes()))
        if all(0 <= seq < MAX_CEILING for seq in state.reserved.values()):
            return Identity(state.device, max(state.reserved.values(), default=0))
        reason = "numbers out of range"
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    log.error("%s is damaged (%s); moved to %s, name and numbers go on without it", path, reason, aside)
    return Identity()


def forget_old_state(folder: Path) -> None:
    """Remove the file, once what it said is kept elsewhere."""
    try:
        (folder / _FILE).unlink(missing_ok=True)
    except OSError as error:
        log.error("cannot remove %s (%s); it is read again at the next start", folder / _FILE, error.strerror)

"""What each camera was told to use: a task, and a rate or a bitrate to keep to; kept over restarts.

cameras.json    {"format": 1, "cameras": {CAMERA: {"task": TASK, "rate": ..., "target_kbps": ...}}}
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.settings import Name
from splitcodec.durable import write_durably
from splitcodec.errors import InvalidRequest, StoreUnavailable
from splitcodec.texts import shortened

log = logging.getLogger(__name__)

_FILE: Final = "cameras.json"
MAX_TEXT: Final = 1000  # characters of what is wrong with a choice


class CameraChoice(BaseModel):
    """rate: of every frame; target_kbps: rate control finds the rate; neither: as the edge is set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = Field(min_length=1, max_length=64)
    rate: float | None = Field(None, ge=0)
    target_kbps: float | None = Field(None, gt=0, le=1e6)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> CameraChoice:
        if self.rate is not None and self.target_kbps is not None:
            raise ValueError("rate and target_kbps exclude each other; give one of them")
        return self


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = Field(1, ge=1, le=1)
    cameras: dict[Name, CameraChoice]


class CameraChoices:
    """Read from anywhere in the event loop; changes are on the disk before they are seen."""

    def __init__(self, folder: Path) -> None:
        """Reads what is kept in `folder`; a damaged file is moved aside, with an error in the log."""
        self._path = folder / _FILE
        self._writing = asyncio.Lock()
        self._choices: Mapping[str, CameraChoice] = _load(self._path)

    def get(self, camera: str) -> CameraChoice | None:
        """What a camera was told, None if nothing."""
        return self._choices.get(camera)

    def all(self) -> Mapping[str, CameraChoice]:
        """Every camera that was told something."""
        return self._choices

    async def put(self, camera: str, choice: CameraChoice | None) -> None:
        """Tell a camera what to use, or with None to do as the edge is set. StoreUnavailable: unchanged."""
        async with self._writing:
            changed = {name: kept for name, kept in self._choices.items() if name != camera}
            if choice is not None:
                changed[camera] = choice
            data = _Kept(cameras=changed).model_dump_json().encode()
            try:
                await asyncio.to_thread(write_durably, self._path, data)
            except OSError as error:
                raise StoreUnavailable(
                    f"{self._path} cannot be written ({error.strerror}); look at the disk of this edge"
                ) from error
            self._choices = changed


def parse_choice(body: bytes) -> CameraChoice:
    """The choice in a JSON body; InvalidRequest names the bad field."""
    try:
        return CameraChoice.model_validate_json(body)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
        raise InvalidRequest(shortened("; ".join(problems), MAX_TEXT)) from None


def _load(path: Path) -> dict[str, CameraChoice]:
    try:
        return _Kept.model_validate_json(path.read_bytes()).cameras
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        reason = str(error).splitlines()[0]
        log.error("%s is damaged (%s); moved to %s, cameras do as the edge is set", path, reason, aside)
        return {}

"""What each camera was told to use: a task, and a rate or a bitrate to keep to; kept over restarts.

cameras.json    {"format": 1, "cameras": {CAMERA: {"task": TASK, "prompt_digest": null or HEX, "rate": ...,
                 "target_kbps": ..., "since": UNIX SECONDS}}}
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.etags import check_match, check_new
from edge.settings import Name
from splitcodec.durable import write_durably
from splitcodec.errors import InvalidRequest, StoreUnavailable
from splitcodec.texts import shortened

log = logging.getLogger(__name__)

_FILE: Final = "cameras.json"
MAX_TEXT: Final = 1000  # characters of what is wrong with a choice
DIGEST: Final = r"^[0-9a-f]{16}$"


class CameraWish(BaseModel):
    """What a client asks for a camera: a task, or one prompt of it whatever becomes active.

    rate: of every frame; target_kbps: rate control finds the rate; neither: as the edge is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str | None = Field(None, min_length=1, max_length=64)
    prompt_digest: str | None = Field(None, pattern=DIGEST)
    rate: float | None = Field(None, ge=0)
    target_kbps: float | None = Field(None, gt=0, le=1e6)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> CameraWish:
        if (self.task is None) == (self.prompt_digest is None):
            raise ValueError("give either task or prompt_digest")
        if self.rate is not None and self.target_kbps is not None:
            raise ValueError("rate and target_kbps exclude each other; give one of them")
        return self


class CameraChoice(BaseModel):
    """What a camera was told, kept; prompt_digest: the one prompt of `task` it keeps to; since: unix time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str = Field(min_length=1, max_length=64)
    prompt_digest: str | None = Field(None, pattern=DIGEST)
    rate: float | None = Field(None, ge=0)
    target_kbps: float | None = Field(None, gt=0, le=1e6)
    since: float = 0.0

    @property
    def pinned(self) -> bytes | None:
        """The 8 bytes of the prompt the camera keeps to, None where its task's active one is used."""
        return None if self.prompt_digest is None else bytes.fromhex(self.prompt_digest)


def etag_of(choice: CameraChoice | None) -> str:
    """Another one after each change of what a camera was told, for If-Match."""
    said = "the edge's own" if choice is None else choice.model_dump_json()
    return hashlib.sha256(said.encode()).hexdigest()[:16]


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

    def pinned(self) -> frozenset[bytes]:
        """The prompts, 8 bytes each, that some camera keeps to."""
        found = (choice.pinned for choice in self._choices.values())
        return frozenset(digest for digest in found if digest is not None)

    async def put(
        self,
        camera: str,
        choice: CameraChoice | None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> None:
        """Tell a camera what to use, or with None to do as the edge is set.

        if_match: the tags, as in the header, one of which what it was told so far must have; if_none_match:
        `*` where it must not have been told anything.
        StateChanged, StoreUnavailable: unchanged.
        """
        async with self._writing:
            before = self._choices.get(camera)
            check_new(if_none_match, before is None, f"camera {camera!r}", _said(before))
            check_match(if_match, etag_of(before), f"camera {camera!r}", _said(before))
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


def _said(choice: CameraChoice | None) -> str:
    return (
        "does as the edge is set" if choice is None else f"uses {choice.model_dump_json(exclude_none=True)}"
    )


def parse_wish(body: bytes) -> CameraWish:
    """The wish in a JSON body; InvalidRequest names the bad field."""
    try:
        return CameraWish.model_validate_json(body)
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

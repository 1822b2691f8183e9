"""What a client can ask an edge: each call as one request and the way to read its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from splitcodec.client.answers import (
    CameraPrompt,
    EdgePrompt,
    FrameReport,
    FrameTicket,
    Quarantine,
    Readiness,
    Replay,
)
from splitcodec.client.frame_json import parse_frame
from splitcodec.client.picture import picture_body
from splitcodec.errors import CloudRefused, EdgeRefused, InvalidRequest, ResultNotFound
from splitcodec.picture import Image

T = TypeVar("T")
_PROMPTS: Final = TypeAdapter(tuple[EdgePrompt, ...])
_CAMERA: Final = TypeAdapter(CameraPrompt)
_READINESS: Final = TypeAdapter(Readiness)
_QUARANTINE: Final = TypeAdapter(Quarantine)
_REPLAY: Final = TypeAdapter(Replay)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request. repeatable: twice is the same as once; read: (status, body) -> answer."""

    method: str
    path: str
    read: Callable[[int, bytes], T]
    params: Mapping[str, str] | None = None
    body: bytes | None = None
    content_type: str | None = None
    repeatable: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


def post_frame(
    image: Image, camera: str, task: str | None, rate: float | None, key: str | None, *, wait: bool
) -> Call[FrameReport | FrameTicket]:
    """A picture in; key: what makes a repeat the same frame. Errors as for picture_body."""
    body, content_type = picture_body(image)
    asked = {"camera": camera, "task": task, "rate": rate, "wait": None if wait else "false"}
    params = {name: str(value) for name, value in asked.items() if value is not None}
    headers = {} if key is None else {"Idempotency-Key": key}
    repeatable = key is not None
    return Call("POST", "/v1/frames", _frame_of, params, body, content_type, repeatable, headers)


def get_frame(frame_id: str) -> Call[FrameReport | FrameTicket]:
    """A frame that was taken before."""
    return Call("GET", f"/v1/frames/{quote(frame_id, safe='')}", _frame_of)


def get_overlay(frame_id: str) -> Call[bytes]:
    """Its picture with the result drawn on it: JPEG."""
    return Call("GET", f"/v1/frames/{quote(frame_id, safe='')}/overlay.jpg", lambda _, body: body)


def get_prompts() -> Call[tuple[EdgePrompt, ...]]:
    """The prompts the edge can encode with."""
    return Call("GET", "/v1/prompts", lambda _, body: _parsed(_PROMPTS, body))


def put_prompt(
    camera: str, choice: Mapping[str, str | float | None], if_match: str | None
) -> Call[CameraPrompt]:
    """What frames of a camera are encoded with from now on; None leaves a field out.

    if_match: the etag of an answer. With one a repeat would find the change of the first, and take it for
    somebody else's.
    """
    body = json.dumps({name: value for name, value in choice.items() if value is not None}).encode()
    path = f"/v1/cameras/{quote(camera, safe='')}/prompt"
    headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
    repeatable = if_match is None

    def read(_: int, data: bytes) -> CameraPrompt:
        return _parsed(_CAMERA, data)

    return Call("PUT", path, read, None, body, "application/json", repeatable, headers)


def get_readiness() -> Call[Readiness]:
    """What the edge serves, and how it stands with the cloud."""
    return Call("GET", "/readyz", lambda _, body: _parsed(_READINESS, body))


def get_quarantine(limit: int) -> Call[Quarantine]:
    """The newest frames that were set aside."""
    params = {"limit": str(limit)}
    return Call("GET", "/v1/quarantine", lambda _, body: _parsed(_QUARANTINE, body), params)


def post_replay(camera: str | None, frame_id: str | None) -> Call[Replay]:
    """Frames that were set aside back into the queue; not made again, as the ids of the first would be lost.

    InvalidRequest: camera and frame_id at once.
    """
    if camera is not None and frame_id is not None:
        raise InvalidRequest("camera and frame exclude each other; give one of them, or neither for all")
    asked = {"camera": camera, "frame": frame_id}
    params = {name: value for name, value in asked.items() if value is not None}
    path = "/v1/quarantine/replay"
    return Call("POST", path, lambda _, body: _parsed(_REPLAY, body), params, repeatable=False)


def answered(found: FrameReport | FrameTicket) -> FrameReport | None:
    """The report, None while there may still be one.

    CloudRefused: the edge gave the frame up; ResultNotFound: only the cloud has the result any more.
    """
    if isinstance(found, FrameReport):
        return found
    if found.may_be_answered:
        return None
    if found.state == "settled":
        raise ResultNotFound(f"frame {found.id}: {found.reason}")
    raise CloudRefused(f"frame {found.id} was {found.state}: {found.reason}; see the edge's spool settings")


def ticket(found: FrameReport | FrameTicket) -> FrameTicket:
    """A ticket for a frame that was left; the repeat of a lost answer may find it answered already."""
    if isinstance(found, FrameTicket):
        return found
    return FrameTicket(found.id, found.device, found.camera, found.seq, "settled", "it is answered by now")


def _frame_of(_: int, body: bytes) -> FrameReport | FrameTicket:
    return _reading(parse_frame, body)


def _parsed(kind: TypeAdapter[T], body: bytes) -> T:
    return _reading(kind.validate_json, body)


def _reading(read: Callable[[bytes], T], body: bytes) -> T:
    """EdgeRefused in place of pydantic's error."""
    try:
        return read(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise EdgeRefused(
            f"the edge's answer has {where}: {first['msg']}; use a client of the edge's version"
        ) from error

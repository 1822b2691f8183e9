"""An edge's report on a frame, read from its JSON."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter, create_model

from splitcodec.client.answers import FrameReport, FrameTicket
from splitcodec.errors import EdgeRefused
from splitcodec.tasks.kinds import KINDS

_ANSWER = "answer"  # the field of FrameReport that is read from the key of its kind


def parse_frame(body: bytes) -> FrameReport | FrameTicket:
    """pydantic.ValidationError: it is neither; EdgeRefused: an answer of no kind that is known here."""
    frame = _adapter(tuple(KINDS)).validate_json(body)
    if isinstance(frame, FrameTicket):
        return frame
    for name, kind in KINDS.items():
        value = getattr(frame, name)
        if value is not None:
            told = {name: getattr(frame, name) for name in _told()}
            return FrameReport(**told, answer=kind.of_json(value))
    raise EdgeRefused(f"the edge's answer has none of {', '.join(KINDS)}; use a client of the edge's version")


def _told() -> list[str]:
    return [field.name for field in fields(FrameReport) if field.name != _ANSWER]


@lru_cache(maxsize=4)
def _adapter(kinds: tuple[str, ...]) -> TypeAdapter[Any]:
    """For reports with a key for each of `kinds`, all but one null or left out."""
    hints = get_type_hints(FrameReport)
    told: dict[str, Any] = {name: (hints[name], ...) for name in _told()}
    read: dict[str, Any] = {name: (KINDS[name].json_type | None, None) for name in kinds}
    report: type[BaseModel] = create_model("FrameReport", **told, **read)
    return TypeAdapter(Annotated[report | FrameTicket, Field(discriminator="state")])

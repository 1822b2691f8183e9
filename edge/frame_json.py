"""A frame's report as JSON: each kind of answer has a key of its own, and all but one are null."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, create_model

from edge.report import Found, FrameReport, FrameStatus
from splitcodec.tasks.kinds import KINDS

_ANSWER = "answer"  # the field of FrameReport that the keys of the kinds stand for


class FrameJson:
    """Writes reports; `schema` is what they look like, for the description of the interface."""

    def __init__(self) -> None:
        hints = get_type_hints(FrameReport)
        kept: dict[str, Any] = {
            field.name: (hints[field.name], ...) for field in fields(FrameReport) if field.name != _ANSWER
        }
        kinds: dict[str, Any] = {name: (kind.json_type | None, None) for name, kind in KINDS.items()}
        said: dict[str, Any] = {"found": (tuple[Found, ...], ()), "objects": (int | None, None)}
        self._kept = tuple(kept)
        self.schema: type[BaseModel] = create_model("FrameReport", **kept, **kinds, **said)
        self._status = TypeAdapter(FrameStatus)

    def dump(self, outcome: FrameReport | FrameStatus) -> bytes:
        """As JSON. found, objects: the answer in short, as in a summary."""
        if isinstance(outcome, FrameStatus):
            return self._status.dump_json(outcome)
        values = {name: getattr(outcome, name) for name in self._kept}
        values |= {outcome.answer.kind: outcome.answer.as_json()}
        values |= {"found": outcome.found, "objects": outcome.answer.objects}
        return self.schema.model_construct(**values).model_dump_json().encode()

"""How a picture becomes a task's canvas: the part of the manifest that the edge follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from splitcodec.placement import Fit, FrameSize
from splitcodec.prompts.schema import Strict

if TYPE_CHECKING:
    from splitcodec.bitstream import Header


class InputConvention(Strict):
    """How a picture becomes the network's canvas (RGB, 0..255); see splitcodec.placement.

    height, width: of the canvas in pixels; of the largest one with trim. fill: value of what a letterbox
    leaves free; crop: share of the largest centred window that is kept; trim: a letterbox's canvas ends with
    the picture, each side rounded up to a multiple of 32.
    """

    height: int = Field(ge=32, le=2048, multiple_of=32)
    width: int = Field(ge=32, le=2048, multiple_of=32)
    fit: Fit
    fill: int = Field(ge=0, le=255)
    crop: float = Field(default=1.0, gt=0, le=1)
    trim: bool = False

    @model_validator(mode="after")
    def _crop_is_meant(self) -> InputConvention:
        if self.crop != 1.0 and self.fit != "crop":
            raise ValueError(f"crop is {self.crop} with fit {self.fit!r}; only fit 'crop' crops")
        return self

    @model_validator(mode="after")
    def _trim_is_meant(self) -> InputConvention:
        if self.trim and self.fit != "letterbox":
            raise ValueError(
                f"trim is set with fit {self.fit!r}; only fit 'letterbox' leaves anything to trim"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_idle_trim(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leaves `trim` out unless it is set: readers from before it know every other convention."""
        values: dict[str, object] = handler(self)
        return values if self.trim else {name: value for name, value in values.items() if name != "trim"}

    def frame_size(self, header: Header) -> FrameSize:
        """How the picture of a coded frame lies on the canvas that its header tells."""
        return FrameSize(
            header.source_height,
            header.source_width,
            header.network_height,
            header.network_width,
            self.fit,
            self.crop,
        )

"""Rate control: which rate point the next frame is coded at, so that the bytes fit the target and the link.

Pure arithmetic on numbers that are handed in, times included: no clock, no thread, no I/O. Three parts:
`BytesModel` learns how many bytes a rate costs on one camera, `LinkMeter` learns how fast the link delivers,
and `RateController` chooses between them. Times are seconds of any clock that never runs backwards.
"""

from splitcodec.rate_control.bytes_model import BytesModel, RatePoints
from splitcodec.rate_control.control import Choice, Goal, RateController
from splitcodec.rate_control.link import LinkMeter

__all__ = ["BytesModel", "Choice", "Goal", "LinkMeter", "RateController", "RatePoints"]

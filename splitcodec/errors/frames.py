"""Pictures that are not taken."""

from splitcodec.errors.base import SplitcodecError


class FrameError(SplitcodecError):
    """A picture cannot be used; the one who posted it is at fault."""


class UnsupportedFrame(FrameError):
    """The picture is of a kind this side does not read; the client should send JPEG, PNG or WebP."""


class FrameTooLarge(FrameError):
    """The picture has more bytes or pixels than the limit; the client should scale it down."""


class BrokenFrame(FrameError):
    """The picture is damaged or not what its content type says; the client should check its camera."""

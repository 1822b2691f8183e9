"""Bitstreams that this side does not decode, and what the coder does not take."""

from splitcodec.errors.base import SplitcodecError


class BitstreamError(SplitcodecError):
    """The bytes cannot be decoded here; the sender is at fault, or is newer than this side."""


class CorruptBitstream(BitstreamError):
    """The bytes break the format or their checksum; the link or the sender is at fault: send again."""


class BitstreamTooLarge(BitstreamError):
    """The bytes, or the sizes they claim, exceed a hard limit; the sender should send less."""


class UndecodableFrame(BitstreamError):
    """The bytes are sound but the graphs fail on them and on no others; do not send them again: report it."""


class UnsupportedVersion(BitstreamError):
    """The format version or a flag is unknown to this decoder; the operator should update the older side."""


class DigestMismatch(SplitcodecError):
    """The bitstream is sound but was made with other weights; the operator's roll-out is at fault."""


class PackMismatch(DigestMismatch):
    """The bitstream names another codec; the operator must deploy the same pack on both sides."""


class UnknownPrompt(DigestMismatch):
    """The bitstream names a prompt this side does not hold; the operator must publish that prompt here."""


class SigmaIndexMismatch(SplitcodecError):
    """Two sides derived different sigma indexes from one z; this library is at fault: report it."""


class StateMismatch(SplitcodecError):
    """A frame holds cells of a state that this side does not have; the device must send a key frame."""


class SymbolOutOfRange(SplitcodecError):
    """A symbol or sigma index has no entry in its table; the calling code is at fault: clip it first."""

"""The other side, as its client sees it."""

from splitcodec.errors.base import SplitcodecError


class CloudUnavailable(SplitcodecError):
    """The cloud did not answer before the deadline; the network or the cloud is at fault: try again."""


class CloudRefused(SplitcodecError):
    """The cloud service answered with an error; the message says whose fault the cloud thinks it is."""


class EdgeUnavailable(SplitcodecError):
    """A client got no connection to the edge, or lost it; the network or the edge is at fault: try again."""


class EdgeRefused(SplitcodecError):
    """The edge gave an answer that this client cannot tell otherwise; the message has what it said."""


class ResultNotFound(SplitcodecError):
    """No result is held under that name; the caller's name is wrong, or the result was retired."""

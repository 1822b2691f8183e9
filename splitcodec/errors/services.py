"""What the services refuse: a caller, a request, or everybody for now."""

from splitcodec.errors.base import SplitcodecError


class AccessError(SplitcodecError):
    """A service does not let this caller in; the caller needs another token."""


class NotAuthenticated(AccessError):
    """There is no bearer token, or it is unknown or expired; the caller should ask the operator for one."""


class NotPermitted(AccessError):
    """The token is sound but lacks the scope, or is for another device; ask the operator for a wider one."""


class RequestError(SplitcodecError):
    """A service cannot do what was asked; the caller is at fault."""


class InvalidRequest(RequestError):
    """A request field is missing, malformed or out of range; the caller should do what the message says."""


class CameraNotFound(RequestError):
    """The camera sent no frame and was not told what to use; the caller should take one of those listed."""


class StateChanged(RequestError):
    """Somebody changed it since the caller looked; the caller should look again and ask with the new ETag."""


class FrameConflict(RequestError):
    """Another frame already has this name or key; devices must number upwards, clients make new keys."""


class ClientGone(RequestError):
    """The client went away before its request was whole; its link or its patience is at fault: send again."""


class ResultRetired(RequestError):
    """The frame was settled and its result deleted by age or size since; the sender should forget it."""


class ResultTooLarge(RequestError):
    """The frame's result has more bytes than may be stored and sent; the pack or its limits are at fault."""


class CursorOutOfRange(RequestError):
    """Results after that cursor are not, or no longer, stored; the caller should start from cursor 0."""


class DeadlineExceeded(RequestError):
    """The deadline passed before the answer was ready; the caller should allow more time or send less."""


class ServiceError(SplitcodecError):
    """A service cannot serve anybody now; its operator is at fault, the caller should try again later."""


class QueueFull(ServiceError):
    """More frames wait than the limit; the caller should send slower, the operator may add machines."""


class TooManyPrompts(ServiceError):
    """The service holds as many prompts as it may; its operator should retire one or raise the limit."""


class TooManyRequests(ServiceError):
    """One caller or device asks for more than its share; it should send slower and repeat this later."""


class FrameMissing(ServiceError):
    """A stream lost a message on its way; the sender should connect again, resend, and use TLS."""


class FrameLeftOut(ServiceError):
    """Even at the lowest rate the frame exceeds the target or the link; send fewer, or raise the target."""


class StoreUnavailable(ServiceError):
    """The result store cannot be read or written; the operator should look at its disk."""


class SpoolFull(ServiceError):
    """The spool has no room and its policy makes none; raise its limits, or send when the cloud is back."""


class SpoolUnavailable(ServiceError):
    """The spool cannot be read or written; the operator should look at the edge's disk."""


class WorkersUnavailable(ServiceError):
    """No machine of the cluster answered the frame in time; the operator should look at the cluster."""


class ServiceStopping(ServiceError):
    """The service is shutting down; the caller should connect again in a moment."""


class SettingsError(SplitcodecError):
    """A setting is missing, malformed or unsafe; whoever configured the service is at fault."""

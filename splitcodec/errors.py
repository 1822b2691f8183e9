"""Every error this library raises on purpose. A message gives the value, the limit and the remedy.

SplitcodecError
|-- BitstreamError             bytes that are not a bitstream this decoder takes
|   |-- CorruptBitstream         damaged, truncated, padded or forged
|   |-- BitstreamTooLarge        claims more bytes or pixels than the limits allow
|   |-- UndecodableFrame         the graphs fail on it, and on it alone
|   `-- UnsupportedVersion       made by a newer (or much older) encoder
|-- DigestMismatch             a sound bitstream meant for other weights
|   |-- PackMismatch             this side holds another pack
|   `-- UnknownPrompt            this side does not hold that prompt
|-- SigmaIndexMismatch         the two sides computed different sigma indexes
|-- StateMismatch              holds cells of a frame that this side has not decoded
|-- SymbolOutOfRange           a symbol or sigma index that its table does not hold
|-- PackError                  a pack that cannot be used
|   |-- PackNotFound             no pack at that place
|   |-- UnsafePack               path traversal, link, unknown file, external data, custom operator
|   |-- PackTooLarge             a file above its size limit
|   |-- PackDamaged              a file is missing or its SHA-256 is wrong
|   |-- InvalidManifest          the manifest breaks the schema or contradicts itself
|   |-- InvalidTables            entropy tables that are not distributions of 2**CDF_BITS counts
|   `-- InexactScaleBranch       the scale branch could leave exact float32 integers
|-- SignatureError             a pack or prompt pack that is not let in
|   |-- Unsigned                 no signature where one is required
|   |-- BadSignature             forged, changed since, or by nobody trusted here
|   |-- SignatureExpired         its time is over
|   |-- SignatureRevoked         its key or its contents were revoked
|   `-- RolledBack               older than what already ran here
|-- PromptError                a prompt pack that cannot be used
|   |-- InvalidPrompt            tensors missing, extra, misshaped, mistyped or not finite
|   |-- PromptNotFound           no such prompt is held here
|   `-- PromptStateError         staged, activated or leased in the wrong order
|-- FrameError                 a picture that cannot be used
|   |-- UnsupportedFrame         not a JPEG, PNG or WebP
|   |-- FrameTooLarge            more bytes or pixels than the limit
|   `-- BrokenFrame              damaged, or not what its content type says
|-- UnknownTask                no such task in the pack
|-- RateOutOfRange             a rate outside the trained rate points
|-- RuntimeUnavailable         the inference engine asked for is not there
|-- GraphFailed                an inference engine refused or failed a graph
|-- CloudUnavailable           the cloud did not answer in time
|-- CloudRefused               the cloud answered with an error
|-- EdgeUnavailable            a client did not reach the edge
|-- EdgeRefused                the edge gave an answer that no other error tells
|-- ResultNotFound             no result is held under that name
|-- AccessError                a caller who is not let in
|   |-- NotAuthenticated         no token, or one that is unknown or expired
|   `-- NotPermitted             the token lacks the scope or is for another device
|-- RequestError               a request to a service that it cannot serve as asked
|   |-- InvalidRequest           a field is missing, malformed or out of range
|   |-- FrameConflict            another frame already has this name or idempotency key
|   |-- CameraNotFound           no such camera sent a frame or was told what to use
|   |-- StateChanged             somebody else changed it since the caller looked
|   |-- ClientGone               the client went away before its request was whole
|   |-- ResultRetired            the frame was settled and its result deleted since
|   |-- ResultTooLarge           the frame's result has more bytes than one may
|   |-- CursorOutOfRange         the results after that cursor are not kept
|   `-- DeadlineExceeded         the answer would have come too late
|-- ServiceError               a service that cannot serve anybody just now
|   |-- QueueFull                more frames are waiting than the limit
|   |-- TooManyRequests          one caller or device asks for more than its share
|   |-- TooManyPrompts           more prompts are held than the limit
|   |-- FrameLeftOut             even the lowest rate does not fit the bitrate target or the link
|   |-- StoreUnavailable         the result store cannot be read or written
|   |-- SpoolFull                the edge keeps no more frames, by its limits or its disk
|   |-- SpoolUnavailable         the spool cannot be read or written
|   |-- WorkersUnavailable       no machine of the cluster answered the frame in time
|   `-- ServiceStopping          the service is shutting down
|-- SettingsError              a setting is missing, malformed or unsafe
|-- TrainingError              a training run that cannot start or go on
|-- ExportMismatch             an exported graph differs from the model it came from
`-- DatasetError               training or evaluation data is missing or malformed
"""


class SplitcodecError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all."""


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


class PackError(SplitcodecError):
    """A pack cannot be used; whoever made or copied the pack is at fault."""


class PackNotFound(PackError):
    """There is no pack at the given place; the caller's path or name is at fault."""


class UnsafePack(PackError):
    """A pack reaches outside itself or carries something that could run code; do not trust its maker."""


class PackTooLarge(PackError):
    """A file of a pack exceeds its limit; the pack's maker is at fault."""


class PackDamaged(PackError):
    """A file of a pack is missing or not the one its manifest names; the copy is at fault: fetch it again."""


class InvalidManifest(PackError):
    """A manifest breaks its schema or contradicts itself; the pack's maker is at fault."""


class InvalidTables(PackError):
    """An entropy table is not a distribution of 2**CDF_BITS counts; the pack's maker is at fault."""


class InexactScaleBranch(PackError):
    """The scale branch could leave the exact integers of float32; whoever exported it is at fault."""


class SignatureError(SplitcodecError):
    """The signature of a pack does not let it in; its maker, or the operator's list of keys, is at fault."""


class Unsigned(SignatureError):
    """Signatures are required and there is none; the operator should have the pack signed."""


class BadSignature(SignatureError):
    """No trusted key signed exactly these files; do not use them before their maker explains it."""


class SignatureExpired(SignatureError):
    """The signature ended; the maker should sign again, or the operator should set the clock."""


class SignatureRevoked(SignatureError):
    """The key or the contents were revoked; the maker should sign a sound version with a sound key."""


class RolledBack(SignatureError):
    """An older version than one that already ran here; the maker should sign it with a higher version."""


class PromptError(SplitcodecError):
    """A prompt pack cannot be used; whoever trained or uploaded it is at fault."""


class InvalidPrompt(PromptError):
    """Prompt tensors do not match the schema or are not finite; whoever exported the prompt is at fault."""


class PromptNotFound(PromptError):
    """No prompt with that digest is held here; the caller should take one of those that are listed."""


class PromptStateError(PromptError):
    """A prompt was staged, activated or leased out of order; the calling code is at fault."""


class FrameError(SplitcodecError):
    """A picture cannot be used; the one who posted it is at fault."""


class UnsupportedFrame(FrameError):
    """The picture is of a kind this side does not read; the client should send JPEG, PNG or WebP."""


class FrameTooLarge(FrameError):
    """The picture has more bytes or pixels than the limit; the client should scale it down."""


class BrokenFrame(FrameError):
    """The picture is damaged or not what its content type says; the client should check its camera."""


class UnknownTask(SplitcodecError):
    """The task is not in the pack; the caller should ask for one of the tasks the message lists."""


class RateOutOfRange(SplitcodecError):
    """The rate lies outside the trained rate points; the caller should stay in the message's range."""


class RuntimeUnavailable(SplitcodecError):
    """The inference engine asked for cannot run here; fix the installation: see `splitcodec doctor`."""


class GraphFailed(SplitcodecError):
    """An inference engine refused a graph or its inputs; the pack, the engine or the caller is at fault."""


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


class TrainingError(SplitcodecError):
    """A training run cannot start or go on; its recipe, checkpoint or teacher is at fault."""


class ExportMismatch(SplitcodecError):
    """An exported graph does not give the model's numbers; the export is at fault: do not ship the pack."""


class DatasetError(SplitcodecError):
    """Training or evaluation data is missing or malformed; the caller's path or archive is at fault."""

"""Every error this library raises on purpose. A message gives the value, the limit and the remedy.

SplitcodecError
|-- BitstreamError             bytes that are not a bitstream this decoder takes
|   |-- CorruptBitstream         damaged, truncated, padded or forged
|   |-- BitstreamTooLarge        claims more bytes or pixels than the limits allow
|   `-- UnsupportedVersion       made by a newer (or much older) encoder
|-- DigestMismatch             a sound bitstream meant for other weights
|   |-- PackMismatch             this side holds another pack
|   `-- UnknownPrompt            this side does not hold that prompt
|-- SigmaIndexMismatch         the two sides computed different sigma indexes
|-- SymbolOutOfRange           a symbol or sigma index that its table does not hold
|-- PackError                  a pack that cannot be used
|   |-- PackNotFound             no pack at that place
|   |-- UnsafePack               path traversal, link, unknown file, external data, custom operator
|   |-- PackTooLarge             a file above its size limit
|   |-- PackDamaged              a file is missing or its SHA-256 is wrong
|   |-- InvalidManifest          the manifest breaks the schema or contradicts itself
|   |-- InvalidTables            entropy tables that are not distributions of 2**CDF_BITS counts
|   `-- InexactScaleBranch       the scale branch could leave exact float32 integers
|-- PromptError                a prompt pack that cannot be used
|   |-- InvalidPrompt            tensors missing, extra, misshaped, mistyped or not finite
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
|-- ResultNotFound             no result is held under that name
|-- RequestError               a request to a service that it cannot serve as asked
|   |-- InvalidRequest           a field is missing, malformed or out of range
|   |-- FrameConflict            another frame already has this device, camera and seq
|   |-- CursorOutOfRange         the results after that cursor are not kept
|   `-- DeadlineExceeded         the answer would have come too late
|-- ServiceError               a service that cannot serve anybody just now
|   |-- QueueFull                more frames are waiting than the limit
|   |-- StoreUnavailable         the result store cannot be read or written
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


class PromptError(SplitcodecError):
    """A prompt pack cannot be used; whoever trained or uploaded it is at fault."""


class InvalidPrompt(PromptError):
    """Prompt tensors do not match the schema or are not finite; whoever exported the prompt is at fault."""


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


class ResultNotFound(SplitcodecError):
    """No result is held under that name; the caller's name is wrong, or the result was retired."""


class RequestError(SplitcodecError):
    """A service cannot do what was asked; the caller is at fault."""


class InvalidRequest(RequestError):
    """A request field is missing, malformed or out of range; the caller should do what the message says."""


class FrameConflict(RequestError):
    """Another frame already has this key; the device reused a seq and must number its frames upwards."""


class CursorOutOfRange(RequestError):
    """Results after that cursor are not, or no longer, stored; the caller should start from cursor 0."""


class DeadlineExceeded(RequestError):
    """The deadline passed before the answer was ready; the caller should allow more time or send less."""


class ServiceError(SplitcodecError):
    """A service cannot serve anybody now; its operator is at fault, the caller should try again later."""


class QueueFull(ServiceError):
    """More frames wait than the limit; the caller should send slower, the operator may add machines."""


class StoreUnavailable(ServiceError):
    """The result store cannot be read or written; the operator should look at its disk."""


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

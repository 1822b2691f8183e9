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
|   |-- FrameMissing             a stream lost a message on its way
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

from splitcodec.errors.base import SplitcodecError
from splitcodec.errors.bitstream import (
    BitstreamError,
    BitstreamTooLarge,
    CorruptBitstream,
    DigestMismatch,
    PackMismatch,
    SigmaIndexMismatch,
    StateMismatch,
    SymbolOutOfRange,
    UndecodableFrame,
    UnknownPrompt,
    UnsupportedVersion,
)
from splitcodec.errors.engines import GraphFailed, RuntimeUnavailable
from splitcodec.errors.frames import BrokenFrame, FrameError, FrameTooLarge, UnsupportedFrame
from splitcodec.errors.packs import (
    BadSignature,
    InexactScaleBranch,
    InvalidManifest,
    InvalidPrompt,
    InvalidTables,
    PackDamaged,
    PackError,
    PackNotFound,
    PackTooLarge,
    PromptError,
    PromptNotFound,
    PromptStateError,
    RateOutOfRange,
    RolledBack,
    SignatureError,
    SignatureExpired,
    SignatureRevoked,
    UnknownTask,
    UnsafePack,
    Unsigned,
)
from splitcodec.errors.peers import (
    CloudRefused,
    CloudUnavailable,
    EdgeRefused,
    EdgeUnavailable,
    ResultNotFound,
)
from splitcodec.errors.services import (
    AccessError,
    CameraNotFound,
    ClientGone,
    CursorOutOfRange,
    DeadlineExceeded,
    FrameConflict,
    FrameLeftOut,
    FrameMissing,
    InvalidRequest,
    NotAuthenticated,
    NotPermitted,
    QueueFull,
    RequestError,
    ResultRetired,
    ResultTooLarge,
    ServiceError,
    ServiceStopping,
    SettingsError,
    SpoolFull,
    SpoolUnavailable,
    StateChanged,
    StoreUnavailable,
    TooManyPrompts,
    TooManyRequests,
    WorkersUnavailable,
)
from splitcodec.errors.training import DatasetError, ExportMismatch, TrainingError

__all__ = [
    "AccessError",
    "BadSignature",
    "BitstreamError",
    "BitstreamTooLarge",
    "BrokenFrame",
    "CameraNotFound",
    "ClientGone",
    "CloudRefused",
    "CloudUnavailable",
    "CorruptBitstream",
    "CursorOutOfRange",
    "DatasetError",
    "DeadlineExceeded",
    "DigestMismatch",
    "EdgeRefused",
    "EdgeUnavailable",
    "ExportMismatch",
    "FrameConflict",
    "FrameError",
    "FrameLeftOut",
    "FrameMissing",
    "FrameTooLarge",
    "GraphFailed",
    "InexactScaleBranch",
    "InvalidManifest",
    "InvalidPrompt",
    "InvalidRequest",
    "InvalidTables",
    "NotAuthenticated",
    "NotPermitted",
    "PackDamaged",
    "PackError",
    "PackMismatch",
    "PackNotFound",
    "PackTooLarge",
    "PromptError",
    "PromptNotFound",
    "PromptStateError",
    "QueueFull",
    "RateOutOfRange",
    "RequestError",
    "ResultNotFound",
    "ResultRetired",
    "ResultTooLarge",
    "RolledBack",
    "RuntimeUnavailable",
    "ServiceError",
    "ServiceStopping",
    "SettingsError",
    "SigmaIndexMismatch",
    "SignatureError",
    "SignatureExpired",
    "SignatureRevoked",
    "SplitcodecError",
    "SpoolFull",
    "SpoolUnavailable",
    "StateChanged",
    "StateMismatch",
    "StoreUnavailable",
    "SymbolOutOfRange",
    "TooManyPrompts",
    "TooManyRequests",
    "TrainingError",
    "UndecodableFrame",
    "UnknownPrompt",
    "UnknownTask",
    "UnsafePack",
    "Unsigned",
    "UnsupportedFrame",
    "UnsupportedVersion",
    "WorkersUnavailable",
]

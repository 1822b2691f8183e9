from splitcodec.wire.v1 import results_pb2 as _results_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("key", "capture_time_unix_nanos", "task", "bitstream", "crc32c", "traceparent")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    BITSTREAM_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    key: _results_pb2.FrameKey
    capture_time_unix_nanos: int
    task: str
    bitstream: bytes
    crc32c: int
    traceparent: str
    def __init__(self, key: _Optional[_Union[_results_pb2.FrameKey, _Mapping]] = ..., capture_time_unix_nanos: _Optional[int] = ..., task: _Optional[str] = ..., bitstream: _Optional[bytes] = ..., crc32c: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: Frame
    def __init__(self, frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("result", "repeated_frame")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FRAME_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.TaskResult
    repeated_frame: bool
    def __init__(self, result: _Optional[_Union[_results_pb2.TaskResult, _Mapping]] = ..., repeated_frame: _Optional[bool] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("frame", "index")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    frame: Frame
    index: int
    def __init__(self, frame: _Optional[_Union[Frame, _Mapping]] = ..., index: _Optional[int] = ...) -> None: ...

class StreamOpened(_message.Message):
    __slots__ = ("max_in_flight", "held_frames")
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    HELD_FRAMES_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    held_frames: bool
    def __init__(self, max_in_flight: _Optional[int] = ..., held_frames: _Optional[bool] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("key", "code", "error", "message", "settled")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    key: _results_pb2.FrameKey
    code: int
    error: str
    message: str
    settled: bool
    def __init__(self, key: _Optional[_Union[_results_pb2.FrameKey, _Mapping]] = ..., code: _Optional[int] = ..., error: _Optional[str] = ..., message: _Optional[str] = ..., settled: _Optional[bool] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("opened", "results", "rejections", "acks", "crc32c")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    opened: StreamOpened
    results: _containers.RepeatedCompositeFieldContainer[_results_pb2.TaskResult]
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    acks: _containers.RepeatedCompositeFieldContainer[_results_pb2.FrameKey]
    crc32c: int
    def __init__(self, opened: _Optional[_Union[StreamOpened, _Mapping]] = ..., results: _Optional[_Iterable[_Union[_results_pb2.TaskResult, _Mapping]]] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., acks: _Optional[_Iterable[_Union[_results_pb2.FrameKey, _Mapping]]] = ..., crc32c: _Optional[int] = ...) -> None: ...

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FrameKey(_message.Message):
    __slots__ = ("device", "camera", "seq")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    device: str
    camera: str
    seq: int
    def __init__(self, device: _Optional[str] = ..., camera: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x1", "y1", "x2", "y2")
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    X2_FIELD_NUMBER: _ClassVar[int]
    Y2_FIELD_NUMBER: _ClassVar[int]
    x1: float
    y1: float
    x2: float
    y2: float
    def __init__(self, x1: _Optional[float] = ..., y1: _Optional[float] = ..., x2: _Optional[float] = ..., y2: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("label", "class_id", "score", "box")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_id: int
    score: float
    box: Box
    def __init__(self, label: _Optional[str] = ..., class_id: _Optional[int] = ..., score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class Detections(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, items: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class ClassShare(_message.Message):
    __slots__ = ("label", "class_id", "share")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_ID_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_id: int
    share: float
    def __init__(self, label: _Optional[str] = ..., class_id: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

class Segmentation(_message.Message):
    __slots__ = ("height", "width", "run_classes", "run_lengths", "classes")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    RUN_CLASSES_FIELD_NUMBER: _ClassVar[int]
    RUN_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    run_classes: _containers.RepeatedScalarFieldContainer[int]
    run_lengths: _containers.RepeatedScalarFieldContainer[int]
    classes: _containers.RepeatedCompositeFieldContainer[ClassShare]
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., run_classes: _Optional[_Iterable[int]] = ..., run_lengths: _Optional[_Iterable[int]] = ..., classes: _Optional[_Iterable[_Union[ClassShare, _Mapping]]] = ...) -> None: ...

class ClassScore(_message.Message):
    __slots__ = ("label", "class_id", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_id: int
    score: float
    def __init__(self, label: _Optional[str] = ..., class_id: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("classes",)
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[ClassScore]
    def __init__(self, classes: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ...) -> None: ...

class OtherOutput(_message.Message):
    __slots__ = ("kind", "data")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    kind: str
    data: bytes
    def __init__(self, kind: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("key", "capture_time_unix_nanos", "task", "codec_digest", "prompt_digest", "rate_fixed", "num_bytes", "source_height", "source_width", "network_height", "network_width", "received_time_unix_nanos", "finished_time_unix_nanos", "stage_seconds", "cursor", "detections", "segmentation", "classification", "other", "output_left_out")
    class StageSecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CODEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RATE_FIXED_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    NETWORK_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_WIDTH_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TIME_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_TIME_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    STAGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    key: FrameKey
    capture_time_unix_nanos: int
    task: str
    codec_digest: bytes
    prompt_digest: bytes
    rate_fixed: int
    num_bytes: int
    source_height: int
    source_width: int
    network_height: int
    network_width: int
    received_time_unix_nanos: int
    finished_time_unix_nanos: int
    stage_seconds: _containers.ScalarMap[str, float]
    cursor: int
    detections: Detections
    segmentation: Segmentation
    classification: Classification
    other: OtherOutput
    output_left_out: bool
    def __init__(self, key: _Optional[_Union[FrameKey, _Mapping]] = ..., capture_time_unix_nanos: _Optional[int] = ..., task: _Optional[str] = ..., codec_digest: _Optional[bytes] = ..., prompt_digest: _Optional[bytes] = ..., rate_fixed: _Optional[int] = ..., num_bytes: _Optional[int] = ..., source_height: _Optional[int] = ..., source_width: _Optional[int] = ..., network_height: _Optional[int] = ..., network_width: _Optional[int] = ..., received_time_unix_nanos: _Optional[int] = ..., finished_time_unix_nanos: _Optional[int] = ..., stage_seconds: _Optional[_Mapping[str, float]] = ..., cursor: _Optional[int] = ..., detections: _Optional[_Union[Detections, _Mapping]] = ..., segmentation: _Optional[_Union[Segmentation, _Mapping]] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., other: _Optional[_Union[OtherOutput, _Mapping]] = ..., output_left_out: _Optional[bool] = ...) -> None: ...

class GetResultRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: FrameKey
    def __init__(self, key: _Optional[_Union[FrameKey, _Mapping]] = ...) -> None: ...

class GetResultResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: TaskResult
    def __init__(self, result: _Optional[_Union[TaskResult, _Mapping]] = ...) -> None: ...

class ListResultsRequest(_message.Message):
    __slots__ = ("device", "camera", "task", "captured_from_unix_nanos", "captured_until_unix_nanos", "page_size", "page_token", "newest_first", "without_output")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FROM_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_UNTIL_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    device: str
    camera: str
    task: str
    captured_from_unix_nanos: int
    captured_until_unix_nanos: int
    page_size: int
    page_token: str
    newest_first: bool
    without_output: bool
    def __init__(self, device: _Optional[str] = ..., camera: _Optional[str] = ..., task: _Optional[str] = ..., captured_from_unix_nanos: _Optional[int] = ..., captured_until_unix_nanos: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., newest_first: _Optional[bool] = ..., without_output: _Optional[bool] = ...) -> None: ...

class ListResultsResponse(_message.Message):
    __slots__ = ("results", "next_page_token")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TaskResult]
    next_page_token: str
    def __init__(self, results: _Optional[_Iterable[_Union[TaskResult, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchResultsRequest(_message.Message):
    __slots__ = ("device", "camera", "task", "after_cursor", "without_output")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    AFTER_CURSOR_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    device: str
    camera: str
    task: str
    after_cursor: int
    without_output: bool
    def __init__(self, device: _Optional[str] = ..., camera: _Optional[str] = ..., task: _Optional[str] = ..., after_cursor: _Optional[int] = ..., without_output: _Optional[bool] = ...) -> None: ...

class WatchResultsResponse(_message.Message):
    __slots__ = ("result", "after_cursor")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    AFTER_CURSOR_FIELD_NUMBER: _ClassVar[int]
    result: TaskResult
    after_cursor: int
    def __init__(self, result: _Optional[_Union[TaskResult, _Mapping]] = ..., after_cursor: _Optional[int] = ...) -> None: ...

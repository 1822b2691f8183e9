from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPromptsRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class Prompt(_message.Message):
    __slots__ = ("task", "pack", "codec_digest", "prompt_digest", "rate_points", "input_height", "input_width", "labels")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    CODEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RATE_POINTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    task: str
    pack: str
    codec_digest: bytes
    prompt_digest: bytes
    rate_points: int
    input_height: int
    input_width: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[str] = ..., pack: _Optional[str] = ..., codec_digest: _Optional[bytes] = ..., prompt_digest: _Optional[bytes] = ..., rate_points: _Optional[int] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class ListPromptsResponse(_message.Message):
    __slots__ = ("prompts",)
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[Prompt]
    def __init__(self, prompts: _Optional[_Iterable[_Union[Prompt, _Mapping]]] = ...) -> None: ...

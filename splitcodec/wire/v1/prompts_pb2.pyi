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
    __slots__ = ("task", "pack", "codec_digest", "prompt_digest", "rate_points", "input_height", "input_width", "labels", "active", "published")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    CODEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RATE_POINTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    task: str
    pack: str
    codec_digest: bytes
    prompt_digest: bytes
    rate_points: int
    input_height: int
    input_width: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    active: bool
    published: bool
    def __init__(self, task: _Optional[str] = ..., pack: _Optional[str] = ..., codec_digest: _Optional[bytes] = ..., prompt_digest: _Optional[bytes] = ..., rate_points: _Optional[int] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., active: _Optional[bool] = ..., published: _Optional[bool] = ...) -> None: ...

class ListPromptsResponse(_message.Message):
    __slots__ = ("prompts", "records")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[Prompt]
    records: _containers.RepeatedCompositeFieldContainer[PromptRecord]
    def __init__(self, prompts: _Optional[_Iterable[_Union[Prompt, _Mapping]]] = ..., records: _Optional[_Iterable[_Union[PromptRecord, _Mapping]]] = ...) -> None: ...

class PromptRecord(_message.Message):
    __slots__ = ("task", "prompt_digest", "state", "since_unix_nanos", "reason")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task: str
    prompt_digest: bytes
    state: str
    since_unix_nanos: int
    reason: str
    def __init__(self, task: _Optional[str] = ..., prompt_digest: _Optional[bytes] = ..., state: _Optional[str] = ..., since_unix_nanos: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PublishPromptHeader(_message.Message):
    __slots__ = ("size", "sha256", "activate")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    size: int
    sha256: bytes
    activate: bool
    def __init__(self, size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., activate: _Optional[bool] = ...) -> None: ...

class PublishPromptRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: PublishPromptHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[PublishPromptHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PublishPromptResponse(_message.Message):
    __slots__ = ("prompt", "replaced_digest")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REPLACED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    prompt: Prompt
    replaced_digest: bytes
    def __init__(self, prompt: _Optional[_Union[Prompt, _Mapping]] = ..., replaced_digest: _Optional[bytes] = ...) -> None: ...

class ActivatePromptRequest(_message.Message):
    __slots__ = ("task", "prompt_digest")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    prompt_digest: bytes
    def __init__(self, task: _Optional[str] = ..., prompt_digest: _Optional[bytes] = ...) -> None: ...

class ActivatePromptResponse(_message.Message):
    __slots__ = ("prompt", "replaced_digest")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REPLACED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    prompt: Prompt
    replaced_digest: bytes
    def __init__(self, prompt: _Optional[_Union[Prompt, _Mapping]] = ..., replaced_digest: _Optional[bytes] = ...) -> None: ...

class RollbackPromptRequest(_message.Message):
    __slots__ = ("task", "codec_digest")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CODEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    task: str
    codec_digest: bytes
    def __init__(self, task: _Optional[str] = ..., codec_digest: _Optional[bytes] = ...) -> None: ...

class RetirePromptRequest(_message.Message):
    __slots__ = ("prompt_digest", "now")
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    prompt_digest: bytes
    now: bool
    def __init__(self, prompt_digest: _Optional[bytes] = ..., now: _Optional[bool] = ...) -> None: ...

class RetirePromptResponse(_message.Message):
    __slots__ = ("gone_at_unix_nanos",)
    GONE_AT_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    gone_at_unix_nanos: int
    def __init__(self, gone_at_unix_nanos: _Optional[int] = ...) -> None: ...

class WatchPromptsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchPromptsResponse(_message.Message):
    __slots__ = ("prompts",)
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[Prompt]
    def __init__(self, prompts: _Optional[_Iterable[_Union[Prompt, _Mapping]]] = ...) -> None: ...

class DevicePrompts(_message.Message):
    __slots__ = ("device", "codec_digest", "records", "told_unix_nanos")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CODEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TOLD_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    device: str
    codec_digest: bytes
    records: _containers.RepeatedCompositeFieldContainer[PromptRecord]
    told_unix_nanos: int
    def __init__(self, device: _Optional[str] = ..., codec_digest: _Optional[bytes] = ..., records: _Optional[_Iterable[_Union[PromptRecord, _Mapping]]] = ..., told_unix_nanos: _Optional[int] = ...) -> None: ...

class ConfirmPromptsRequest(_message.Message):
    __slots__ = ("prompts",)
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    prompts: DevicePrompts
    def __init__(self, prompts: _Optional[_Union[DevicePrompts, _Mapping]] = ...) -> None: ...

class ConfirmPromptsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPromptDevicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPromptDevicesResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[DevicePrompts]
    def __init__(self, devices: _Optional[_Iterable[_Union[DevicePrompts, _Mapping]]] = ...) -> None: ...

class FetchPromptRequest(_message.Message):
    __slots__ = ("prompt_digest",)
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    prompt_digest: bytes
    def __init__(self, prompt_digest: _Optional[bytes] = ...) -> None: ...

class FetchPromptResponse(_message.Message):
    __slots__ = ("size", "chunk", "sha256")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    size: int
    chunk: bytes
    sha256: bytes
    def __init__(self, size: _Optional[int] = ..., chunk: _Optional[bytes] = ..., sha256: _Optional[bytes] = ...) -> None: ...

"""What a client can ask a cloud: requests from plain values, answers as types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from splitcodec.client.answers import CloudPrompt, StoredResult
from splitcodec.client.credentials import Credentials
from splitcodec.errors import InvalidRequest
from splitcodec.tasks import answer_of
from splitcodec.wire.names import MAX_SEQ, RATE_ONE
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import prompts_pb2, results_pb2

NANOS: Final = 1_000_000_000
PAGE: Final = 200
RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)


@dataclass(frozen=True)
class Which:
    """Which results: None takes any. since is inclusive, until exclusive; both need a time zone.

    without_output: all of them, without their answers.
    """

    camera: str | None = None
    device: str | None = None
    task: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    without_output: bool = False


def channel_options(target: str, use_proxy: bool) -> tuple[tuple[str, int], ...]:
    """Options of the channel to the cloud."""
    return (*client_options(target, use_proxy=use_proxy), *RECONNECT)


def check_target(target: str, credentials: Credentials) -> None:
    """SettingsError: the token would cross a network in the clear."""
    encrypted = credentials.channel_credentials() is not None
    credentials.check_address(target.rpartition(":")[0], encrypted=encrypted)


def get_request(device: str, camera: str, seq: int) -> results_pb2.GetResultRequest:
    """One frame. InvalidRequest: seq is out of range."""
    if not 0 <= seq <= MAX_SEQ:
        raise InvalidRequest(f"seq is {seq}, it must be from 0 to 2^63 - 1; take it from a result or report")
    return results_pb2.GetResultRequest(key=results_pb2.FrameKey(device=device, camera=camera, seq=seq))


def list_request(which: Which, token: str, *, newest_first: bool) -> results_pb2.ListResultsRequest:
    """One page. InvalidRequest: a time without a zone."""
    return results_pb2.ListResultsRequest(
        device=which.device or "",
        camera=which.camera or "",
        task=which.task or "",
        captured_from_unix_nanos=_nanos(which.since),
        captured_until_unix_nanos=_nanos(which.until),
        page_size=PAGE,
        page_token=token,
        newest_first=newest_first,
        without_output=which.without_output,
    )


def prompts_request(task: str | None) -> prompts_pb2.ListPromptsRequest:
    """The prompts of one task, or all."""
    return prompts_pb2.ListPromptsRequest(task=task or "")


def stored_result(message: results_pb2.TaskResult) -> StoredResult:
    """CloudRefused: an output of a kind unknown here."""
    return StoredResult(
        device=message.key.device,
        camera=message.key.camera,
        seq=message.key.seq,
        cursor=message.cursor,
        task=message.task,
        answer=None if message.output_left_out else answer_of(message),
        capture_time=message.capture_time_unix_nanos / NANOS,
        received_time=message.received_time_unix_nanos / NANOS,
        finished_time=message.finished_time_unix_nanos / NANOS,
        num_bytes=message.num_bytes,
        rate=message.rate_fixed / RATE_ONE,
        prompt_digest=message.prompt_digest.hex(),
        codec_digest=message.codec_digest.hex(),
        source_height=message.source_height,
        source_width=message.source_width,
        network_height=message.network_height,
        network_width=message.network_width,
        stage_seconds=dict(message.stage_seconds),
    )


def cloud_prompts(message: prompts_pb2.ListPromptsResponse) -> tuple[CloudPrompt, ...]:
    """As types."""
    return tuple(map(cloud_prompt, message.prompts))


def cloud_prompt(message: prompts_pb2.Prompt) -> CloudPrompt:
    """As a type."""
    return CloudPrompt(
        task=message.task,
        pack=message.pack,
        codec_digest=message.codec_digest.hex(),
        prompt_digest=message.prompt_digest.hex(),
        max_rate=message.rate_points - 1,
        input_height=message.input_height,
        input_width=message.input_width,
        labels=tuple(message.labels),
        active=message.active,
        published=message.published,
    )


def _nanos(moment: datetime | None) -> int:
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise InvalidRequest(f"{moment} has no time zone; use datetime.now(timezone.utc) or .astimezone()")
    return max(1, int(moment.timestamp()) * NANOS + moment.microsecond * 1000)

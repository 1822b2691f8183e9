"""A cloud that answers single bitstreams, for the Frigate detector."""

from __future__ import annotations

import time
from typing import Final

import grpc

from splitcodec.client.credentials import Credentials
from splitcodec.errors import CloudRefused, CloudUnavailable
from splitcodec.tasks import TaskAnswer, answer_of
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.results_pb2 import FrameKey

_AWAY: Final = grpc.StatusCode.UNAVAILABLE
_LATE: Final = grpc.StatusCode.DEADLINE_EXCEEDED


class CloudInfer:
    """Has a cloud answer bitstreams, each stored as a frame of this device."""

    def __init__(self, target: str, device: str, credentials: Credentials, deadline_s: float) -> None:
        """SettingsError: the credentials do not fit the target."""
        tls = credentials.channel_credentials()
        credentials.check_address(target.rpartition(":")[0], encrypted=tls is not None)
        options = client_options(target)
        self._channel = (
            grpc.insecure_channel(target, options)
            if tls is None
            else grpc.secure_channel(target, tls, options)
        )
        self._ingest = FeatureIngestStub(self._channel)  # type: ignore[no-untyped-call]
        self._target, self._device, self._deadline_s = target, device, deadline_s
        self._metadata = credentials.metadata
        self._seq = 0

    def __call__(self, bitstream: bytes, task: str) -> TaskAnswer:
        """See Infer."""
        now = time.time_ns()
        self._seq = max(self._seq + 1, now)
        key = FrameKey(device=self._device, camera="frigate", seq=self._seq)
        frame = Frame(key=key, capture_time_unix_nanos=now, task=task, bitstream=bitstream)
        try:
            reply = self._ingest.Infer(
                InferRequest(frame=frame), timeout=self._deadline_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            code, said = error.code(), error.details()
            kind = CloudUnavailable if code in (_AWAY, _LATE) else CloudRefused
            raise kind(f"the cloud at {self._target} gave {code.name}: {said}; see its log") from None
        return answer_of(reply.result)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

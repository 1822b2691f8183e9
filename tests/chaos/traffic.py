"""Who uses the services during a run: cameras that post frames, subscribers that watch results."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import threading
from collections.abc import Callable, Iterator

import grpc
import numpy as np
from chaos.ledger import FrameName, Ledger
from PIL import Image

from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import results_pb2, results_pb2_grpc

POST_TIMEOUT_S = 10.0
RETRY_S = 0.02
TAKEN = (200, 202)


def picture(seed: int) -> bytes:
    """A small JPEG, another one for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((96, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


class Camera(threading.Thread):
    """Posts one frame after the other and writes down what the edge answered.

    A frame that is refused or breaks off is not sent again: the next one is another frame. With `repeats` it
    is posted again under its key until the edge says yes, as the clients of this project do.
    """

    def __init__(self, name: str, edge_port: int, ledger: Ledger, pause_s: float, query: str) -> None:
        super().__init__(name=name, daemon=True)
        self._port = edge_port
        self._ledger = ledger
        self._pause_s = pause_s
        self._path = f"/v1/frames?camera={name}{query}"
        self.repeats = False
        self._pictures = [picture(seed) for seed in range(4)]
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        index, broken = 0, False
        while not self._stopping.is_set():
            if not self._flowing.is_set():
                self._idle.set()
                self._flowing.wait()
                self._idle.clear()
                continue
            try:
                connection = connection or http.client.HTTPConnection(
                    "127.0.0.1", self._port, timeout=POST_TIMEOUT_S
                )
                taken, broken = self._post(connection, index), False
            except (OSError, http.client.HTTPException):
                broken = True
                if not self.repeats:
                    self._ledger.break_off()
                with contextlib.suppress(Exception):
                    connection and connection.close()
                connection, taken = None, False
            index += taken or not self.repeats
            self._stopping.wait(self._pause_s if taken else max(self._pause_s, RETRY_S))
        if broken and self.repeats:  # nobody asked again
            self._ledger.break_off()
        if connection is not None:
            connection.close()

    def pause(self) -> None:
        """No more frames until `resume`; one may still be under way."""
        self._flowing.clear()

    def wait_until_idle(self) -> None:
        """Until the last frame before a pause was answered."""
        if not self._idle.wait(2 * POST_TIMEOUT_S):
            raise TimeoutError(f"{self.name} still posts")

    def resume(self) -> None:
        self._flowing.set()

    def stop(self) -> None:
        """No more frames; returns when the last one was answered."""
        self._stopping.set()
        self._flowing.set()
        self.join(2 * POST_TIMEOUT_S)

    def _post(self, connection: http.client.HTTPConnection, index: int) -> bool:
        headers = {"Content-Type": "image/jpeg"}
        if self.repeats:
            headers["Idempotency-Key"] = f"{self.name}-{index}"
        connection.request("POST", self._path, self._pictures[index % len(self._pictures)], headers)
        response = connection.getresponse()
        body = response.read()
        if response.status not in TAKEN:
            if not self.repeats:
                self._ledger.refuse(response.status)
            return False
        name = json.loads(body)["id"]
        camera, _, seq = name.rpartition("-")
        self._ledger.accept(camera, int(seq))
        return True


class Subscriber(threading.Thread):
    """Watches every result and resumes from its cursor whenever the call ends.

    Told that results behind its cursor are lost, it begins anew: what it had seen it then gets once more.
    """

    def __init__(
        self,
        cloud: str,
        credentials: grpc.ChannelCredentials | None = None,
        pause_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(name="subscriber", daemon=True)
        self._cloud = cloud
        self._credentials = credentials
        self._pause_s = pause_s
        self._dice = random.Random(seed)
        self._stopping = threading.Event()
        self._call: grpc.Future | None = None
        self.seen: list[FrameName] = []
        self.cursors: list[int] = []
        self.resumed = 0
        self.begun_anew = 0
        self._due_again: set[FrameName] = set()

    def run(self) -> None:
        while not self._stopping.is_set():
            with self._channel() as channel:
                try:
                    self._watch(channel)
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                        self.begun_anew += 1
                        self.cursors.clear()
                        self._due_again = set(self.seen)
            self.resumed += 1
            self._stopping.wait(0.05)

    def _watch(self, channel: grpc.Channel) -> None:
        after = self.cursors[-1] if self.cursors else 0
        request = results_pb2.WatchResultsRequest(after_cursor=after)
        self._call = results_pb2_grpc.ResultsStub(channel).Watch(request)
        for response in self._call:
            name = (response.result.key.camera, response.result.key.seq)
            self.cursors.append(response.result.cursor)
            if name in self._due_again:
                self._due_again.remove(name)
                continue
            self.seen.append(name)
            if self._pause_s:
                self._stopping.wait(self._pause_s * self._dice.random() * 2)

    def leave(self) -> None:
        """End the call in the middle; the subscriber comes back at once."""
        if self._call is not None:
            self._call.cancel()

    def stop(self) -> None:
        self._stopping.set()
        self.leave()
        self.join(10)

    def has_seen(self, frames: Callable[[], set[FrameName]]) -> bool:
        return frames() <= set(self.seen)

    @contextlib.contextmanager
    def _channel(self) -> Iterator[grpc.Channel]:
        options = (*client_options(), ("grpc.max_reconnect_backoff_ms", 300))
        channel = (
            grpc.insecure_channel(self._cloud, options)
            if self._credentials is None
            else grpc.secure_channel(self._cloud, self._credentials, options)
        )
        with channel:
            yield channel

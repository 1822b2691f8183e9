"""Cameras that post frames without a pause while another thread changes their prompts; all is written down.

Each camera has one connection and one thread, so its frames are in order. A camera is swapped again only when
it has begun a frame since its last swap, so every swap is met by a frame, often by one that is under way.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from splitcodec.bench.photos import PostedPhoto
from splitcodec.errors import CloudRefused
from splitcodec.tasks.kinds import KINDS

REQUEST_TIMEOUT_S: Final = 120.0
COMPARED: Final = (
    "task",
    *KINDS,
    "num_bytes",
    "rate",
    "prompt_digest",
    "codec_digest",
    "source_height",
    "source_width",
    "network_height",
    "network_width",
)
"""What a frame's report must have in common, to the last bit, with the same frame run alone."""


@dataclass(frozen=True)
class FrameAnswer:
    """One frame: seconds on the clock of the run, what came back, and a SHA-256 over COMPARED."""

    camera: str
    photo: int
    prompt: str
    seq: int
    fingerprint: str
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """From the first byte of the request to the last of the answer."""
        return self.ended - self.started


@dataclass(frozen=True)
class UsedPrompt:
    """What a camera can be told to use; prompt: hex; pinned: by its digest, else as the active one of its
    task.
    """

    task: str
    prompt: str
    pinned: bool

    def wish(self) -> dict[str, str]:
        """The body that asks for it."""
        return {"prompt_digest": self.prompt} if self.pinned else {"task": self.task}


@dataclass(frozen=True)
class Swap:
    """A camera was told to use a prompt (hex digest); seconds on the clock of the run."""

    camera: str
    prompt: str
    started: float
    ended: float


class SwapConnection:
    """One kept-alive HTTP connection to an edge on this machine; for one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def post(self, camera: str, photos: Sequence[PostedPhoto], photo: int, task: str | None) -> FrameAnswer:
        """Send a picture and wait for its result; CloudRefused if there is none."""
        path = f"/v1/frames?camera={camera}" + ("" if task is None else f"&task={task}")
        started = time.perf_counter()
        report = self._ask("POST", path, photos[photo].data, photos[photo].content_type)
        ended = time.perf_counter()
        compared = json.dumps([report[name] for name in COMPARED], sort_keys=True).encode()
        fingerprint = hashlib.sha256(compared).hexdigest()
        prompt = report["prompt_digest"]
        return FrameAnswer(camera, photo, prompt, report["seq"], fingerprint, started, ended)

    def swap(self, camera: str, used: UsedPrompt) -> Swap:
        """Tell a camera what to use from its next frame on; CloudRefused if it may not."""
        started = time.perf_counter()
        body = json.dumps(used.wish()).encode()
        self._ask("PUT", f"/v1/cameras/{camera}/prompt", body, "application/json")
        return Swap(camera, used.prompt, started, time.perf_counter())

    def device(self) -> str:
        """The edge's name for itself."""
        return str(self._ask("GET", "/readyz", b"", "")["device"])

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
        self._connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != http.client.OK:
            raise CloudRefused(f"{method} {path}: {response.status} {data[:300].decode(errors='replace')}")
        found: dict[str, Any] = json.loads(data)
        return found


@dataclass
class SwapRun:
    """What happened, per camera in order; counted: the swaps that were made while frames were posted."""

    answers: dict[str, list[FrameAnswer]] = field(default_factory=dict)
    swaps: dict[str, list[Swap]] = field(default_factory=dict)
    counted: list[Swap] = field(default_factory=list)

    @property
    def all_answers(self) -> list[FrameAnswer]:
        """Of all cameras, by the time they began."""
        return sorted((one for own in self.answers.values() for one in own), key=lambda one: one.started)


def run_alone(
    port: int, photos: Sequence[PostedPhoto], prompts: Sequence[UsedPrompt], camera: str
) -> Mapping[tuple[int, str], str]:
    """Fingerprints of every photo under every prompt, each frame sent when nothing else is under way."""
    alone = {}
    with contextlib.closing(SwapConnection(port)) as client:
        for used in prompts:
            client.swap(camera, used)
            for photo in range(len(photos)):
                alone[photo, used.prompt] = client.post(camera, photos, photo, None).fingerprint
    return alone


class Cameras:
    """Cameras that post in threads of their own from `start` to `stop`."""

    def __init__(
        self, port: int, photos: Sequence[PostedPhoto], names: Sequence[str], tasks: Sequence[str] | None
    ) -> None:
        """tasks: each frame names one of them, at random; None: frames name none."""
        self._port = port
        self._photos = photos
        self._tasks = tasks
        self._names = names
        self._begun = dict.fromkeys(names, 0)
        self._moved = threading.Condition()
        self._ending = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(name,), daemon=True) for name in names]
        self.answers: dict[str, list[FrameAnswer]] = {name: [] for name in names}

    def start(self) -> None:
        """Begin to post."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each camera finish its frame; raises the first error any of them met."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.check()

    def check(self) -> None:
        """Raises the first error a camera met."""
        if self._errors:
            raise self._errors[0]

    def begun(self, camera: str) -> int:
        """Frames that a camera has begun."""
        return self._begun[camera]

    def wait(self, holds: Callable[[], bool]) -> None:
        """Until `holds()`, looked at whenever a frame begins or ends, or a camera failed (then raises)."""
        with self._moved:
            done = self._moved.wait_for(lambda: bool(self._errors) or holds(), REQUEST_TIMEOUT_S)
        self.check()
        if not done:
            raise CloudRefused(
                f"no frame moved within {REQUEST_TIMEOUT_S:g} s; look at the logs of both services"
            )

    def _work(self, name: str) -> None:
        dice = random.Random(name)
        try:
            with contextlib.closing(SwapConnection(self._port)) as client:
                while not self._ending.is_set():
                    with self._moved:
                        self._begun[name] += 1
                        self._moved.notify_all()
                    task = None if self._tasks is None else dice.choice(self._tasks)
                    photo = dice.randrange(len(self._photos))
                    self.answers[name].append(client.post(name, self._photos, photo, task))
        except BaseException as error:
            self._errors.append(error)
        finally:
            with self._moved:
                self._moved.notify_all()


def post_without_swaps(
    port: int, photos: Sequence[PostedPhoto], names: Sequence[str], tasks: Sequence[str], frames: int
) -> list[FrameAnswer]:
    """The same load with tasks at random, named by each frame, and no swap: at least so many frames."""
    cameras = Cameras(port, photos, names, tasks)
    cameras.start()
    cameras.wait(lambda: sum(map(len, cameras.answers.values())) >= frames)
    cameras.stop()
    return [answer for own in cameras.answers.values() for answer in own]


def post_and_swap(
    run: SwapRun,
    port: int,
    photos: Sequence[PostedPhoto],
    names: Sequence[str],
    prompts: Sequence[UsedPrompt],
    count: int,
    advance: Callable[[], None],
) -> None:
    """`count` more swaps while the cameras post, added to `run`; `advance` is called after each."""
    dice = random.Random(len(run.counted))
    with contextlib.closing(SwapConnection(port)) as client:
        for name in names:  # from here on each camera's prompt is known
            run.swaps.setdefault(name, []).append(client.swap(name, prompts[0]))
        cameras = Cameras(port, photos, names, None)
        cameras.start()
        met = dict.fromkeys(names, 0)
        for number in range(count):
            name = names[number % len(names)]
            cameras.wait(lambda name=name: cameras.begun(name) > met[name])  # type: ignore[misc]
            met[name] = cameras.begun(name)
            others = [one for one in prompts if one.prompt != run.swaps[name][-1].prompt]
            run.counted.append(client.swap(name, dice.choice(others)))
            run.swaps[name].append(run.counted[-1])
            advance()
        for name in names:  # the last swap of each camera is met by a frame too
            cameras.wait(lambda name=name: cameras.begun(name) > met[name])  # type: ignore[misc]
        cameras.stop()
    for name in names:
        run.answers.setdefault(name, []).extend(cameras.answers[name])

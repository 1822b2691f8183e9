"""The gRPC server's side of the networks on Ray: admits frames here, has them answered by the cluster.

Answering a frame changes nothing anywhere, so a frame whose replica is lost is simply sent again until its
patience ends. Nothing but bitstreams of admitted frames leaves this process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from cloud.ray_app import APP_NAME, AppOptions, Route, build_app, route_key
from cloud.runner import Admission, PromptKey, ServedPrompt, TaskOutput, not_served
from splitcodec.codec import LatentState
from splitcodec.codec.decoding import header_of
from splitcodec.errors import (
    PackMismatch,
    RuntimeUnavailable,
    SplitcodecError,
    WorkersUnavailable,
)
from splitcodec.packs import Pack, load_pack

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 300.0
DIRECTORY_TIMEOUT_S: Final = 60.0
OBJECT_STORE_BYTES: Final = 256 * 2**20  # of a local cluster: holds the features that are on their way
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
RUNNING: Final = "RUNNING"
HANDLE_STAGE: Final = "ray"
"""Stage of a frame's time that is neither decoder nor tail: Ray's queues and the way there and back."""


@dataclass(frozen=True)
class _Lane:
    """One prompt, and the handles of the deployments that answer its frames."""

    served: ServedPrompt
    decoder: Any
    tail: Any

    def send(self, bitstream: bytes) -> Any:
        """The response to come for a frame of this prompt."""
        return self.tail.answer.remote(self.decoder.decode.remote(bitstream))


class RayRunner:
    """A FrameRunner whose networks run on a Ray cluster."""

    def __init__(self, address: str, options: AppOptions, patience_s: float) -> None:
        """Joins the cluster at `address` and uses the application that is deployed there.

        `local` starts a cluster on this machine and deploys it. patience_s: seconds until a frame
        that gets no answer is given up. Raises RuntimeUnavailable (no cluster, or it does not run the
        application), PackMismatch (it serves other prompts), and what build_app raises.
        """
        self._patience_s = patience_s
        packs = [load_pack(place) for place in options.packs]
        _join(address, options, len(packs) + sum(len(pack.tasks) for pack in packs))
        try:
            self._lanes = _lanes(packs, _routes(options, deploy=address == "local"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the cluster; one that was started here ends, any other keeps its application."""
        ray.shutdown()

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt of every pack, sorted by task and digest."""
        served = [lane.served for lane in self._lanes.values()]
        return tuple(sorted(served, key=lambda prompt: (prompt.task, prompt.prompt_digest)))

    @property
    def holds(self) -> bool:
        """False: replicas keep no states, so edges send key frames alone."""
        return False

    @contextmanager
    def admit(self, bitstream: bytes, state: LatentState | None = None) -> Iterator[Admission]:
        """The frame's task. Raises BitstreamError, PackMismatch, UnknownPrompt or StateMismatch.

        Prompts here stay as long as the application, so none is leased.
        """
        header = header_of(bitstream, None)
        key = (header.codec_digest, header.prompt_digest)
        lane = self._lanes.get(key)
        if lane is None:
            raise not_served(key, {one: other.served.task for one, other in self._lanes.items()})
        yield Admission(bitstream, lane.served.task, key, partial(self._run, lane))

    def _run(self, lane: _Lane, frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
        """Have the cluster answer frames of one lane; a bad frame's answer is its own error.

        Raises WorkersUnavailable when the cluster gave no answer within the patience.
        """
        started = time.monotonic()
        sent = [(frame.bitstream, lane.send(frame.bitstream)) for frame in frames]
        return [self._wait(lane, bitstream, response, started) for bitstream, response in sent]

    def _wait(
        self, lane: _Lane, bitstream: bytes, response: Any, started: float
    ) -> TaskOutput | SplitcodecError:
        """The answer of one frame, sent again as often as a replica is lost with it."""
        pause = FIRST_PAUSE_S
        while True:
            left = started + self._patience_s - time.monotonic()
            try:
                answer: TaskOutput | SplitcodecError = response.result(timeout_s=max(left, 0.0))
                return _with_handle_time(answer, time.monotonic() - started)
            except (RayError, RayServeException, TimeoutError) as error:
                if (own := own_error(error)) is not None:
                    raise own from None
                if left <= pause:
                    response.cancel()
                    raise WorkersUnavailable(
                        f"the cluster gave no answer within {self._patience_s:g} s ({type(error).__name__}); "
                        "see `serve status` and `ray status` there, or raise ray_patience_s"
                    ) from error
                log.warning("a frame is sent again: %s", type(error).__name__)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            response = lane.send(bitstream)


def own_error(error: BaseException) -> Exception | None:
    """The error of the code that ran on the cluster, or None where the cluster itself failed."""
    while isinstance(error, RayTaskError):
        error = error.cause
    return error if isinstance(error, Exception) and not _is_clusters(error) else None


def _is_clusters(error: BaseException) -> bool:
    return isinstance(error, (RayError, RayServeException, TimeoutError))


def _with_handle_time(answer: TaskOutput | SplitcodecError, seconds: float) -> TaskOutput | SplitcodecError:
    if isinstance(answer, SplitcodecError):
        return answer
    rest = max(0.0, seconds - sum(answer.stage_seconds.values()))
    return replace(answer, stage_seconds={**answer.stage_seconds, HANDLE_STAGE: rest})


def _join(address: str, options: AppOptions, parts: int) -> None:
    """Connect this process to a cluster, or start one of its own."""
    for logger in (logging.getLogger("ray"), logging.getLogger("ray.serve")):
        logger.handlers.clear()  # Ray's own lines join the JSON of this process
        logger.propagate = True
    common = {"log_to_driver": False, "configure_logging": False, "namespace": APP_NAME}
    try:
        if address == "local":
            cores = max(ray._private.utils.get_num_cpus(), parts * options.ray_replicas * options.ray_cpus)
            ray.init(
                "local",
                num_cpus=int(cores + 0.999),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **common,
            )
        else:
            ray.init(address, **common)
        serve.start(proxy_location="Disabled")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise RuntimeUnavailable(
            f"Ray at {address} cannot be joined ({error}); start it with `ray start`, or use --ray local"
        ) from error


def _routes(options: AppOptions, *, deploy: bool) -> dict[str, Route]:
    """The routes of the application on the cluster, once it runs there. RuntimeUnavailable."""
    if deploy:
        failures: list[BaseException] = []
        deploying = threading.Thread(target=_deploy, args=(build_app(options), failures), daemon=True)
        deploying.start()
        deploying.join(START_TIMEOUT_S)
        if failures or deploying.is_alive():
            raise RuntimeUnavailable(
                f"the application does not start on Ray ({failures[0] if failures else _state()}); "
                "see `serve status` and the logs of its replicas"
            )
    else:
        _wait_until_running()
    try:
        routes: dict[str, Route] = (
            serve.get_app_handle(APP_NAME).routes.remote().result(timeout_s=DIRECTORY_TIMEOUT_S)
        )
    except (RayError, RayServeException, TimeoutError) as error:
        raise RuntimeUnavailable(
            f"the application {APP_NAME} on Ray does not answer ({type(error).__name__}, {_state()}); "
            "see `serve status`"
        ) from error
    return routes


def _wait_until_running() -> None:
    """RuntimeUnavailable if the cluster does not run the application within START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (state := _state()) != RUNNING:
        if time.monotonic() > deadline:
            raise RuntimeUnavailable(
                f"the cluster does not run the application {APP_NAME} ({state}); "
                "`serve deploy deploy/ray-serve.yaml` deploys it"
            )
        log.info("waiting for the application on Ray: %s", state)
        time.sleep(LONGEST_PAUSE_S)


def _deploy(app: serve.Application, failures: list[BaseException]) -> None:
    try:
        serve.run(app, name=APP_NAME, route_prefix=None)
    except BaseException as error:
        failures.append(error)


def _state() -> str:
    """RUNNING, or one line: the deployments of the application that are not healthy, and why."""
    found = serve.status().applications.get(APP_NAME)
    if found is None:
        return "not deployed"
    sick = [
        f"{name}: {one.status.value} {one.message}".strip()
        for name, one in found.deployments.items()
        if one.status != "HEALTHY"
    ]
    return ", ".join(sick) or str(found.status.value)


def _lanes(packs: Sequence[Pack], routes: dict[str, Route]) -> dict[PromptKey, _Lane]:
    """A lane for every prompt; PackMismatch where the application does not serve one of them."""
    lanes: dict[PromptKey, _Lane] = {}
    for pack in packs:
        for task in pack.tasks:
            route = routes.get(route_key(pack, task))
            if route is None:
                raise PackMismatch(
                    f"the application on Ray does not serve task {task} of pack {pack.name} "
                    f"(codec {pack.codec_digest[:16]}, prompt {pack.prompt(task).digest[:16]}); "
                    "deploy it there with the packs of this server"
                )
            lane = _Lane(_served(pack, task), _handle(route.decoder), _handle(route.tail))
            lanes.setdefault((pack.wire_digest, pack.prompt(task).wire_digest), lane)
    return lanes


def _handle(deployment: str) -> Any:
    return serve.get_deployment_handle(deployment, APP_NAME)


def _served(pack: Pack, task: str) -> ServedPrompt:
    section = pack.task(task)
    return ServedPrompt(
        task=task,
        pack=pack.name,
        codec_digest=pack.wire_digest,
        prompt_digest=pack.prompt(task).wire_digest,
        rate_points=pack.manifest.codec.rate_points,
        input_height=section.input.height,
        input_width=section.input.width,
        labels=section.labels,
        postprocess=section.postprocess,
    )

"""What a frame is to become: the task and rate it names, those its camera was told, or the edge's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.cameras import CameraChoice, CameraChoices, CameraWish, etag_of
from edge.codec import Codec
from edge.links import Links
from edge.metrics import EdgeMetrics
from edge.report import CameraReport, PromptReport
from edge.served import ServedCameras
from edge.settings import CameraGoal, EdgeSettings
from splitcodec.errors import CameraNotFound, PromptNotFound, RateOutOfRange, SettingsError, UnknownTask

MAX_NAMED: Final = 64  # cameras in a message


@dataclass(frozen=True)
class FrameOrder:
    """A frame as it was asked for, checked; capture_time_nanos: unix time.

    rate: None where rate control, or the default, decides once the frame is coded; prompt: 8 bytes of the one
    its camera is pinned to, None for the active one of the task.
    """

    camera: str
    task: str
    rate: float | None
    capture_time_nanos: int
    prompt: bytes | None = None


class Orders:
    """Its methods belong to one event loop. A camera changes over between two frames, never within one."""

    def __init__(
        self,
        settings: EdgeSettings,
        codec: Codec,
        choices: CameraChoices,
        links: Links,
        metrics: EdgeMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds, for the silence of cameras. SettingsError: the pack has no such task or rate."""
        if settings.task not in codec.tasks:
            raise SettingsError(
                f"task {settings.task!r} is not in pack {codec.pack}; it has {sorted(codec.tasks)}"
            )
        self.default_rate = codec.max_rate / 2 if settings.rate is None else settings.rate
        if self.default_rate > codec.max_rate:
            raise SettingsError(
                f"rate {settings.rate} is above {codec.max_rate}, the highest of pack {codec.pack}"
            )
        self._settings = settings
        self._codec = codec
        self._choices = choices
        self._links = links
        self._metrics = metrics
        self.served = ServedCameras(settings.max_cameras, choices.all(), clock)
        for camera, choice in choices.all().items():
            if self._goal(camera, choice) != self._goal(camera, None):
                links.rates.set_goal(camera, self._goal(camera, choice))

    def order(self, camera: str, task: str | None, rate: float | None) -> FrameOrder:
        """Check what a client asks for; None takes what the camera was told, else the edge's own.

        The camera counts once it has sent a picture that decodes: `served.admit`.
        UnknownTask, RateOutOfRange, InvalidRequest (one camera too many), PromptNotFound (the one that the
        camera is pinned to is gone: no frame runs on another one instead).
        """
        if camera not in self.served:
            self.drop_silent()
            self.served.check(camera)
        choice, pin = self._choices.get(camera), None
        if task is None:
            task = self._settings.task if choice is None else choice.task
            pin = None if choice is None else choice.pinned
        if rate is None and choice is not None:
            rate = choice.rate
        if pin is None:
            self._check_task(task)
        else:
            self.prompt(pin)
        self._check_rate(rate)
        return FrameOrder(camera, task, rate, time.time_ns(), pin)

    async def choose(
        self,
        camera: str,
        wish: CameraWish | None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> CameraReport:
        """Tell a camera what to use from its next frame on; None: to do as the edge is set.

        UnknownTask, PromptNotFound, RateOutOfRange, InvalidRequest, StateChanged (see CameraChoices.put),
        StoreUnavailable: it goes on as before. CameraNotFound: there is nothing to undo.
        """
        choice = None if wish is None else self._choice(wish)
        if choice is None:
            self._check_known(camera)
        else:
            self.drop_silent()
            self.served.admit(camera)
        before = self._goal(camera, self._choices.get(camera))
        await self._choices.put(camera, choice, if_match, if_none_match)
        after = self._goal(camera, choice)
        if after != before:
            self._links.rates.set_goal(camera, after)
        self._metrics.prompt_swaps.labels("ok").inc()
        return self.camera(camera)

    def camera(self, camera: str) -> CameraReport:
        """What a camera uses."""
        choice = self._choices.get(camera)
        task = self._settings.task if choice is None else choice.task
        rows = self._codec.prompts.list()
        pin = None if choice is None else choice.prompt_digest
        used = [
            row.digest[:16]
            for row in rows
            if (row.task == task and row.active if pin is None else row.digest[:16] == pin)
        ]
        return CameraReport(
            camera=camera,
            task=task,
            prompt_digest=used[0] if used else None,
            rate=None if choice is None else choice.rate,
            target_kbps=self._goal(camera, choice).target_kbps,
            chosen=choice is not None,
            pinned=pin is not None,
            since=None if choice is None else choice.since,
            last_frame=self.served.last(camera),
            etag=etag_of(choice),
        )

    def known_camera(self, camera: str) -> CameraReport:
        """What a camera uses that sent a frame or was told something; CameraNotFound."""
        self._check_known(camera)
        return self.camera(camera)

    def cameras(self) -> list[CameraReport]:
        """Every camera that is served, by name."""
        self.drop_silent()
        return [self.camera(name) for name in self.served.names()]

    def drop_silent(self) -> None:
        """Forget what is kept of cameras that sent nothing for a day and were not told what to use."""
        for camera in self.served.drop_silent(but=self._choices.all()):
            self._metrics.forget_camera(camera)
            self._links.rates.forget(camera)
            self._links.chains.forget(camera)
        self._links.outbox.drop_idle_lanes(lambda camera: camera in self.served)

    def prompts(self) -> list[PromptReport]:
        """Every live prompt."""
        codec = self._codec
        reports = []
        for row in codec.prompts.list():
            used = codec.inputs.get(row.digest)
            if used is not None:  # None: retired between the two lines above
                reports.append(
                    PromptReport(
                        task=row.task,
                        prompt_digest=row.digest[:16],
                        codec_digest=codec.codec_digest[:16],
                        active=row.active,
                        state="draining" if row.retiring else "active" if row.active else "warm",
                        leases=row.leases,
                        max_rate=codec.max_rate,
                        default_rate=self.default_rate,
                        network_height=used.convention.height,
                        network_width=used.convention.width,
                        labels=used.labels,
                    )
                )
        return reports

    def prompt(self, digest: bytes) -> PromptReport:
        """The live prompt with these 8 bytes; PromptNotFound."""
        for report in self.prompts():
            if report.prompt_digest == digest.hex():
                return report
        held = ", ".join(f"{one.prompt_digest} ({one.task})" for one in self.prompts())
        raise PromptNotFound(f"no prompt {digest.hex()} is here; this edge holds {held}: upload it first")

    def active_prompt(self, task: str) -> PromptReport:
        """The prompt that frames of a task use; UnknownTask."""
        self._check_task(task)
        return next(one for one in self.prompts() if one.active and one.task == task)

    def _choice(self, wish: CameraWish) -> CameraChoice:
        """A wish that can be fulfilled, as it is kept."""
        if wish.prompt_digest is None:
            task = wish.task or ""
            self._check_task(task)
        else:
            task = self.prompt(bytes.fromhex(wish.prompt_digest)).task
        self._check_rate(wish.rate)
        return CameraChoice(
            task=task,
            prompt_digest=wish.prompt_digest,
            rate=wish.rate,
            target_kbps=wish.target_kbps,
            since=time.time(),
        )

    def _check_known(self, camera: str) -> None:
        if camera not in self.served:
            raise CameraNotFound(
                f"camera {camera!r} has sent no frame and was not told what to use; there are "
                f"{self.served.names()[:MAX_NAMED]}"
            )

    def _check_task(self, task: str) -> None:
        if task not in self._codec.prompts.tasks():
            raise UnknownTask(
                f"task {task[:64]!r} is not served here; ask for one of {sorted(self._codec.tasks)}"
            )

    def _check_rate(self, rate: float | None) -> None:
        if rate is not None and not 0 <= rate <= self._codec.max_rate:
            raise RateOutOfRange(
                f"rate is {rate}, it must be from 0 to {self._codec.max_rate}; choose one inside"
            )

    def _goal(self, camera: str, choice: CameraChoice | None) -> CameraGoal:
        """What rate control aims at for a camera that was told `choice`."""
        goal = self._settings.goal_of(camera)
        if choice is None or (choice.rate is None and choice.target_kbps is None):
            return goal
        return CameraGoal(target_kbps=choice.target_kbps, result_deadline_s=goal.result_deadline_s)

"""What a frame is to become: the task and rate it names, those its camera was told, or the edge's own."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edge.cameras import CameraChoice, CameraChoices
from edge.codec import Codec
from edge.metrics import EdgeMetrics
from edge.rate_control import RateControl
from edge.report import CameraReport, PromptReport
from edge.settings import CameraGoal, EdgeSettings
from splitcodec.errors import InvalidRequest, PromptNotFound, RateOutOfRange, SettingsError, UnknownTask


@dataclass(frozen=True)
class FrameOrder:
    """A frame as it was asked for, checked; capture_time_nanos: unix time.

    rate: None where rate control, or the default, decides once the frame is coded.
    """

    camera: str
    task: str
    rate: float | None
    capture_time_nanos: int


class Orders:
    """Its methods belong to one event loop. A camera changes over between two frames, never within one."""

    def __init__(
        self,
        settings: EdgeSettings,
        codec: Codec,
        choices: CameraChoices,
        rates: RateControl,
        metrics: EdgeMetrics,
    ) -> None:
        """SettingsError: the default task or rate is not one of the pack's."""
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
        self._rates = rates
        self._metrics = metrics
        self._cameras = set(choices.all())
        for camera, choice in choices.all().items():
            if self._goal(camera, choice) != self._goal(camera, None):
                rates.set_goal(camera, self._goal(camera, choice))

    def order(self, camera: str, task: str | None, rate: float | None) -> FrameOrder:
        """Check what a client asks for; None takes what the camera was told, else the edge's own.

        UnknownTask, RateOutOfRange, InvalidRequest (one camera too many).
        """
        choice = self._choices.get(camera)
        if task is None:
            task = self._settings.task if choice is None else choice.task
        if rate is None and choice is not None:
            rate = choice.rate
        self._check(task, rate)
        self._admit(camera)
        return FrameOrder(camera, task, rate, time.time_ns())

    async def choose(self, camera: str, choice: CameraChoice | None) -> CameraReport:
        """Tell a camera what to use from its next frame on; None: to do as the edge is set.

        UnknownTask, RateOutOfRange, InvalidRequest, StoreUnavailable: it goes on as before.
        """
        if choice is not None:
            self._check(choice.task, choice.rate)
        self._admit(camera)
        before = self._goal(camera, self._choices.get(camera))
        await self._choices.put(camera, choice)
        after = self._goal(camera, choice)
        if after != before:
            self._rates.set_goal(camera, after)
        self._metrics.prompt_swaps.labels("ok").inc()
        return self.camera(camera)

    def camera(self, camera: str) -> CameraReport:
        """What a camera uses."""
        choice = self._choices.get(camera)
        task = self._settings.task if choice is None else choice.task
        active = {row.task: row.digest for row in self._codec.prompts.list() if row.active}
        return CameraReport(
            camera=camera,
            task=task,
            prompt_digest=active[task][:16] if task in active else None,
            rate=None if choice is None else choice.rate,
            target_kbps=self._goal(camera, choice).target_kbps,
            chosen=choice is not None,
        )

    def cameras(self) -> list[CameraReport]:
        """Every camera that sent a frame or was told what to use, by name."""
        return [self.camera(name) for name in sorted(self._cameras)]

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
        raise PromptNotFound(f"no prompt {digest.hex()} is here; see GET /v1/prompts")

    def _check(self, task: str, rate: float | None) -> None:
        if task not in self._codec.prompts.tasks():
            raise UnknownTask(
                f"task {task[:64]!r} is not served here; ask for one of {sorted(self._codec.tasks)}"
            )
        if rate is not None and not 0 <= rate <= self._codec.max_rate:
            raise RateOutOfRange(
                f"rate is {rate}, it must be from 0 to {self._codec.max_rate}; choose one inside"
            )

    def _admit(self, camera: str) -> None:
        if camera not in self._cameras and len(self._cameras) >= self._settings.max_cameras:
            raise InvalidRequest(
                f"camera {camera!r} would be one more than the {self._settings.max_cameras} served here; "
                "reuse a name or raise SPLITCODEC_EDGE_MAX_CAMERAS"
            )
        self._cameras.add(camera)

    def _goal(self, camera: str, choice: CameraChoice | None) -> CameraGoal:
        """What rate control aims at for a camera that was told `choice`."""
        goal = self._settings.goal_of(camera)
        if choice is None or (choice.rate is None and choice.target_kbps is None):
            return goal
        return CameraGoal(target_kbps=choice.target_kbps, result_deadline_s=goal.result_deadline_s)

"""Rate control of an edge: one controller per camera with a target, one measured link under all of them.

The law is `splitcodec.rate_control`; here are the clock, the cameras and the metrics. Frames are coded in a
worker thread and acknowledged in the event loop, so a lock keeps the numbers together.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from edge.metrics import EdgeMetrics
from edge.settings import CameraGoal, EdgeSettings
from splitcodec.errors import FrameLeftOut
from splitcodec.rate_control import Goal, LinkMeter, RateController, RatePoints
from splitcodec.rate_control.link import Sent

MEASURED_S: Final = 10.0
ACTIVE_S: Final = 10.0  # a camera counts for the sharing of the link this long after its last frame


class _Camera:
    """A camera's controller, if it has a target, and what it coded lately."""

    def __init__(self, controller: RateController | None) -> None:
        self.controller = controller
        self._coded: deque[tuple[float, int]] = deque()  # time, bytes; of the last MEASURED_S
        self.seen_at = 0.0

    def note_coded(self, now: float, num_bytes: int) -> None:
        self._coded.append((now, num_bytes))
        self._forget_old(now)

    def bytes_per_second(self, now: float) -> float:
        self._forget_old(now)
        return sum(size for _, size in self._coded) / MEASURED_S

    def _forget_old(self, now: float) -> None:
        """With each frame too: nobody may ever ask for the rate."""
        while self._coded and self._coded[0][0] < now - MEASURED_S:
            self._coded.popleft()


class RateControl:
    """Chooses rates, learns from what frames cost and from when they arrived. For any thread."""

    def __init__(
        self,
        settings: EdgeSettings,
        points: Mapping[str, RatePoints],
        max_rate: float,
        metrics: EdgeMetrics,
        backlog_bytes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """points: bytes against rate of each task; backlog_bytes: what waits in the spool, not yet sent."""
        self._settings = settings
        self._points = points
        self._max_rate = max_rate
        self._metrics = metrics
        self._backlog_bytes = backlog_bytes
        self._clock = clock
        self._link = LinkMeter()
        self._cameras: dict[str, _Camera] = {}
        self._lock = threading.Lock()

    def set_goal(self, camera: str, goal: CameraGoal) -> None:
        """Give a camera another target from its next frame on; what was learned of it is learned anew."""
        with self._lock:
            self._cameras[camera] = self._new_camera(camera, goal)

    def rate(self, camera: str, task: str, default: float) -> float:
        """The rate of the frame that is coded now: the default where the camera has no target.

        FrameLeftOut: even rate 0 is too much, and over_target is `thin`.
        """
        with self._lock:
            now, kept = self._clock(), self._camera(camera)
            kept.seen_at = now
            if kept.controller is None:
                return default
            share = self._share(camera, now)
            choice = kept.controller.choose(task, self._link, self._backlog_bytes(), now, share)
            self._metrics.allowed_bytes.labels(camera).set(choice.allowed_bps / 8)
            self._metrics.link_bytes.set((self._link.capacity(now) or 0) / 8)
            self._metrics.rate_short.labels(camera).set(not choice.fits)
        if not choice.fits and self._settings.over_target == "thin":
            raise FrameLeftOut(
                f"camera {camera} may send {choice.allowed_bps / 1000:.0f} kbit/s now, less than its frames "
                "take at rate 0; send fewer, raise target_kbps, or set over_target to spool"
            )
        return choice.rate

    def lower_rate(self, camera: str, task: str, rate: float, num_bytes: int) -> float | None:
        """The rate to code a frame at once more, whose rate was chosen here; None to send it as it is."""
        with self._lock:
            controller = self._camera(camera).controller
            lower = None if controller is None else controller.lower_rate(task, rate, num_bytes)
            if lower is not None:
                self._metrics.recoded.labels(camera).inc()
            return lower

    def coded(self, camera: str, task: str, rate: float, num_bytes: int) -> None:
        """A frame was coded and will be sent; rate: as coded, whoever chose it."""
        with self._lock:
            now, kept = self._clock(), self._camera(camera)
            kept.note_coded(now, num_bytes)
            if kept.controller is not None:
                kept.controller.coded(task, rate, num_bytes, now)
            self._metrics.rate_point.labels(camera, task).set(rate)
            self._metrics.measured_bytes.labels(camera).set_function(lambda: self._measured(camera))

    def has_target(self, camera: str) -> bool:
        """Whether rates of that camera are chosen here."""
        with self._lock:
            return self._camera(camera).controller is not None

    def forget(self, camera: str) -> None:
        """A camera is served no more."""
        with self._lock:
            self._cameras.pop(camera, None)

    def sent(self, num_bytes: int) -> Sent:
        """A frame leaves for the cloud; hand the return value to `delivered` or `lost`."""
        with self._lock:
            return self._link.sent(num_bytes, self._clock())

    def delivered(self, frame: Sent) -> None:
        """The cloud has acknowledged it."""
        with self._lock:
            self._link.delivered(frame, self._clock())

    def lost(self, frame: Sent) -> None:
        """The connection broke, or the call failed, before it was acknowledged."""
        with self._lock:
            self._link.lost(frame)

    def _measured(self, camera: str) -> float:
        """Asked for by each scrape, so it falls to 0 when a camera stops."""
        with self._lock:
            kept = self._cameras.get(camera)
            return 0.0 if kept is None else kept.bytes_per_second(self._clock())

    def _camera(self, camera: str) -> _Camera:
        if camera not in self._cameras:
            self._cameras[camera] = self._new_camera(camera, self._settings.goal_of(camera))
        return self._cameras[camera]

    def _new_camera(self, camera: str, goal: CameraGoal) -> _Camera:
        if goal.target_kbps is None:
            if camera in self._cameras:
                self._metrics.target_bytes.labels(camera).set(0)
            return _Camera(None)
        wanted = Goal(goal.target_kbps, goal.result_deadline_s)
        self._metrics.target_bytes.labels(camera).set(wanted.target_bps / 8)
        return _Camera(RateController(self._points, self._max_rate, wanted))

    def _share(self, camera: str, now: float) -> float:
        """This camera's part of the link: by target, among the cameras that send."""
        targets = {
            name: kept.controller.goal.target_bps
            for name, kept in self._cameras.items()
            if kept.controller is not None and now - kept.seen_at <= ACTIVE_S
        }
        return targets[camera] / sum(targets.values())

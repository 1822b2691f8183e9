"""Recent results, and the pictures they were found in, kept in memory within hard bounds."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from edge.news import News
from edge.report import FrameReport, FrameSummary
from edge.reporting import UNKNOWN_SIZES, FrameSizes, frame_summary
from splitcodec.errors import ResultNotFound


class RecentFrames:
    """Results by frame id, oldest dropped first; pictures go before their results do. For one thread."""

    def __init__(self, max_frames: int, max_picture_bytes: int) -> None:
        """Keeps at most max_frames results, and at most max_picture_bytes bytes of pictures."""
        self._max_frames = max_frames
        self._max_picture_bytes = max_picture_bytes
        self._reports: OrderedDict[str, FrameReport] = OrderedDict()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._sizes: OrderedDict[str, FrameSizes] = OrderedDict()
        self._picture_bytes = 0
        self.news = News()

    def add_picture(self, frame_id: str, picture: bytes, sizes: FrameSizes | None = None) -> None:
        """Keep the file of a frame whose result may come later."""
        self._pictures[frame_id] = picture
        self._sizes[frame_id] = sizes or FrameSizes(len(picture), None, None)
        while len(self._sizes) > 2 * self._max_frames:  # some wait for their result
            self._sizes.popitem(last=False)
        self._picture_bytes += len(picture)
        while self._picture_bytes > self._max_picture_bytes:
            self._drop_picture(next(iter(self._pictures)))

    def add(self, report: FrameReport) -> None:
        """Keep a result, and tell those who listen."""
        self._reports[report.id] = report
        self.news.tell(report.camera, report.id)
        while len(self._reports) > self._max_frames:
            dropped, _ = self._reports.popitem(last=False)
            if dropped in self._pictures:
                self._drop_picture(dropped)

    def recent(self, limit: int, camera: str | None) -> list[FrameSummary]:
        """The last results that came, newest first; camera None: of all."""
        chosen = (one for one in reversed(self._reports.values()) if camera in (None, one.camera))
        return [
            frame_summary(one, self._sizes.get(one.id, UNKNOWN_SIZES), has_picture=one.id in self._pictures)
            for one in islice(chosen, limit)
        ]

    def report(self, frame_id: str) -> FrameReport:
        """The result of a frame; ResultNotFound if it was never here or is no longer kept."""
        try:
            return self._reports[frame_id]
        except KeyError:
            raise ResultNotFound(
                f"no frame {frame_id!r} among the last {len(self._reports)} kept here (limit "
                f"{self._max_frames}); ask the cloud for older results"
            ) from None

    def picture(self, frame_id: str) -> bytes:
        """The picture file of a frame; ResultNotFound as for `report`, or if only the picture was dropped."""
        self.report(frame_id)
        try:
            return self._pictures[frame_id]
        except KeyError:
            raise ResultNotFound(
                f"the picture of frame {frame_id!r} is no longer kept (limit {self._max_picture_bytes} bytes "
                "for all pictures); ask sooner or raise SPLITCODEC_EDGE_KEPT_PICTURE_BYTES"
            ) from None

    def _drop_picture(self, frame_id: str) -> None:
        self._picture_bytes -= len(self._pictures.pop(frame_id))

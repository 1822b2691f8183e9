"""The live page: its files, which hold nothing secret, and the two lists it is drawn from, which do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from edge.pipeline import EdgePipeline
from edge.report import FrameSummary, HistoryReport
from splitcodec.errors import ResultNotFound
from splitcodec.wire.names import NAME_PATTERN

MAX_LISTED: Final = 100
INDEX: Final = "index.html"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every file of the page: nothing from elsewhere, nothing inline, never inside another page."""

_LIVE: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}

Camera = Annotated[str | None, Query(pattern=NAME_PATTERN, description="name of the camera; by default all")]


@dataclass(frozen=True)
class PageFile:
    """One file of the page, as it is sent."""

    data: bytes
    media_type: str

    def answer(self, request: Request) -> Response:
        """The file under the page's policy; 304 where the browser has it."""
        headers = {**HEADERS, "ETag": f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(self.data, media_type=self.media_type, headers=headers)


def read_page() -> dict[str, PageFile]:
    """The files inside the package, by name."""
    files = {}
    for entry in resources.files("edge").joinpath("page").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in TYPES:
            files[entry.name] = PageFile(entry.read_bytes(), TYPES[suffix])
    return files


def page_routes() -> APIRouter:
    """`GET /` and the files it names."""
    files = read_page()
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def get_index(request: Request) -> Response:
        """The page."""
        return files[INDEX].answer(request)

    @router.get("/page/{name}")
    async def get_file(request: Request, name: str) -> Response:
        """A file of the page."""
        if name not in files:
            raise ResultNotFound(f"the page has no file {name[:64]!r}; open /")
        return files[name].answer(request)

    return router


def list_routes(pipeline: EdgePipeline, responses: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Recent frames and the last minutes."""
    router = APIRouter(prefix="/v1", tags=["frames"], responses=responses)

    @router.get("/frames")
    async def get_frames(
        camera: Camera = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="frames at most")] = 20,
    ) -> list[FrameSummary]:
        """The last frames with a result, newest first."""
        return pipeline.recent(limit, camera)

    @router.get("/events", response_class=StreamingResponse, responses=_EVENTS)
    async def get_events(camera: Camera = None) -> StreamingResponse:
        """Server-sent events: one `frame` with {"camera", "id"} whenever frames got their result."""
        return StreamingResponse(pipeline.news.listen(camera), media_type="text/event-stream", headers=_LIVE)

    @router.get("/history")
    async def get_history(camera: Camera = None) -> HistoryReport:
        """Frames, bytes and times of the last minutes."""
        return pipeline.history.report(camera)

    return router

"""The HTTP interface to prompts: which there are, new ones, and what each camera uses."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.body import receive_file, receive_small
from edge.cameras import DIGEST, CameraWish, parse_wish
from edge.etags import quoted
from edge.pipeline import EdgePipeline
from edge.report import CameraReport, PromptReport
from splitcodec.errors import InvalidRequest, PromptStateError, QueueFull
from splitcodec.prompt_ledger import PromptRecord
from splitcodec.wire.names import NAME_PATTERN

MAX_JSON_BYTES: Final = 4096

Camera = Annotated[str, Path(pattern=NAME_PATTERN, description="name of the camera")]
Digest = Annotated[str, Path(pattern=DIGEST, description="first 8 bytes of a prompt's digest, hex")]
Task = Annotated[str, Path(max_length=64, description="task of the prompt")]
IfMatch = Annotated[
    str | None,
    Header(max_length=1024, description="ETag of what is to be changed; 412 if it is another by now"),
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=1024, description="*: 412 if the camera was told something before")
]


class Activation(BaseModel):
    """Body of PUT /v1/tasks/{task}/prompt."""

    model_config = ConfigDict(extra="forbid")

    prompt_digest: str = Field(pattern=DIGEST)


def camera_routes(pipeline: EdgePipeline, responses: dict[int | str, dict[str, Any]]) -> APIRouter:
    """What each camera uses."""
    router = APIRouter(prefix="/v1/cameras", tags=["cameras"], responses=responses)

    @router.get("")
    async def get_cameras() -> list[CameraReport]:
        """Every camera that sent a frame or was told what to use."""
        return pipeline.orders.cameras()

    @router.get("/{camera}/prompt")
    async def get_camera(response: Response, camera: Camera) -> CameraReport:
        """What a camera uses."""
        return _tagged(response, pipeline.orders.known_camera(camera))

    @router.put("/{camera}/prompt", openapi_extra=_json_body(CameraWish))
    async def put_camera(
        request: Request,
        response: Response,
        camera: Camera,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> CameraReport:
        """Let the frames of a camera that begin from now on use a task, or one prompt of it whichever is
        active, and a rate or a bitrate to keep to.

        Frames that name a task or a rate of their own keep it. Survives a restart.
        """
        timeout_s = pipeline.settings.upload_timeout_s
        body = await receive_small(pipeline.uploads, request, MAX_JSON_BYTES, timeout_s)
        told = await pipeline.orders.choose(camera, parse_wish(body), if_match, if_none_match)
        return _tagged(response, told)

    @router.delete("/{camera}/prompt")
    async def delete_camera(response: Response, camera: Camera, if_match: IfMatch = None) -> CameraReport:
        """Let a camera do as the edge is set."""
        return _tagged(response, await pipeline.orders.choose(camera, None, if_match))

    return router


def prompt_routes(pipeline: EdgePipeline, responses: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Which prompts there are."""
    router = APIRouter(prefix="/v1", tags=["prompts"], responses=responses)
    receiving = asyncio.Lock()

    @router.get("/prompts")
    async def get_prompts() -> list[PromptReport]:
        """The prompts this edge can encode with."""
        return pipeline.orders.prompts()

    @router.get("/prompts/states")
    async def get_states() -> list[PromptRecord]:
        """The state of every prompt, oldest change first; of those retired or failed, the last ones."""
        return list(pipeline.prompts.ledger.records())

    @router.post("/prompts", openapi_extra=_PACK_BODY)
    async def post_prompt(
        request: Request,
        activate: Annotated[bool, Query(description="also let its task use it")] = False,
    ) -> PromptReport:
        """Upload a prompt pack. It is verified and warmed; until it is activated nothing uses it."""
        if activate:
            _check_free(pipeline)
        if receiving.locked():
            raise QueueFull("another prompt pack is arriving; send one at a time, try again in a moment")
        async with receiving:
            with pipeline.prompts.shelf.draft() as draft:
                settings = pipeline.settings
                await receive_file(
                    pipeline.uploads, request, draft, settings.max_prompt_bytes, settings.upload_timeout_s
                )
                digest = bytes.fromhex(await pipeline.prompts.stage(draft))[:8]
        if activate:
            await pipeline.prompts.activate(pipeline.orders.prompt(digest).task, digest)
        return pipeline.orders.prompt(digest)

    @router.delete("/prompts/{digest}", status_code=204)
    async def delete_prompt(digest: Digest) -> Response:
        """Forget a prompt that came while the edge ran and that no task uses."""
        await pipeline.prompts.retire(bytes.fromhex(digest))
        return Response(status_code=204)

    _add_tasks(router, pipeline)
    return router


def _add_tasks(router: APIRouter, pipeline: EdgePipeline) -> None:
    """Which prompt each task uses."""

    @router.put("/tasks/{task}/prompt", openapi_extra=_json_body(Activation))
    async def put_task(
        request: Request, response: Response, task: Task, if_match: IfMatch = None
    ) -> PromptReport:
        """Let frames of a task that begin from now on use another of its prompts; also the way back."""
        _check_free(pipeline)
        timeout_s = pipeline.settings.upload_timeout_s
        body = await receive_small(pipeline.uploads, request, MAX_JSON_BYTES, timeout_s)
        digest = bytes.fromhex(_activation(body).prompt_digest)
        await pipeline.prompts.activate(task, digest, if_match)
        response.headers["ETag"] = quoted(digest.hex())
        return pipeline.orders.prompt(digest)

    @router.post("/tasks/{task}/rollback")
    async def post_rollback(response: Response, task: Task) -> PromptReport:
        """Let a task use the prompt again that it used before; twice is where it began."""
        _check_free(pipeline)
        await pipeline.prompts.roll_back(task)
        found = pipeline.orders.active_prompt(task)
        response.headers["ETag"] = quoted(found.prompt_digest)
        return found

    @router.get("/tasks/{task}/prompt")
    async def get_task(response: Response, task: Task) -> PromptReport:
        """The active prompt of a task; its ETag is for PUT."""
        found = pipeline.orders.active_prompt(task)
        response.headers["ETag"] = quoted(found.prompt_digest)
        return found


def _tagged(response: Response, report: CameraReport) -> CameraReport:
    response.headers["ETag"] = quoted(report.etag)
    return report


def _check_free(pipeline: EdgePipeline) -> None:
    if pipeline.settings.follow_cloud_prompts:
        raise PromptStateError(
            "this edge uses the prompts that its cloud activates; activate it there (Prompts.Activate), or "
            "set SPLITCODEC_EDGE_FOLLOW_CLOUD_PROMPTS=false"
        )


def _activation(body: bytes) -> Activation:
    try:
        return Activation.model_validate_json(body)
    except ValidationError as error:
        item = error.errors()[0]
        raise InvalidRequest(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}") from None


def _json_body(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }


_PACK_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}

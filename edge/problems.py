"""The one table from errors to HTTP: application/problem+json (RFC 9457) with a remedy.

`detail` is the error's own message, which names value and limit. An error that is not in the table is 500
without a word about its cause; the log has the rest.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from edge.body import waits_for_consent
from splitcodec import errors
from splitcodec.texts import shortened

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
MAX_TEXT: Final = 1000  # characters of what is wrong with a request


@dataclass(frozen=True)
class Problem:
    """How an error looks to a client."""

    status: int
    title: str
    remedy: str
    retry: bool = False


PROBLEMS: Final[dict[type[errors.SplitcodecError], Problem]] = {
    errors.UnsupportedFrame: Problem(
        415,
        "Unsupported picture",
        "Send one JPEG, PNG or WebP as it is in its file, e.g. curl --data-binary @photo.jpg.",
    ),
    errors.FrameTooLarge: Problem(413, "Picture too large", "Scale the picture down or compress it more."),
    errors.BrokenFrame: Problem(
        422, "Broken picture", "Check the camera and the link, and send the picture again."
    ),
    errors.UnknownTask: Problem(404, "Unknown task", "Ask GET /v1/prompts which tasks are served."),
    errors.RateOutOfRange: Problem(422, "Rate out of range", "Ask GET /v1/prompts for the highest rate."),
    errors.InvalidRequest: Problem(422, "Invalid request", "Correct the parameter that the detail names."),
    errors.CameraNotFound: Problem(404, "No such camera", "Ask GET /v1/cameras which there are."),
    errors.StateChanged: Problem(
        412,
        "Changed meanwhile",
        "Look at what is there now, and ask again with its ETag if it is still meant.",
    ),
    errors.FrameConflict: Problem(
        422,
        "Key of another frame",
        "Make a new Idempotency-Key for every picture.",
    ),
    errors.ResultNotFound: Problem(
        404, "No such frame", "Use the id of a recent answer; the cloud keeps older results."
    ),
    errors.DeadlineExceeded: Problem(
        408, "Upload too slow", "Send the picture again over a better link, or smaller."
    ),
    errors.ClientGone: Problem(400, "Upload broken off", "Send the whole body again."),
    errors.NotAuthenticated: Problem(
        401, "No valid token", "Send `Authorization: Bearer TOKEN`; the operator makes tokens."
    ),
    errors.NotPermitted: Problem(
        403, "Not permitted", "Ask the operator for a token with the scope that the detail names."
    ),
    errors.TooManyRequests: Problem(
        429, "Too many requests", "Send slower; wait as long as Retry-After says.", retry=True
    ),
    errors.SignatureError: Problem(
        403, "Signature refused", "Have the pack signed by a key that this edge trusts."
    ),
    errors.QueueFull: Problem(
        429, "Too many frames", "Send slower; wait as long as Retry-After says.", retry=True
    ),
    errors.FrameLeftOut: Problem(
        429, "Frame left out", "Send fewer frames, or raise the camera's target_kbps.", retry=True
    ),
    errors.SpoolFull: Problem(
        503, "Spool full", "The frame was not taken; send it again when the cloud is back.", retry=True
    ),
    errors.SpoolUnavailable: Problem(
        503, "Spool unavailable", "The frame was not taken; look at the disk of the edge.", retry=True
    ),
    errors.ServiceStopping: Problem(
        503, "Stopping", "The frame was not taken; send it again once the edge is back.", retry=True
    ),
    errors.PackMismatch: Problem(
        409, "Prompt for another codec", "Take a prompt that was trained on the codec of GET /readyz."
    ),
    errors.PackTooLarge: Problem(413, "Prompt pack too large", "Send a smaller pack, or raise its limit."),
    errors.PackError: Problem(422, "Unsound prompt pack", "Make it again: splitcodec pack prompt."),
    errors.PromptError: Problem(422, "Unsound prompt", "Train or export the prompt again."),
    errors.PromptStateError: Problem(409, "Not possible now", "Do what the detail says."),
    errors.PromptNotFound: Problem(404, "No such prompt", "Ask GET /v1/prompts which there are."),
    errors.StoreUnavailable: Problem(
        503, "Disk unavailable", "Nothing was changed; look at the disk of the edge.", retry=True
    ),
    errors.CloudUnavailable: Problem(
        503, "Cloud away", "Send the frame again after the time in Retry-After; see GET /readyz.", retry=True
    ),
    errors.CloudRefused: Problem(
        502,
        "Cloud refused the frame",
        "Compare the packs of edge and cloud (GET /readyz and the cloud's Prompts.List).",
    ),
}
INTERNAL: Final = Problem(500, "Internal error", "Report this; the edge's log says what happened.")


def problem_for(error: Exception) -> tuple[Problem, str, str]:
    """The entry of the table, a slug for the `type` member, and the detail a client may read."""
    for kind in type(error).__mro__:
        if issubclass(kind, errors.SplitcodecError) and kind in PROBLEMS:
            return PROBLEMS[kind], _slug(type(error).__name__), str(error)
    return INTERNAL, "internal-error", "the edge failed on this request"


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as problem+json."""
    app.add_exception_handler(errors.SplitcodecError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)


def response_to(error: Exception, scope: Scope) -> Response:
    """The problem document of an error of a request."""
    problem, slug, detail = problem_for(error)
    if problem is INTERNAL and isinstance(error, errors.SplitcodecError):  # others are logged by the server
        log.error("internal error", exc_info=error)
    response = _response(problem, slug, detail)
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="splitcodec-edge"'
    return _unread(response, scope)


async def _on_error(request: Request, error: Exception) -> Response:
    return response_to(error, request.scope)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    return await _on_error(request, errors.InvalidRequest(shortened("; ".join(parts), MAX_TEXT)))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, str(error.detail), "See GET /docs for what this service offers.")
    response = _response(problem, _slug(str(error.detail).title().replace(" ", "")), str(error.detail))
    response.headers.update(error.headers or {})
    return _unread(response, request.scope)


def _unread(response: Response, scope: Scope) -> Response:
    """Ends the connection if the body will not come: what does come would be taken for it."""
    if waits_for_consent(scope):
        response.headers["Connection"] = "close"
    return response


def _response(problem: Problem, slug: str, detail: str) -> Response:
    body = {
        "type": f"urn:splitcodec:problem:{slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "remedy": problem.remedy,
    }
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problem.retry else None
    return Response(json.dumps(body), problem.status, headers, MEDIA_TYPE)


def _slug(name: str) -> str:
    """BrokenFrame -> broken-frame."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()

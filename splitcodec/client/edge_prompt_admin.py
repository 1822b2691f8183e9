"""The operator's side of an edge's prompts, where it takes them itself and does not follow a cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from splitcodec.client.answers import EdgePrompt, PromptRecord
from splitcodec.client.edge_blocking import EdgeClient
from splitcodec.client.edge_calls import Call
from splitcodec.errors import EdgeRefused, PackNotFound

T = TypeVar("T")
_PROMPT: Final = TypeAdapter(EdgePrompt)
_STATES: Final = TypeAdapter(tuple[PromptRecord, ...])


class EdgePromptAdmin(EdgeClient):
    """An EdgeClient that may change the prompts; its token needs the scope `prompts`. For any thread."""

    def __enter__(self) -> EdgePromptAdmin:
        return self

    def states(self) -> tuple[PromptRecord, ...]:
        """The state of each prompt, oldest change first; of those that are gone, the last ones."""
        call = Call("GET", "/v1/prompts/states", lambda _, body: _read(_STATES, body))
        return self._exchange.run(call, self._deadline_s)

    def push(self, place: Path, *, activate: bool = False) -> EdgePrompt:
        """Upload a prompt pack; it is verified and warm when this returns.

        PackNotFound: no file; and what the edge says of it: PackMismatch, PackTooLarge, InvalidPrompt, ...
        """
        if not place.is_file():
            raise PackNotFound(f"there is no prompt pack at {place}; `splitcodec pack prompt` writes one")
        params = {"activate": "true"} if activate else None
        return self._prompt("POST", "/v1/prompts", params, place.read_bytes(), "application/zip")

    def activate(self, task: str, prompt_digest: str) -> EdgePrompt:
        """Let a task use a prompt. PromptNotFound, InvalidRequest, PromptStateError (a follower)."""
        body = json.dumps({"prompt_digest": prompt_digest[:16]}).encode()
        return self._prompt("PUT", f"/v1/tasks/{quote(task, safe='')}/prompt", None, body, "application/json")

    def roll_back(self, task: str) -> EdgePrompt:
        """Let a task use the prompt again that it used before. PromptNotFound, PromptStateError."""
        return self._prompt("POST", f"/v1/tasks/{quote(task, safe='')}/rollback", None, None, None)

    def retire(self, prompt_digest: str) -> None:
        """Forget a prompt that no task uses. PromptNotFound, PromptStateError."""
        path = f"/v1/prompts/{quote(prompt_digest[:16], safe='')}"
        self._exchange.run(Call("DELETE", path, lambda *_: None), self._deadline_s)

    def _prompt(
        self, method: str, path: str, params: dict[str, str] | None, body: bytes | None, kind: str | None
    ) -> EdgePrompt:
        once = method != "POST"
        call = Call(method, path, lambda _, data: _read(_PROMPT, data), params, body, kind, once)
        return self._exchange.run(call, self._deadline_s)


def _read(kind: TypeAdapter[T], body: bytes) -> T:
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        first = str(error).splitlines()[0]
        raise EdgeRefused(f"the edge's answer does not fit ({first}); use a client of its version") from error

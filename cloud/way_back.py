"""What a change replaced, and which prompt a task goes back to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud.runner import ServedPrompt
from splitcodec.errors import InvalidRequest, PromptNotFound


@dataclass(frozen=True)
class Change:
    """A prompt after a change, and the digest of the one it replaced: 8 bytes, or none."""

    prompt: ServedPrompt
    replaced: bytes


def earlier_prompt(
    previous: Mapping[tuple[bytes, str], bytes],
    prompts: Sequence[ServedPrompt],
    task: str,
    codec_digest: bytes,
) -> bytes:
    """The 8 bytes of the prompt that was active before; previous: by codec and task; codec_digest: b"" any.

    PromptNotFound: there is none, or it is gone; InvalidRequest: the codec must be named.
    """
    active = {(one.codec_digest, one.task): one.prompt_digest for one in prompts if one.active}
    held = {one.prompt_digest for one in prompts}
    earlier = {
        key: digest
        for key, digest in previous.items()
        if key[1] == task and codec_digest in (b"", key[0]) and active.get(key) != digest and digest in held
    }
    if not earlier:
        raise PromptNotFound(
            f"task {task[:64]!r} has no earlier prompt here to go back to; activate one of Prompts.List"
        )
    if len(earlier) > 1:
        codecs = ", ".join(codec.hex() for codec, _ in sorted(earlier))
        raise InvalidRequest(f"task {task} has an earlier prompt for each of codecs {codecs}; name one")
    return next(iter(earlier.values()))

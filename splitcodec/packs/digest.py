"""Digests of codecs and prompts: SHA-256 of canonical JSON, in hex; their first 8 bytes travel."""

from __future__ import annotations

import hashlib
import json


def prompt_digest(codec_digest: str, task: str, tensors_sha256: str, tail_sha256: str) -> str:
    """SHA-256, in hex, that binds a prompt to its codec, task, tensors and tail."""
    return canonical_digest(
        {
            "codec_digest": codec_digest,
            "tail_sha256": tail_sha256,
            "task": task,
            "tensors_sha256": tensors_sha256,
        }
    )


def canonical_digest(value: object) -> str:
    """SHA-256, in hex, of `value` as JSON with sorted keys, no spaces, ASCII only."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
    ).hexdigest()


def wire_digest(digest: str) -> bytes:
    """The 8 bytes of a hex digest that travel in a bitstream header."""
    return bytes.fromhex(digest)[:8]

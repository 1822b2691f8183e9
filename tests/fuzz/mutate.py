"""A seeded mutator: the same inputs on every machine, for the short run inside `make test`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

INTERESTING: Final = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", bytes(8))


def mutations(seeds: Sequence[bytes], count: int, max_bytes: int, seed: int = 1) -> Iterator[bytes]:
    """The seeds, then `count` inputs made from them by flipping, cutting, repeating and crossing over."""
    yield from seeds
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(rng.choice(seeds)[:max_bytes])
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            _edit(data, rng, seeds)
        yield bytes(data[:max_bytes])


def _edit(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(6)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif kind == 2:
        del data[at : at + rng.randrange(1, 17)]
    elif kind == 3:
        data[at:at] = data[at : at + rng.randrange(1, 33)]
    elif kind == 4:
        piece = rng.choice(INTERESTING)
        data[at : at + len(piece)] = piece
    else:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        data[at : at + 16] = other[start : start + rng.randrange(1, 33)]

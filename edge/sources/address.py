"""`--source [NAME=]ADDRESS`: which camera it is, and what is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from splitcodec.errors import SettingsError
from splitcodec.wire.names import NAME_REGEX

Kind = Literal["rtsp", "v4l2", "file", "folder"]
KINDS: Final[dict[str, Kind]] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "v4l2": "v4l2",
    "file": "file",
    "folder": "folder",
}
_NAMED: Final = re.compile(rf"(?P<name>{NAME_REGEX})=(?P<address>.+)", re.DOTALL)
_HELP: Final = "give rtsp://HOST/PATH, v4l2:/dev/video0, file:VIDEO or folder:FOLDER, with NAME= before it"


@dataclass(frozen=True)
class Source:
    """One camera. place: the URL, device, file or folder; it may hold a password and is never logged."""

    camera: str
    kind: Kind
    place: str

    @property
    def shown(self) -> str:
        """The place for logs: of a URL only host and port."""
        if self.kind != "rtsp":
            return f"{self.kind}:{self.place}"
        parts = urlsplit(self.place)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or 554}/..."

    def __repr__(self) -> str:
        return f"Source({self.camera!r}, {self.shown!r})"


def parse_sources(texts: Iterable[str]) -> tuple[Source, ...]:
    """Sources in order; one without a name is called source-1, source-2, ... by its place in the list.

    SettingsError: an address of an unknown kind, or two of one name. Its message has no address.
    """
    sources = tuple(_parse(text, number) for number, text in enumerate(texts, 1))
    names = [source.camera for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"source: camera names {sorted(twice)} come twice; give each its own NAME=")
    return sources


def _parse(text: str, number: int) -> Source:
    named = _NAMED.fullmatch(text)
    # A URL may hold a `=` too, but never before its first colon.
    if named and not re.match(r"(rtsps?|v4l2|file|folder):", text):
        camera, address = named["name"], named["address"]
    else:
        camera, address = f"source-{number}", text
    scheme, _, rest = address.partition(":")
    kind = KINDS.get(scheme)
    if kind is None or not rest:
        raise SettingsError(f"source {number} is of no known kind; {_HELP}")
    if kind == "rtsp":
        try:
            sound = bool(urlsplit(address).hostname) and urlsplit(address).port != 0
        except ValueError:
            sound = False
        if not sound:
            raise SettingsError(f"source {number} is no rtsp:// URL; {_HELP}")
        return Source(camera, kind, address)
    return Source(camera, kind, rest)

"""One vision task run by a camera box and a server, with a few kilobytes of features between them.

The public names are loaded on first use: importing the package costs nothing and never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splitcodec.bitstream import Bitstream, Header, parse, serialize
    from splitcodec.codec import DecodedFeature, EncodedFrame, FeatureDecoder, FeatureEncoder
    from splitcodec.errors import SplitcodecError
    from splitcodec.packs import Pack, load_pack
    from splitcodec.picture_codec import EncodedPicture, PictureCodec, load
    from splitcodec.prompts import Prompt, PromptStore

__version__ = "0.1.0"

_HOMES = {
    "Bitstream": "splitcodec.bitstream",
    "DecodedFeature": "splitcodec.codec",
    "EncodedFrame": "splitcodec.codec",
    "EncodedPicture": "splitcodec.picture_codec",
    "FeatureDecoder": "splitcodec.codec",
    "FeatureEncoder": "splitcodec.codec",
    "Header": "splitcodec.bitstream",
    "Pack": "splitcodec.packs",
    "PictureCodec": "splitcodec.picture_codec",
    "Prompt": "splitcodec.prompts",
    "PromptStore": "splitcodec.prompts",
    "SplitcodecError": "splitcodec.errors",
    "load": "splitcodec.picture_codec",
    "load_pack": "splitcodec.packs",
    "parse": "splitcodec.bitstream",
    "serialize": "splitcodec.bitstream",
}

__all__ = [
    "Bitstream",
    "DecodedFeature",
    "EncodedFrame",
    "EncodedPicture",
    "FeatureDecoder",
    "FeatureEncoder",
    "Header",
    "Pack",
    "PictureCodec",
    "Prompt",
    "PromptStore",
    "SplitcodecError",
    "load",
    "load_pack",
    "parse",
    "serialize",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'splitcodec' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

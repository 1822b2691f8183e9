"""Pictures of a camera that does not move, one after the other: key frames, and frames that hold cells.

sending, receiving = StillCameraEncoder(codec), StillCameraDecoder(codec)
for picture in pictures:
    answer = receiving.decode(sending.encode(picture).bitstream)
"""

from __future__ import annotations

from typing import Final

from splitcodec.codec import LatentState
from splitcodec.codec.held import WORTH_OF_A_BIT
from splitcodec.picture import Image
from splitcodec.picture_codec import EncodedPicture, PictureCodec
from splitcodec.tasks import ResultLimits, TaskAnswer

KEY_FRAMES: Final = 50
"""Frames from one key frame to the next, by default."""


class StillCameraEncoder:
    """The sending end of one camera; for one thread."""

    def __init__(
        self,
        codec: PictureCodec,
        task: str = "detect",
        rate: float | None = None,
        key_frames: int = KEY_FRAMES,
        worth: float = WORTH_OF_A_BIT,
    ) -> None:
        """rate: as for PictureCodec.encode; key_frames: how many frames from one key frame to the next, 1 for
        key frames alone; worth: squared error of the latent, without gain, that a saved bit is worth.

        UnknownTask; SettingsError: the pack cannot hold cells.
        """
        codec.pack.check_holds()
        codec.pack.task(task)
        self._codec, self._task, self._rate = codec, task, rate
        self._key_frames, self._worth = key_frames, worth
        self._state: LatentState | None = None

    def encode(self, picture: Image) -> EncodedPicture:
        """Compresses the next picture, by itself if that is due or its size new. Raises as PictureCodec."""
        canvas = self._codec.canvas(picture, self._task)
        state = self._state
        size = (canvas.source_height, canvas.source_width)
        fits = state is not None and _size_of(state) == (*size, *canvas.pixels.shape[:2])
        if state is None or not fits or state.frames >= self._key_frames:
            prompt, rate = self._codec.pack.prompt(self._task), self._codec.rate_of(self._task, self._rate)
            frame = self._codec.encoder.compress(canvas.pixels, prompt, rate, size, chain=True)
        else:
            frame = self._codec.encoder.compress_held(canvas.pixels, state, self._worth)
        self._state = frame.state
        return EncodedPicture(frame.data, self._task, frame.rate, canvas, frame.importance, frame.held)

    def restart(self) -> None:
        """Let the next picture be a key frame: the other end has lost the chain."""
        self._state = None


class StillCameraDecoder:
    """The receiving end of one camera; for one thread."""

    def __init__(self, codec: PictureCodec) -> None:
        self._codec = codec
        self._state: LatentState | None = None

    def decode(self, bitstream: bytes, limits: ResultLimits | None = None) -> TaskAnswer:
        """Answers the next bitstream. Raises as PictureCodec, and StateMismatch: one before it is missing, so
        that it cannot be decoded; the state stays."""
        return self.answer(bitstream, limits)[1]

    def answer(self, bitstream: bytes, limits: ResultLimits | None = None) -> tuple[str, TaskAnswer]:
        """The task that the chain was made for, and what `decode` gives."""
        decoded = self._codec.decoder.decompress(bitstream, self._state)
        found = self._codec.answer_to(decoded, limits)
        self._state = decoded.state()
        return found


def _size_of(state: LatentState) -> tuple[int, int, int, int]:
    header = state.header
    return (header.source_height, header.source_width, header.network_height, header.network_width)

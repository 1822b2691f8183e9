"""A pack's codec as a system to measure, through the same encoder and decoder as the services."""

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.evaluation.systems import Sighting
from splitcodec.frame import Canvas
from splitcodec.packs import Pack
from splitcodec.prompts import Prompt
from splitcodec.runtime import Session, open_session

CODEC_NAME = "splitcodec"


class CodecSystem:
    """A pack's codec at one rate: the bytes that would travel, and the pack's own tail behind them."""

    codec = CODEC_NAME

    def __init__(
        self, rate: float, prompt: Prompt, encoder: FeatureEncoder, decoder: FeatureDecoder, tail: Session
    ) -> None:
        self.rate: float | None = rate
        self._rate = rate
        self._prompt = prompt
        self._encoder = encoder
        self._decoder = decoder
        self._tail = tail

    def look(self, canvas: Canvas) -> Sighting:
        """Compress, decompress, detect."""
        size = (canvas.source_height, canvas.source_width)
        frame = self._encoder.compress(canvas.pixels, self._prompt, self._rate, size)
        feature = self._decoder.decompress(frame.data).feature
        return Sighting(self._tail.run({"feature": feature}), len(frame.data))


def codec_systems(
    pack: Pack, task: str, rates: tuple[float, ...], engine: str, threads: int
) -> list[CodecSystem]:
    """One system per rate, all on the same sessions."""
    prompt = pack.prompt(task)
    encoder = FeatureEncoder(pack, engine=engine, threads=threads)
    decoder = FeatureDecoder(pack, engine=engine, threads=threads)
    tail = open_session(pack.tail_bytes(task), engine=engine, threads=threads)
    return [CodecSystem(rate, prompt, encoder, decoder, tail) for rate in rates]

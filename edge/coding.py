"""A picture file to a coded frame, in two steps with a thread each: reading overlaps encoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from edge.chains import ChainTurn
from edge.codec import Codec
from edge.links import Links
from edge.orders import FrameOrder, Orders
from edge.report import LastFrame
from edge.reporting import CodedFrame, frame_id, jpeg_size
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import OutgoingFrame
from edge.worker import Worker
from splitcodec.codec import EncodedFrame
from splitcodec.errors import GraphFailed, SigmaIndexMismatch
from splitcodec.frame import Canvas, read_canvas
from splitcodec.prompt_probation import FirstFrames
from splitcodec.prompts import Prompt


class FrameCoder:
    """Each step takes one frame at a time in the order they came, so seqs rise in the order of encoding."""

    def __init__(
        self,
        settings: EdgeSettings,
        codec: Codec,
        state: EdgeState,
        orders: Orders,
        links: Links,
        first_frames: FirstFrames,
    ) -> None:
        self._codec = codec
        self._state = state
        self._orders = orders
        self._first_frames = first_frames
        self._rates = links.rates
        self._limits = settings.picture_limits
        self._reading = Worker("read", settings.max_pending_frames)
        self._encoding = Worker("encode", settings.max_pending_frames)

    async def code(
        self,
        order: FrameOrder,
        picture: bytes,
        content_type: str | None,
        compared: Callable[[], bool],
        turn: ChainTurn | None,
    ) -> CodedFrame:
        """The frame of a picture file. compared: whether its size as a JPEG is asked for; turn: its place in
        a chain, None for a frame by itself.

        FrameError: no picture that can be taken. The prompt is the one that was active when the frame came,
        or the one that its camera is pinned to; UnknownPrompt: that one was retired in this very moment.
        """
        prompts = self._codec.prompts
        lease = prompts.lease(order.task) if order.prompt is None else prompts.lease_digest(order.prompt)
        with lease as prompt:
            canvas, read_s = await self._reading.run(lambda: self._read(order, prompt, picture, content_type))
            try:
                coded = await self._encoding.run(
                    lambda: self._encode(order, prompt, canvas, read_s, compared, turn)
                )
            except (GraphFailed, SigmaIndexMismatch) as error:
                self._first_frames.seen(prompt.wire_digest, error)
                raise
            self._first_frames.seen(prompt.wire_digest, None)
            return coded

    def close(self, patience_s: float) -> None:
        """See Worker.close."""
        for worker in (self._reading, self._encoding):
            worker.close(patience_s)

    def _read(
        self, order: FrameOrder, prompt: Prompt, picture: bytes, content_type: str | None
    ) -> tuple[Canvas, float]:
        started = time.perf_counter()
        canvas = read_canvas(
            picture, content_type, self._codec.inputs[prompt.digest].convention, self._limits
        )
        self._orders.served.admit(order.camera)
        return canvas, time.perf_counter() - started

    def _encode(
        self,
        order: FrameOrder,
        prompt: Prompt,
        canvas: Canvas,
        read_s: float,
        compared: Callable[[], bool],
        turn: ChainTurn | None,
    ) -> CodedFrame:
        encoded = self._compress(order, prompt, canvas, turn)
        self._rates.coded(order.camera, order.task, encoded.rate, encoded.num_bytes)
        frame = OutgoingFrame(
            device=self._state.device,
            camera=order.camera,
            seq=self._state.next_seq(order.camera),
            task=order.task,
            capture_time_nanos=order.capture_time_nanos,
            bitstream=encoded.data,
        )
        name, captured = frame_id(order.camera, frame.seq), order.capture_time_nanos / 1e9
        self._orders.served.coded(
            order.camera, LastFrame(name, captured, order.task, prompt.wire_digest.hex())
        )
        stages = {"decode": read_s, **encoded.stage_seconds}
        digest = self._codec.codec_digest[:16]
        jpeg_bytes = jpeg_size(canvas) if compared() else None
        return CodedFrame(frame, canvas, encoded, digest, prompt.wire_digest, stages, jpeg_bytes)

    def _compress(
        self, order: FrameOrder, prompt: Prompt, canvas: Canvas, turn: ChainTurn | None
    ) -> EncodedFrame:
        rate, again = order.rate, None
        if rate is None:
            again = partial(self._rates.lower_rate, order.camera, order.task)
            rate = self._rates.rate(order.camera, order.task, self._orders.default_rate)
        encoder, source_size = self._codec.encoder, (canvas.source_height, canvas.source_width)
        if turn is None:
            return encoder.compress(canvas.pixels, prompt, rate, source_size, again=again)
        state = turn.state_for(prompt, rate, canvas)
        if state is None:
            return encoder.compress(canvas.pixels, prompt, rate, source_size, chain=True)
        return encoder.compress_held(canvas.pixels, state)

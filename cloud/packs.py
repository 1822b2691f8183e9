"""Runs frames on real packs: the decoder of the frame's codec, the tail of its task.

Several packs live at once, and prompts come and go while frames run: the map of live prompts is replaced as a
whole, so a frame sees them all before a change or all after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

from cloud.live_prompts import LivePrompt, pack_prompt, published_prompt
from cloud.runner import Admission, PromptKey, ServedPrompt, not_served
from splitcodec.codec import FeatureDecoder, LatentState
from splitcodec.codec.decoding import header_of
from splitcodec.errors import PromptNotFound, PromptStateError
from splitcodec.packs import Pack
from splitcodec.packs.prompt_pack import PromptPack, cut_prompt_pack
from splitcodec.packs.schema import CodecSection
from splitcodec.tasks import ResultLimits


class PackRunner:
    """A FrameRunner and PromptHost over packs; packs of one codec share its decoder.

    Where two packs hold the same prompt, or the same task of one codec, the first one's comes first.
    """

    def __init__(self, packs: Sequence[Pack], engine: str, threads: int, limits: ResultLimits) -> None:
        """Opens the cloud graphs of every pack. Raises RuntimeUnavailable, GraphFailed, InvalidManifest."""
        self._engine = engine
        self._threads = threads
        self._limits = limits
        self._decoders: dict[str, FeatureDecoder] = {}
        self._live: Mapping[PromptKey, LivePrompt] = {}
        self._changing = Lock()
        for pack in packs:
            self._open(pack)

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt served now, sorted by task and digest."""
        rows = {
            (decoder.pack.wire_digest, bytes.fromhex(row.digest)[:8]): row
            for decoder in self._decoders.values()
            for row in decoder.store.list()
        }
        served = [
            live.served(rows[key].active, rows[key].leases) if key in rows else live.served(False)
            for key, live in self._live.items()
        ]
        return tuple(sorted(served, key=lambda prompt: (prompt.task, prompt.prompt_digest)))

    @property
    def holds(self) -> bool:
        """See FrameRunner."""
        return any(decoder.pack.holds for decoder in self._decoders.values())

    @contextmanager
    def admit(self, bitstream: bytes, state: LatentState | None = None) -> Iterator[Admission]:
        """The frame's task; frames of one prompt and one network size may share a batch.

        The frame keeps its prompt until the block ends. Raises BitstreamError, PackMismatch, UnknownPrompt or
        StateMismatch.
        """
        header = header_of(bitstream, state)
        live = self._named((header.codec_digest, header.prompt_digest))
        with live.lease():
            group = (live, header.network_height, header.network_width)
            yield Admission(bitstream, live.task, group, live.run, header.prompt_digest, state)

    def codecs(self) -> Mapping[str, CodecSection]:
        """See PromptHost."""
        return {digest: decoder.pack.manifest.codec for digest, decoder in self._decoders.items()}

    def stage(self, pack: PromptPack) -> None:
        """See PromptHost."""
        decoder = self._decoders[pack.manifest.codec_digest]
        key = (decoder.pack.wire_digest, pack.prompt.wire_digest)
        held = self._live.get(key)
        if held is not None and held.prompt.digest == pack.prompt.digest:
            if not _same_use(held, pack):
                raise PromptStateError(
                    f"prompt {pack.prompt.digest[:16]} is here already, with another input, labels or "
                    "postprocess; retire it before you publish it anew"
                )
            return
        live = published_prompt(pack, decoder, self._engine, self._threads, self._limits)
        decoder.store.stage(pack.prompt, warm=decoder.warm)
        with self._changing:
            self._live = {**self._live, key: live}

    def activate(self, codec_digest: bytes, prompt_digest: bytes) -> bytes:
        """See PromptHost."""
        live = self._held((codec_digest, prompt_digest))
        before = live.decoder.store.activate(live.prompt.digest)
        return b"" if before is None else bytes.fromhex(before)[:8]

    def retire(self, codec_digest: bytes, prompt_digest: bytes) -> None:
        """See PromptHost."""
        live = self._held((codec_digest, prompt_digest))
        live.decoder.store.retire(live.prompt.digest)
        with self._changing:
            self._live = {key: other for key, other in self._live.items() if other is not live}

    def cut(self, prompt_digest: bytes) -> bytes:
        """See PromptHost."""
        for (_, digest), live in self._live.items():
            if digest == prompt_digest and live.source is not None:
                return cut_prompt_pack(live.source, live.task)
        raise PromptNotFound(f"no pack here has prompt {prompt_digest.hex()}; see Prompts.List")

    def _open(self, pack: Pack) -> None:
        decoder = self._decoders.get(pack.codec_digest)
        if decoder is None:
            decoder = FeatureDecoder(pack, engine=self._engine, threads=self._threads)
            self._decoders[pack.codec_digest] = decoder
        all_live = dict(self._live)
        for task in pack.tasks:
            prompt = pack.prompt(task)
            decoder.store.stage(prompt, warm=decoder.warm)
            if task not in decoder.store.tasks():
                decoder.store.activate(prompt.digest)
            live = pack_prompt(pack, task, decoder, self._engine, self._threads, self._limits)
            all_live.setdefault(live.key, live)
        self._live = all_live

    def _held(self, key: PromptKey) -> LivePrompt:
        live = self._live.get(key)
        if live is None:
            raise PromptNotFound(f"prompt {key[1].hex()} is not here; see Prompts.List, or publish it")
        return live

    def _named(self, key: PromptKey) -> LivePrompt:
        live = self._live.get(key)
        if live is None:
            raise not_served(key, {one: other.task for one, other in self._live.items()})
        return live


def _same_use(live: LivePrompt, pack: PromptPack) -> bool:
    """Whether a prompt pack says the same about a prompt as the one that lives, file names aside."""
    here, there = live.section, pack.manifest.section
    return (here.input, here.labels, here.postprocess) == (there.input, there.labels, there.postprocess)

"""Runs frames on real packs: the decoder of the frame's codec, the tail of its task.

Several packs live at once, and prompts come and go while frames run: the rooms are replaced as a whole, so a
frame sees them all before a change or all after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock

from cloud.blame import answer_each
from cloud.rooms import TaskRoom, pack_room, published_room
from cloud.runner import Admission, ServedPrompt, TaskOutput
from splitcodec.bitstream import parse
from splitcodec.codec import FeatureDecoder
from splitcodec.errors import (
    PackMismatch,
    PromptNotFound,
    PromptStateError,
    SplitcodecError,
    UnknownPrompt,
)
from splitcodec.packs import Pack
from splitcodec.packs.prompt_pack import PromptPack, cut_prompt_pack
from splitcodec.packs.schema import CodecSection
from splitcodec.tasks import ResultLimits

Key = tuple[bytes, bytes]


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
        self._rooms: Mapping[Key, TaskRoom] = {}
        self._changing = Lock()
        for pack in packs:
            self._open(pack)

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt served now, sorted by task and digest."""
        active = {
            (decoder.pack.wire_digest, bytes.fromhex(row.digest)[:8])
            for decoder in self._decoders.values()
            for row in decoder.store.list()
            if row.active
        }
        served = [room.served(key in active) for key, room in self._rooms.items()]
        return tuple(sorted(served, key=lambda prompt: (prompt.task, prompt.prompt_digest)))

    def admit(self, bitstream: bytes) -> Admission:
        """The frame's task; frames of one prompt and one network size may share a batch.

        Raises BitstreamError, PackMismatch or UnknownPrompt.
        """
        header = parse(bitstream).header
        room = self._room((header.codec_digest, header.prompt_digest))
        group = (header.codec_digest, header.prompt_digest, header.network_height, header.network_width)
        return Admission(room.task, group)

    def run(self, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
        """Decode, run the tail once for all, and postprocess each; a bad frame's answer is its own error.

        UndecodableFrame if the graphs fail on that frame alone, GraphFailed if they fail on any.
        """
        header = parse(bitstreams[0]).header
        room = self._room((header.codec_digest, header.prompt_digest))
        return answer_each(room.answer, bitstreams, lambda _: room.probe())

    def codecs(self) -> Mapping[str, CodecSection]:
        """See PromptHost."""
        return {digest: decoder.pack.manifest.codec for digest, decoder in self._decoders.items()}

    def stage(self, pack: PromptPack) -> None:
        """See PromptHost."""
        decoder = self._decoders[pack.manifest.codec_digest]
        key = (decoder.pack.wire_digest, pack.prompt.wire_digest)
        held = self._rooms.get(key)
        if held is not None and held.prompt.digest == pack.prompt.digest:
            if not _same_use(held, pack):
                raise PromptStateError(
                    f"prompt {pack.prompt.digest[:16]} is here already, with another input, labels or "
                    "postprocess; retire it before you publish it anew"
                )
            return
        room = published_room(pack, decoder, self._engine, self._threads, self._limits)
        decoder.store.stage(pack.prompt, warm=decoder.warm)
        with self._changing:
            self._rooms = {**self._rooms, key: room}

    def activate(self, codec_digest: bytes, prompt_digest: bytes) -> bytes:
        """See PromptHost."""
        room = self._held((codec_digest, prompt_digest))
        before = room.decoder.store.activate(room.prompt.digest)
        return b"" if before is None else bytes.fromhex(before)[:8]

    def retire(self, codec_digest: bytes, prompt_digest: bytes) -> None:
        """See PromptHost."""
        room = self._held((codec_digest, prompt_digest))
        room.decoder.store.retire(room.prompt.digest)
        with self._changing:
            self._rooms = {key: other for key, other in self._rooms.items() if other is not room}

    def cut(self, prompt_digest: bytes) -> bytes:
        """See PromptHost."""
        for (_, digest), room in self._rooms.items():
            if digest == prompt_digest and room.source is not None:
                return cut_prompt_pack(room.source, room.task)
        raise PromptNotFound(f"no pack here has prompt {prompt_digest.hex()}; see Prompts.List")

    def _open(self, pack: Pack) -> None:
        decoder = self._decoders.get(pack.codec_digest)
        if decoder is None:
            decoder = FeatureDecoder(pack, engine=self._engine, threads=self._threads)
            self._decoders[pack.codec_digest] = decoder
        rooms = dict(self._rooms)
        for task in pack.tasks:
            prompt = pack.prompt(task)
            decoder.store.stage(prompt, warm=decoder.warm)
            if task not in decoder.store.tasks():
                decoder.store.activate(prompt.digest)
            room = pack_room(pack, task, decoder, self._engine, self._threads, self._limits)
            rooms.setdefault(room.key, room)
        self._rooms = rooms

    def _held(self, key: Key) -> TaskRoom:
        room = self._rooms.get(key)
        if room is None:
            raise PromptNotFound(f"prompt {key[1].hex()} is not here; see Prompts.List, or publish it")
        return room

    def _room(self, key: Key) -> TaskRoom:
        room = self._rooms.get(key)
        if room is not None:
            return room
        codec_digest, prompt_digest = key
        codecs = sorted({codec.hex() for codec, _ in self._rooms})
        if codec_digest.hex() not in codecs:
            raise PackMismatch(
                f"bitstream was made with codec {codec_digest.hex()}, this cloud holds {', '.join(codecs)}; "
                "deploy that pack here or re-encode with one of these"
            )
        prompts = sorted(f"{prompt.hex()} ({room.task})" for (_, prompt), room in self._rooms.items())
        raise UnknownPrompt(
            f"bitstream was made with prompt {prompt_digest.hex()}, this cloud holds {', '.join(prompts)}; "
            "publish that prompt here or re-encode with one of these"
        )


def _same_use(room: TaskRoom, pack: PromptPack) -> bool:
    """Whether a prompt pack says the same about a prompt as its room does, file names aside."""
    here, there = room.section, pack.manifest.section
    return (here.input, here.labels, here.postprocess) == (there.input, there.labels, there.postprocess)

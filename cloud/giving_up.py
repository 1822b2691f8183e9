"""A prompt whose first frames fail here is given up: its task goes back to the one before."""

from __future__ import annotations

from cloud.catalogue import PromptCatalogue
from cloud.metrics import CloudMetrics
from splitcodec.errors import SplitcodecError


class GivingUp:
    """Called with the 8 bytes of a prompt and what failed; see FirstFrames. For one event loop."""

    def __init__(self, catalogue: PromptCatalogue, metrics: CloudMetrics) -> None:
        self._catalogue = catalogue
        self._metrics = metrics

    async def __call__(self, digest: bytes, error: SplitcodecError) -> None:
        """PromptNotFound: there is no way back, the prompt stays active."""
        for prompt in self._catalogue.prompts():
            if prompt.prompt_digest == digest and prompt.active:
                await self._catalogue.roll_back(prompt.task, prompt.codec_digest)
                reason = f"its first frames fail: {error}"
                self._catalogue.ledger.note(prompt.task, digest.hex(), "failed", reason)
                self._metrics.prompt_swaps.labels("rolled_back").inc()

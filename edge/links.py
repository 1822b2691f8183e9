"""The parts that carry frames to the cloud, put together: spool, outbox, rate control, delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edge.chains import Chains
from edge.delivery import Delivery
from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.posts import Posts
from edge.rate_control import RateControl
from edge.replies import Replies
from edge.sending import Sender
from edge.settings import EdgeSettings
from edge.spool import Spool
from edge.spool_log import SpoolLog
from edge.state import EdgeState
from edge.uplink import Uplink
from splitcodec.errors import SpoolUnavailable
from splitcodec.rate_control import RatePoints


@dataclass(frozen=True)
class Links:
    """What the pipeline needs of the way to the cloud."""

    uplink: Uplink
    outbox: Outbox
    replies: Replies
    rates: RateControl
    delivery: Delivery
    sender: Sender
    chains: Chains
    posts: Posts


@asynccontextmanager
async def open_links(
    settings: EdgeSettings,
    points: Mapping[str, RatePoints],
    max_rate: float,
    uplink: Uplink,
    state: EdgeState,
    metrics: EdgeMetrics,
) -> AsyncIterator[Links]:
    """Frames that are on disk begin to leave at once; what is still owed at the end stays on disk.

    points: bytes against rate of each task; max_rate: the highest of the pack.
    """
    spool = SpoolLog(Spool(settings.state_dir, settings.spool_limits, metrics), metrics)
    try:
        await state.open(spool)
        outbox = Outbox(spool)
        rates = RateControl(settings, points, max_rate, metrics, outbox.backlog_bytes)
        replies = Replies(outbox, metrics, settings.refusal_patience_s)
        delivery = Delivery(uplink, outbox, replies, rates, metrics, settings.deadline_s)
        chains = Chains(metrics, settings.key_interval_s)
        replies.on_given_up = lambda camera: chains.restart(camera, "refused")
        sender, posts = Sender(outbox), await _known_posts(spool)
        links = Links(uplink, outbox, replies, rates, delivery, sender, chains, posts)
        delivery.start()
        try:
            yield links
        finally:
            await delivery.stop()
    finally:
        await state.settle()
        await spool.stop()


async def _known_posts(spool: SpoolLog) -> Posts:
    """With the keys that were kept; none where the disk does not tell them."""
    try:
        return Posts(await spool.run(lambda opened: opened.posts()))
    except SpoolUnavailable:
        return Posts()

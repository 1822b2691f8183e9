"""The one room that orders the steps of the codec: canvas -> bitstream on the edge, -> feature in the cloud.

Letters in its docstrings: N batch; H, W network size; h = H/16, w = W/16; hz = ceil(h/4), wz = ceil(w/4);
Cy latent, Cz hyper-latent and Ch feature channels, from the pack's manifest.
"""

from splitcodec.codec.decoder import CLOUD_STAGES, FeatureDecoder
from splitcodec.codec.decoding import DecodedFeature
from splitcodec.codec.encoder import EDGE_STAGES, Again, EncodedFrame, FeatureEncoder
from splitcodec.codec.held import MAX_CHAIN_FRAMES, LatentState

__all__ = [
    "CLOUD_STAGES",
    "EDGE_STAGES",
    "MAX_CHAIN_FRAMES",
    "Again",
    "DecodedFeature",
    "EncodedFrame",
    "FeatureDecoder",
    "FeatureEncoder",
    "LatentState",
]

"""Which picture codecs a run measures: the standard ones, some of them, VVC where there is an encoder."""

from collections.abc import Sequence

from splitcodec.errors import SettingsError
from splitcodec.evaluation.anchors import Anchor, standard_anchors
from splitcodec.evaluation.vvc import open_vvc

VVC = "vvc"


def chosen_anchors(names: Sequence[str] | None) -> tuple[Anchor, ...]:
    """The picture codecs of these names, in the standard order, each once; None: the standard ones.

    VVC is measured only by name. SettingsError: an unknown name. RuntimeUnavailable: VVC without an encoder.
    """
    standard = tuple(standard_anchors())
    if names is None:
        return standard
    known = [*(anchor.name for anchor in standard), VVC]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(f"--anchors names {unknown}; known: {', '.join(known)}")
    chosen = [anchor for anchor in standard if anchor.name in names]
    return (*chosen, open_vvc()) if VVC in names else tuple(chosen)

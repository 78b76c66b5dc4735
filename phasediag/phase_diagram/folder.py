"""The study of a phase diagram's folder without the checks of the spec, for code that only reads."""

from __future__ import annotations

from ..errors import InputError
from ..kinds import require_study
from ..storage.store import Store
from .theory import LAYERS


def depth_and_name(store: Store) -> tuple[int, str]:
    """Depth and name of the study, without the checks of the spec that it has passed long ago."""
    require_study(store)
    document, source = store.read_document() or {}, store.name("study.toml")
    try:
        depth, name = int(document["network"]["depth"]), str(document["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a study ({type(error).__name__}: {error})") from None
    if depth not in LAYERS:
        raise InputError(
            f"{source}: network.depth: {depth} is not supported; allowed: {', '.join(map(str, LAYERS))}"
        )
    return depth, name

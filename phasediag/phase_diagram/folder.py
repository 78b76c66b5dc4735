"""The study of a folder of the plane without the checks of the spec, for code that only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InputError
from ..kinds import require_study
from ..storage.store import Store
from .theory import LAYERS


class Networks(NamedTuple):
    """The networks of a folder.

    Attributes:
        depth: layers of weights; 0 of torch modules, of which nothing is predicted.
        layers: their names, from the input to the output.
    """

    depth: int
    layers: tuple[str, ...]


def networks_of(document: Mapping[str, Any]) -> Networks:
    """The networks of a study, from the content of its `study.toml`.

    Raises:
        KeyError: it has neither a depth that is known nor layers.
    """
    network = document["network"]
    if "layers" in network:
        return Networks(0, tuple(map(str, network["layers"])))
    depth = int(network["depth"])
    return Networks(depth, LAYERS[depth])


def networks_in(store: Store) -> Networks:
    """The networks of the study in a folder, without the checks of the spec that it has passed long ago.

    Raises:
        InputError: the folder holds no study, or none of such networks.
    """
    require_study(store)
    document, source = store.read_document() or {}, store.name("study.toml")
    try:
        return networks_of(document)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: not a study ({type(error).__name__}: {error})") from None

"""Studies side by side: what differs in their specs, and in what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError, one_line
from ...kinds import Compared, kind_in
from ...storage.store import Store

_ITEMS_SHOWN = 6


def spec_differences(documents: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The keys of specs whose values differ: of each the key, and a value, as text, for every spec; empty where a spec lacks the key."""
    flat = [dict(_flat(document)) for document in documents]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [[key, *(one.get(key, "") for one in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        items = [f"({_text(item)})" if isinstance(item, list) else _text(item) for item in value]
        if len(items) > _ITEMS_SHOWN:
            items = [*items[: _ITEMS_SHOWN - 2], "…", f"{items[-1]} ({len(items)})"]
        return ", ".join(items)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.10g}"
    return value if isinstance(value, str) else json.dumps(value)


def compared(a: Store, b: Store) -> Compared | str:
    """What differs between what two studies measured where they have the same jobs, or why they cannot be compared."""
    try:
        kind = kind_in(a)
        if kind_in(b).name != kind.name:
            return "They are of different kinds."
        return kind.compare(a, b, common=True)
    except InputError as error:
        return one_line(error)

"""From TOML to a valid spec and back, for all kinds of study.

The result of `validate` is frozen and valid, so nothing downstream checks again. `format_spec` writes the normal form of a spec, which
parses to an equal one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from ..errors import InputError
from .tables import Table, explain

_TableT = TypeVar("_TableT", bound=Table)


def parse_document(text: str, source: str) -> dict[str, Any]:
    """The content of the TOML `text` of the file `source`; raises `InputError` if it is not TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid TOML: {' '.join(str(error).split())}") from None


def validate(document: Mapping[str, Any], spec: type[_TableT], source: str) -> _TableT:
    """The spec that a document holds, with every default filled in.

    Args:
        document: the content of the file.
        spec: what it has to be.
        source: the name of the file, for error messages.

    Raises:
        InputError: it holds something that is not allowed. The message is one line that names the file, the key and what is
            allowed; with several mistakes it describes one and counts the others.
    """
    try:
        return spec.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(spec, error.errors(include_url=False))}") from None


def format_spec(document: Mapping[str, Any]) -> str:
    """The normal form of a spec as TOML: every default explicit, axes as sorted lists, each array on one line."""
    toml = tomli_w.dumps(document)
    # Line breaks inside brackets are layout only: those of strings are escaped.
    toml = re.sub(r"(?<=\[)\n\s+|,?\n\s*(?=\])", "", toml)
    return re.sub(r",\n\s+", ", ", toml)

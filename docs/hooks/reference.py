"""Fills the pages of the reference from the code: a line `<!-- generated: NAME ARGUMENTS -->` becomes what the function NAME returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

import phasediag
from phasediag import kinds
from phasediag.cli import app
from phasediag.spec.tables import Table
from phasediag.storage.schema import Column

MARKER = re.compile(r"^<!-- generated: (?P<name>\w+) ?(?P<arguments>.*) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return MARKER.sub(lambda found: GENERATORS[found["name"]](*found["arguments"].split()), markdown)


def starter(kind: str) -> str:
    """The commented spec that `phasediag init` writes."""
    return f"```toml\n{kinds.named(kind).starter()}```\n"


def spec(kind: str) -> str:
    """A section for every table of a spec, with its keys."""
    top, sections = [], []
    for key, field in kinds.named(kind).spec().model_fields.items():
        options = [one for one in (field.annotation, *get_args(field.annotation)) if _is_table(one)]
        if not options:
            top.append(_key(key, field))
        elif key != "more_grids":  # programs write it
            sections += [_section(key, field, option, several=len(options) > 1) for option in options]
    return "\n".join([_table(("key", "allowed", "default"), top), *sections])


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)


def _section(name: str, home: Any, table: type[Table], several: bool) -> str:
    """A table of a spec: its title, what it is for, its keys; `home` is the field that holds it, one of `several` tables or not."""
    kinds = get_args(table.model_fields["kind"].annotation) if several else ()
    title = f"### `[{name}]`" + "".join(f', `kind = "{kind}"`' for kind in kinds)
    filled = home.default_factory is dict  # what is left out is chosen when the spec is read
    rows = [
        _key(key, field, filled)
        for key, field in table.model_fields.items()
        if not (several and key == "kind")
    ]
    told = [one.__doc__ for one in table.__mro__ if _is_table(one) and one is not Table]
    prose = _prose("\n\n".join(filter(None, told))) + (
        "" if home.is_required() else " The table may be left out."
    )
    return f"{title}\n\n{prose}\n\n{_table(('key', 'allowed', 'default'), rows)}"


def _key(key: str, field: Any, filled: bool = False) -> tuple[str, str, str]:
    required = field.is_required() and not filled
    return f"`{key}`", field.description, "required" if required else _default(field.default)


def _default(value: Any) -> str:
    """A default as TOML has it; one that depends on other keys is told in the text."""
    if value is None or repr(value) == "PydanticUndefined":
        return "see above"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else repr(value)}`".replace("'", '"')


def columns(kind: str, table: str) -> str:
    """The columns of a table, with their types and units."""
    declared = kinds.named(kind).tables.by_name()[table]
    rows = [(f"`{column.name}`", _type(column.type), _told(column)) for column in declared]
    return _table(("column", "type", "meaning"), rows)


def _told(column: Column) -> str:
    """What a column holds, with the unit of its numbers at the end."""
    return f"{column.meaning}, in {column.unit}" if column.unit else column.meaning


def _type(arrow: Any) -> str:
    """An Arrow type in short: `list of float`."""
    if hasattr(arrow, "value_type"):
        inner = _type(arrow.value_type)
        return f"rows of {inner.removeprefix('list of ')}" if inner.startswith("list") else f"list of {inner}"
    return {"string": "text", "double": "float64", "float": "float32"}.get(str(arrow), str(arrow))


def commands() -> str:
    """A section for every command, with its arguments and options."""
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name="phasediag")
    sections = [
        _command(group.get_command(context, name), name, context) for name in group.list_commands(context)
    ]
    return "\n".join(sections)


def _command(command: Any, name: str, parent: Any) -> str:
    context = command.context_class(command, info_name=name, parent=parent)
    prose, _, examples = command.help.partition("\b\n")
    examples = "\n".join(line.removeprefix("  ") for line in examples.splitlines()[1:])  # without "Example:"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [(f"`{left}`", _prose(right)) for left, right in records if "--help" not in left]
    return f"## {name}\n\n{_prose(prose)}\n\n{_table(('argument or option', 'meaning'), rows)}\n```sh\n{examples}\n```\n"


def python() -> str:
    """The public names, documented where they are defined."""
    return "\n".join(_public())


def _public() -> Iterator[str]:
    for name in sorted(phasediag.__all__, key=str.swapcase):  # functions first
        found = getattr(phasediag, name)
        if not name.startswith("_"):
            yield f"::: {found.__module__}.{name}\n"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _prose(text: str | None) -> str:
    """Running text of a docstring."""
    return (
        "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n")).replace("``", "`").strip()
    )


GENERATORS = {one.__name__: one for one in (starter, spec, columns, commands, python)}

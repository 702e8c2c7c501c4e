"""The reference of the kinds as Markdown, from the same schemas that read the documents.

`.ci/reference` puts it into docs/configuration.md.
"""

from collections.abc import Iterable, Iterator

from lbspeaker.config.addresses import IP, RangeOrCidr
from lbspeaker.config.kinds import AUTHORED, KINDS, METALLB, METALLB_2, OURS, WRITTEN_BY_US, Kind
from lbspeaker.config.schema import Field, ListOf, Made, Record, Schema, TextMap
from lbspeaker.config.selectors import LABEL_SELECTOR
from lbspeaker.config.values import Choice, Duration, Flag, Text, Whole

Row = tuple[str, ...]


def table(*rows: Row) -> str:
    """Return a table of Markdown, the first row as its head."""
    head, *others = rows
    return "\n".join(map(_line, (head, ("---",) * len(head), *others)))


def kinds() -> str:
    """Return a section for each kind that people write, and one for those that programs write."""
    return "\n\n".join([*map(_section, AUTHORED), _written_by_us()])


def selectors() -> str:
    """Return the table of what a label selector has."""
    inner = LABEL_SELECTOR.schema
    assert isinstance(inner, Record)
    return table(("field", "type", "default", "meaning"), *(row[:4] for row in _rows(inner, inner)))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _section(kind: Kind) -> str:
    theirs = kind.versions.get(METALLB_2) or kind.versions.get(METALLB)
    served = ", ".join(f"`{version}`" for version in kind.versions)
    about = f"{kind.description}\n\nRead as {served}; `kubectl explain {kind.short}.spec`."
    head = ("field of `spec`", "type", "default", "meaning", "")
    return f"### {kind.name}\n\n{about}\n\n{table(head, *_rows(kind.versions[OURS], theirs))}"


def _written_by_us() -> str:
    lines = [
        f"* **{name}** (`{KINDS[name].short}`): {KINDS[name].description}" for name in sorted(WRITTEN_BY_US)
    ]
    return "\n".join(["### Written by the programs", "", *lines])


def _rows(ours: Record, theirs: Record | None, path: str = "") -> Iterator[Row]:
    """A row for each field, and for what is in it; `theirs`: the same mapping of MetalLB, if it has it."""
    for key, field in ours.fields.items():
        known = theirs.fields.get(key) if theirs else None
        whose = "as MetalLB" if known else "lbspeaker only"
        yield f"`{path}{key}`", _type(field.schema), _default(field), _meaning(field), whose
        inner = _within(field.schema)
        if inner is not None:
            deeper = f"{path}{key}[]." if isinstance(field.schema, ListOf) else f"{path}{key}."
            yield from _rows(inner, _within(known.schema) if known else None, deeper)


def _within(schema: Schema) -> Record | None:
    """The mapping in a field that has rows of its own; label selectors have a section."""
    if schema is LABEL_SELECTOR:
        return None
    if isinstance(schema, ListOf):
        return _within(schema.item)
    if isinstance(schema, Made):
        return _within(schema.schema)
    return schema if isinstance(schema, Record) else None


def _default(field: Field) -> str:
    if field.required:
        return "required"
    if field.absent or field.default in (None, ()):
        return field.absent or "–"
    return f"`{str(field.default).lower()}`" if isinstance(field.default, bool) else f"`{field.default}`"


def _meaning(field: Field) -> str:
    if not field.unserved:
        return field.description
    return f"{field.description} {'Ignored' if field.ignored else 'Refused'}: {field.unserved}."


def _type(schema: Schema) -> str:
    """What may be written, in a few words."""
    if schema is LABEL_SELECTOR:
        return "[label selector](#label-selectors)"
    match schema:
        case ListOf():
            return f"list: {_type(schema.item)}"
        case Made():
            return _type(schema.schema)
        case Record():
            return "mapping"
        case TextMap():
            return "mapping of text to text"
        case Flag():
            return "`true`, `false`"
        case Choice():
            return ", ".join(f'`"{word}"`' if word == "off" else f"`{word}`" for word in schema.words)
        case Whole():
            return f"whole number, {schema.low} to {schema.high}"
        case Duration():
            return "duration: `90s`, `1m30s`"
        case IP():
            family = f"IPv{schema.family} " if schema.family else ""
            word = f"`{schema.instead}`, or " if schema.instead else ""
            return f"{word}{family}address{' of a host' if schema.host else ''}"
        case RangeOrCidr():
            return "range, or network"
        case Text(form=form):
            return f"text: {form}" if form else "text"
    return "anything"

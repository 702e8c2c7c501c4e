"""YAML text → plain values, each with its line. What it means is not decided here.

Scalars are read as kubectl reads them (YAML 1.1 without sexagesimal numbers and timestamps), so that
`64512:31` is text here as it is in the cluster. Nothing is constructed but text, numbers, truth values,
lists and mappings with keys that are text.

Hostile text is bounded: size and nesting of a document, and its nodes, of which an alias counts as many
as it stands for. Each document is read on its own, so that a broken one leaves the others alone.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_CHARACTERS = 10_000_000
MAX_NODES = 250_000
MAX_DEPTH = 50

Path = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARKER = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_NULLS = {"", "~", "null", "Null", "NULL"}
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_WHOLE = re.compile(r"[-+]?(0[xX][0-9a-fA-F]{1,16}|0[oO]?[0-7]{1,21}|0b[01]{1,63}|0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_SHORT = 64  # no number is longer
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null", "map", "seq", "merge")}
_TEXT_TAGS = {"!", "tag:yaml.org,2002:str"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong in the text itself; `line` counts from 1."""

    line: int
    path: Path
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """One document: its value, the line of every path in it, and the mistakes (then the value is partial)."""

    value: object
    lines: dict[Path, int]
    mistakes: list[Mistake]


def compose(text: str) -> Iterator[Composed]:
    """Yield every document of `text` that is not empty. Never raises: what is wrong is a mistake."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    bounds = [0, *starts, len(text)]
    line = 0  # lines before this part
    for begin, end in itertools.pairwise(bounds):
        part = text[begin:end]
        if end - begin > MAX_CHARACTERS:
            what = f"the document has {end - begin} characters; at most {MAX_CHARACTERS} are read"
            yield Composed(None, {(): line + 1}, [Mistake(line + 1, (), what, "split it with lines of ---")])
        elif part.startswith("---") or not _only_preamble(part):
            yield from _documents(part.lstrip("\ufeff"), line)
        line += part.count("\n")


def _only_preamble(part: str) -> bool:
    """Whether there is nothing before the first `---` but comments and directives."""
    return all(not line.strip("\ufeff \t\r") or line.lstrip("\ufeff")[0] in "#%" for line in part.split("\n"))


def _documents(part: str, offset: int) -> Iterator[Composed]:
    builder = _Builder(offset)
    try:
        for event in yaml.parse(part, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(offset)
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder.value is not None or builder.mistakes:
                    yield Composed(builder.value, builder.lines, builder.mistakes)
                builder = _Builder(offset)
            else:
                builder.add(event)
    except _Broken as broken:
        yield Composed(None, builder.lines, [*builder.mistakes, broken.mistake])
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        mistake = _syntax_mistake(error, part, offset)
        yield Composed(None, {(): mistake.line}, [*builder.mistakes, mistake])


def _syntax_mistake(error: Exception, part: str, offset: int) -> Mistake:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        number = mark.line if mark else 0
        lines = part.split("\n")
        tabbed = number < len(lines) and lines[number].lstrip(" ").startswith("\t")
        hint = (
            "indent with spaces, not with tabs"
            if tabbed
            else "look at the indentation, colons and quotes here"
        )
        what = ", ".join(str(words) for words in (error.context, error.problem) if words)
        return Mistake(offset + number + 1, (), f"this is not YAML: {what}", hint)
    position = getattr(error, "position", getattr(error, "start", 0))
    line = offset + part[:position].count("\n") + 1
    return Mistake(
        line, (), "this is not YAML: a character that text may not have", "remove it, or save as UTF-8"
    )


class _Broken(Exception):
    """The document cannot be read to its end."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.what)
        self.mistake = mistake


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    value: dict[str, object] | list[object]
    path: Path
    anchor: str | None
    before: int  # nodes of the document before this one
    height: int = 1  # levels in it
    key: str | None = None
    merges: list[dict[str, object]] = field(default_factory=list)


class _Builder:
    """Builds one document from the parser's events."""

    def __init__(self, offset: int) -> None:
        self.value: object = None
        self.lines: dict[Path, int] = {}
        self.mistakes: list[Mistake] = []
        self._offset = offset + 1
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[object, int, int]] = {}  # value, nodes, levels
        self._nodes = 0

    def add(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _line(self, event: yaml.Event) -> int:
        return self._offset + (event.start_mark.line if event.start_mark else 0)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        top = self._stack[-1] if self._stack else None
        line = self._line(event)
        value = self._resolved(event, line)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1, 0)
        if top is not None and isinstance(top.value, dict) and top.key is None:
            merge = event.value == "<<" and event.implicit[0]
            self._key(top, "<<" if merge else _key_text(value), line, merge)
        else:
            self._count(1, line)
            self._attach(value, self._place(line), 0)

    def _resolved(self, event: yaml.ScalarEvent, line: int) -> object:
        if event.tag in _TEXT_TAGS or (event.tag is None and not event.implicit[0]):
            return event.value
        if event.tag is None or event.tag in _TAGS:
            return resolve(event.value)
        raise self._broken(line, f"the tag {event.tag} means nothing in these documents", "remove the tag")

    def _key(self, top: _Open, key: str, line: int, merge: bool) -> None:
        path = (*top.path, key)
        assert isinstance(top.value, dict)
        if key in top.value and not merge:
            first = self.lines[path]
            what = f"the key is given twice, first on line {first}"
            self.mistakes.append(Mistake(line, path, what, "keep one of the two"))
        self.lines[path] = line
        top.key = key

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        line = self._line(event)
        if event.tag is not None and event.tag not in _TAGS and event.tag != "!":
            raise self._broken(
                line, f"the tag {event.tag} means nothing in these documents", "remove the tag"
            )
        self._count(1, line)
        path = self._place(line)
        self._check_depth(1, line)
        value: dict[str, object] | list[object] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, path, event.anchor, self._nodes - 1))

    def _close(self) -> None:
        done = self._stack.pop()
        if isinstance(done.value, dict):
            for merged in done.merges:
                for key, value in merged.items():
                    done.value.setdefault(key, value)
        if done.anchor:
            self._anchors[done.anchor] = (done.value, self._nodes - done.before, done.height)
        self._attach(done.value, done.path, done.height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line = self._line(event)
        if event.anchor not in self._anchors:
            what = f"*{event.anchor} stands for nothing: no &{event.anchor} comes before it"
            raise self._broken(line, what, f"mark the first use with &{event.anchor}")
        value, nodes, height = self._anchors[event.anchor]
        self._count(nodes, line)
        self._check_depth(height, line)
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(top, _key_text(value), line, merge=False)
        else:
            self._attach(value, self._place(line), height)

    def _place(self, line: int) -> Path:
        """The path of the value that begins here; a value in a mapping has the line of its key."""
        if not self._stack:
            self.lines[()] = line
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            path = (*top.path, len(top.value))
            self.lines[path] = line
            return path
        if top.key is None:
            raise self._broken(line, "a mapping or list cannot be a key", "write the key as text")
        return (*top.path, top.key)

    def _attach(self, value: object, path: Path, height: int) -> None:
        if not self._stack:
            self.value = value
            return
        top = self._stack[-1]
        top.height = max(top.height, height + 1)
        if isinstance(top.value, list):
            top.value.append(value)
            return
        assert top.key is not None
        if top.key == "<<" and "<<" not in top.value and self._merge(top, value):
            pass
        else:
            top.value[top.key] = value
        top.key = None

    def _merge(self, top: _Open, value: object) -> bool:
        """Whether `value` is what `<<` takes: a mapping, or a list of mappings."""
        given = value if isinstance(value, list) else [value]
        mappings = [mapping for mapping in given if isinstance(mapping, dict)]
        if not mappings or len(mappings) < len(given):
            return False
        top.merges += mappings
        return True

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            what = (
                f"the document has more than {MAX_NODES} values (what an alias stands for counts each time)"
            )
            raise self._broken(line, what, "split it into several documents; write out what the aliases mean")

    def _check_depth(self, levels: int, line: int) -> None:
        if len(self._stack) + levels > MAX_DEPTH:
            what = f"values are nested deeper than {MAX_DEPTH} levels"
            raise _Broken(Mistake(line, (), what, "look for a bracket too many"))

    def _broken(self, line: int, what: str, hint: str) -> _Broken:
        path = self._stack[-1].path if self._stack else ()
        return _Broken(Mistake(line, path, what, hint))


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar means to kubectl."""
    if text in _NULLS:
        return None
    first = text[0]
    if first in "tTfFyYnNoO" and len(text) <= 5:
        flag = _FLAGS.get(text.lower())
        if flag is not None and text in (text.lower(), text.upper(), text.capitalize()):
            return flag
    elif (first.isdigit() or first in "+-.") and len(text) <= _SHORT:
        if _WHOLE.fullmatch(text):
            return _whole(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
    return text


def _whole(text: str) -> int:
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    number = int(digits, 8) if octal else int(digits, 0)
    return -number if text[0] == "-" else number


def _key_text(value: object) -> str:
    """Keys are text: `8080:` is "8080" and `on:` is "true", as kubectl has it."""
    if isinstance(value, str):
        return value
    return {None: "null", True: "true", False: "false"}.get(value) or str(value)  # type: ignore[call-overload]

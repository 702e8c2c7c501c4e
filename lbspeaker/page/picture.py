"""The cluster as a picture: routers, segments, the nodes on them, and the service IPs that they answer for.

What is a colour here is a word, too; and all of it stands in the tables below, which are for those who cannot
see it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from lbspeaker.core.pools import slot_of
from lbspeaker.observe.overview import Overview, SpeakerRow
from lbspeaker.page.markup import Element, e
from lbspeaker.page.rates import Segment

WIDTH = 1000
_NODES_A_ROW, _MOST_NODES = 5, 40
_MOST_IPS, _MOST_ROUTERS = 4, 5
_GAP, _LINE = 16, 17
_ROUTER = (180, 46)
_PAD = 10
_UNKNOWN = "segment unknown"


@dataclass(frozen=True, slots=True)
class _Node:
    row: SpeakerRow
    ips: Sequence[str]
    sessions: tuple[int, int]  # that are up, of all

    @property
    def lines(self) -> list[str]:
        up, all_ = self.sessions
        more = len(self.ips) - _MOST_IPS
        return [
            self.row.state if self.row.alive else f"{self.row.state}!",
            *([f"BGP {up} of {all_} up"] if all_ else []),
            *self.ips[: _MOST_IPS if more else None],
            *([f"and {more} more"] if more > 0 else []),
        ]


def picture(found: Overview, segments: Iterable[Segment]) -> Element:
    """Return the picture."""
    drawn: list[Element] = []
    y = 0.0
    routers = _routers(found)
    if routers:
        drawn += _row_of_routers(routers)
        y += _ROUTER[1] + 2 * _GAP
    for name, nodes in _placed(found, segments):
        drawn += _segment(name, nodes[:_MOST_NODES], y, above=bool(routers))
        y += _height(nodes[:_MOST_NODES]) + _GAP
        if len(nodes) > _MOST_NODES:
            drawn.append(e("text", f"and {len(nodes) - _MOST_NODES} more nodes", x=_PAD, y=y))
            y += _GAP
        y += 2 * _GAP
    words = f"{len(found.speakers)} nodes, {len(routers)} routers"
    return e(
        "svg",
        e("title", words),
        *drawn,
        viewBox=f"0 0 {WIDTH} {max(y - 2 * _GAP, 1):g}",
        role="img",
        aria_label=words,
    )


def _routers(found: Overview) -> Mapping[str, tuple[int, int]]:
    """By address: sessions that are up, of all."""
    routers: dict[str, tuple[int, int]] = {}
    for _, peer in found.peers:
        up, all_ = routers.get(peer.address, (0, 0))
        routers[peer.address] = (up + (peer.state == "up"), all_ + 1)
    return routers


def _placed(found: Overview, segments: Iterable[Segment]) -> Iterator[tuple[str, list[_Node]]]:
    """Each node once: on its first segment, in trouble first."""
    owned: dict[str, list[str]] = {}
    for service in found.services:
        for node in service.owners:
            owned.setdefault(node, []).append(service.ip)
    sessions: dict[str, list[bool]] = {}
    for node, peer in found.peers:
        sessions.setdefault(node, []).append(peer.state == "up")
    nodes = {}
    for row in found.speakers:
        up = sessions.get(row.node, [])
        ips = sorted(set(owned.get(row.node, ())), key=lambda ip: slot_of(ip_address(ip)))
        nodes[row.node] = _Node(row, ips, (sum(up), len(up)))
    for segment in segments:
        here = [nodes.pop(node) for node in dict.fromkeys(n for n, _ in segment.ports) if node in nodes]
        if here:
            yield segment.name, sorted(here, key=_trouble_first)
    if nodes:
        yield _UNKNOWN, sorted(nodes.values(), key=_trouble_first)


def _trouble_first(node: _Node) -> tuple[bool, str]:
    return node.row.alive and not node.row.problems, node.row.node


def _row_of_routers(routers: Mapping[str, tuple[int, int]]) -> Iterator[Element]:
    width, height = _ROUTER
    shown = list(routers.items())[:_MOST_ROUTERS]
    left = (WIDTH - len(shown) * (width + _GAP) + _GAP) / 2
    for number, (address, (up, all_)) in enumerate(shown):
        x = left + number * (width + _GAP)
        state = "well" if up == all_ else "bad"
        middle = x + width / 2
        yield e("line", x1=middle, y1=height, x2=middle, y2=height + 2 * _GAP, class_="cable")
        yield e("rect", x=x, y=1, width=width, height=height - 2, rx=6, class_=f"router {state}")
        yield _text(f"router {address}", middle, 20, "strong")
        yield _text(f"{up} of {all_} sessions up", middle, 20 + _LINE)


def _segment(name: str, nodes: Sequence[_Node], y: float, *, above: bool) -> Iterator[Element]:
    yield e("line", x1=_PAD, y1=y + 4, x2=WIDTH - _PAD, y2=y + 4, class_="segment")
    # Beside the cables of routers, which come from above.
    yield e("text", name, x=_PAD, y=y - 8 if above else y + 24, class_="name")
    columns = min(len(nodes), _NODES_A_ROW)
    width = min((WIDTH - 2 * _PAD - (columns - 1) * _GAP) / max(columns, 1), 240.0)
    left = (WIDTH - columns * width - (columns - 1) * _GAP) / 2
    from_, top = y + 4, y + _TOP
    for row in _rows(nodes):
        height = _height_of(row)
        for column, node in enumerate(row):
            x = left + column * (width + _GAP)
            yield e("line", x1=x + width / 2, y1=from_, x2=x + width / 2, y2=top, class_="cable")
            yield _box(node, x, top, width, height)
        from_, top = top + height, top + height + _GAP


_TOP = 2 * _GAP + 4


def _rows(nodes: Sequence[_Node]) -> Iterator[Sequence[_Node]]:
    for start in range(0, len(nodes), _NODES_A_ROW):
        yield nodes[start : start + _NODES_A_ROW]


def _height_of(row: Iterable[_Node]) -> float:
    return 30 + _LINE * max(len(node.lines) for node in row)


def _height(nodes: Sequence[_Node]) -> float:
    rows = [_height_of(row) for row in _rows(nodes)]
    return _TOP + sum(rows) + _GAP * max(len(rows) - 1, 0)


def _box(node: _Node, x: float, y: float, width: float, height: float) -> Element:
    row = node.row
    state = "bad" if not row.alive or row.problems else "well"
    lines = [_text(row.node, x + width / 2, y + 20, "strong")]
    lines += [_text(line, x + width / 2, y + 20 + _LINE * n) for n, line in enumerate(node.lines, 1)]
    return e("g", e("rect", x=x, y=y, width=width, height=height, rx=6, class_=f"node {state}"), *lines)


def _text(words: str, x: float, y: float, class_: str | None = None) -> Element:
    return e("text", words, x=x, y=y, text_anchor="middle", class_=class_)

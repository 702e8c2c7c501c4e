"""The whole page, from what was seen."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lbspeaker import __version__
from lbspeaker.core.words import ago, listed
from lbspeaker.observe.overview import Overview, ServiceRow
from lbspeaker.page.chart import chart
from lbspeaker.page.markup import Child, Element, e, table, text
from lbspeaker.page.picture import picture
from lbspeaker.page.rates import Segment
from lbspeaker.wire.status import Guard, Peer

MOST_ROWS, MOST_NAMED = 200, 8
MOST_MOVES, MOVED_S = 20, 3600.0


@dataclass(frozen=True, slots=True)
class View:
    """What was seen at `at` (Unix time; 0: nothing yet). `error`: why it cannot be seen now, "" if it can."""

    found: Overview
    segments: tuple[Segment, ...] = ()
    at: float = 0.0
    error: str = ""

    @property
    def verdict(self) -> str:
        return f"cannot tell: {self.error}" if self.error else self.found.verdict


def document(view: View) -> bytes:
    """Return the page."""
    found = view.found
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("title", f"lbspeaker: {view.verdict}"),
        e("link", rel="stylesheet", href="/page.css"),
        e("link", rel="icon", href="data:,"),
        e("script", src="/page.js", defer=""),
        e("noscript", e("meta", http_equiv="refresh", content="5")),
    )
    sections = (
        ("picture", "Who answers where", [picture(found, view.segments)]),
        ("pools", "Pools", _pools(found)),
        ("rates", "ARP and NDP, against the budgets", [*_charts(view), *_guards(found)]),
        ("services", "Services", _services(found, view.at)),
        ("peers", "BGP peers", _peers(found, view.at)),
        ("moves", "Moves in the last hour", _moves(found, view.at)),
        ("speakers", "Speakers", _speakers(found, view.at)),
    )
    body = e(
        "body",
        e("a", "Skip to the tables", href="#services", class_="skip"),
        *_head(view),
        e(
            "main",
            _section("problems", "What is wrong", _problems(view)),
            *(_section(id_, title, parts, "old" if view.error else None) for id_, title, parts in sections),
        ),
    )
    return text(e("html", head, body, lang="en"))


def _head(view: View) -> Iterator[Element]:
    found = view.found
    bad = found.problems and not view.error
    class_ = "bad" if bad else "unsure" if view.error or found.unread else "well"
    seen = f"as of {time.strftime('%H:%M:%S', time.gmtime(view.at))} UTC, " if view.at else ""
    yield e(
        "header",
        e("h1", "lbspeaker"),
        e("p", view.verdict, class_=f"verdict {class_}", id="verdict", role="status", data_live=""),
        e("p", f"{seen}lbspeaker {__version__}", class_="soft", id="seen", data_live=""),
        e(
            "p",
            "The page cannot be fetched: what stands here may be old.",
            id="lost",
            class_="lost",
            hidden="",
        ),
    )


def _section(id_: str, title: str, parts: Iterable[Element], class_: str | None = None) -> Element:
    content = [*parts] or [e("p", "Nothing.", class_="soft")]
    name = f"{id_}-title"
    words = {"id": id_, "class_": class_, "aria_labelledby": name, "data_live": ""}
    return e("section", e("h2", title, id=name), *content, **words)


def _problems(view: View) -> Iterator[Element]:
    found = view.found
    doubts = [f"doubtful: {what}" for what in found.doubts]
    lines = [*found.problems, *(f"not seen: {what}" for what in found.unread), *doubts]
    if view.error:
        old = " What stands below was seen before." if view.at else ""
        yield e("p", f"The cluster cannot be looked at now: {view.error}.{old}")
    if lines:
        yield e("ul", *(e("li", line) for line in lines[:MOST_ROWS]))
    yield from _more(lines)


def _pools(found: Overview) -> Iterator[Element]:
    rows = [
        (
            row.pool,
            f"IPv{row.family}",
            e("meter", f"{row.percent:.0f} %", value=row.percent, max=100.0, high=80.0, optimum=0.0),
            f"{row.used} of {row.size}",
            str(row.pending),
        )
        for row in found.pools[:MOST_ROWS]
    ]
    if rows:
        yield table("Pools", ("Pool", "Family", "Used", "IPs", "Pending"), rows)
    yield from _more(found.pools)


def _charts(view: View) -> Iterator[Element]:
    if view.segments:
        yield e(
            "p",
            e("span", class_="key"),
            " the busiest link ",
            e("span", class_="key together"),
            " all links of the segment together",
            class_="soft",
        )
    yield from (chart(segment, view.at) for segment in view.segments if not segment.idle)
    idle = [segment.name for segment in view.segments if segment.idle]
    if idle:
        yield e("p", f"Nothing is sent on {listed(idle, MOST_NAMED)}.", class_="soft")


def _guards(found: Overview) -> Iterator[Element]:
    head = ("Node", "Link", "Profile", "Sent", "Held back", "Queue", "Longest wait", "Members", "Storms")
    rows = [(node, one) for node, one in found.guards if one.sent or one.queue or one.storms]
    if rows:
        yield table("Guards", head, [_guard(node, one) for node, one in rows[:MOST_ROWS]])
    yield from _more(rows)


def _guard(node: str, one: Guard) -> Sequence[Child]:
    return (
        node,
        f"{one.link} {one.protocol}",
        f"{one.profile} (dry run)" if one.dry_run else one.profile,
        _counts(one.sent),
        _counts(one.held_back),
        str(one.queue),
        f"{one.longest_wait_s:.1f} s",
        f"{one.segment_per_s:g}/s",
        str(one.storms),
    )


def _services(found: Overview, now: float) -> Iterator[Element]:
    rows = sorted(found.services, key=lambda row: not row.why)
    head = ("Service", "IP", "Mode", "Announced by", "Since", "Moves (1 h)", "Why not")
    if rows:
        yield table("Services", head, [_service(row, now) for row in rows[:MOST_ROWS]])
    yield from _more(rows)


def _service(row: ServiceRow, now: float) -> Sequence[Child]:
    since = ago(row.since, now) if row.since else ""
    return row.service, row.ip, row.mode, row.announcers, since, str(row.moves), row.why


def _peers(found: Overview, now: float) -> Iterator[Element]:
    head = ("Node", "Peer", "Address", "AS", "State", "Since", "Routes", "BFD", "Last error")
    rows = sorted(found.peers, key=lambda row: row[1].state == "up")
    if rows:
        yield table("Peers of BGP", head, [_peer(node, peer, now) for node, peer in rows[:MOST_ROWS]])
    yield from _more(rows)


def _peer(node: str, peer: Peer, now: float) -> Sequence[Child]:
    as_ = str(peer.asn) if peer.asn else "any"
    routes = f"{peer.sent} of {peer.desired}"
    return (
        *(node, peer.name, peer.address, as_, peer.state),
        *(ago(peer.since, now) if peer.since else "", routes, peer.bfd, peer.trouble),
    )


def _moves(found: Overview, now: float) -> Iterator[Element]:
    rows = [row for row in found.services if row.moves and now - MOVED_S <= (row.since or 0.0)]
    rows.sort(key=lambda row: -(row.since or 0.0))
    cells = [
        (row.ip, row.service, row.owner, ago(row.since or now, now), str(row.moves))
        for row in rows[:MOST_MOVES]
    ]
    if cells:
        yield table("Moves in the last hour", ("IP", "Service", "Now at", "Since", "Moves"), cells)


def _speakers(found: Overview, now: float) -> Iterator[Element]:
    head = ("Node", "State", "Since", "Version", "Config", "IPs", "Links", "Problems")
    rows = [
        (
            *(row.node, row.state, ago(row.since, now) if row.since else ""),
            *(row.version, row.config, str(row.owned), ", ".join(row.links), str(row.problems)),
        )
        for row in sorted(found.speakers, key=lambda one: one.alive and not one.problems)[:MOST_ROWS]
    ]
    if rows:
        yield table("Speakers", head, rows)
    yield from _more(found.speakers)


def _more(rows: Sequence[object]) -> Iterator[Element]:
    if len(rows) > MOST_ROWS:
        yield e("p", f"and {len(rows) - MOST_ROWS} more: kubectl lbspeaker status", class_="soft")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "0"

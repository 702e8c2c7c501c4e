"""What stands on the page, and that nothing on it can become markup."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec import structs

from lbspeaker.model import ALLOCATED, Condition
from lbspeaker.observe.overview import overview
from lbspeaker.page import document as module
from lbspeaker.page.document import View, document
from lbspeaker.page.rates import Sample, Segment, Span
from tests.build import service, snapshot
from tests.test_overview import FIRST, NOW, OWNED, ROUTER, SECOND, WEB, look, says
from tests.wire.test_status import GUARD

LAN = Segment("192.0.2.0/24", (("a", "eth0"), ("b", "eth0"), ("c", "eth0")))
VOID = {"meta", "link"}


class Reader(HTMLParser):
    """The words of each element that has an id, and all tags; it insists on what is opened being closed."""

    def __init__(self) -> None:
        super().__init__()
        self.words: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id") or ""))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        for _, id_ in self._open:
            if id_ and data.strip():
                self.words.setdefault(id_, []).append(data.strip())


def read(view: View) -> Reader:
    reader = Reader()
    reader.feed(document(view).decode())
    reader.close()
    assert not reader._open
    return reader


def view(*said: Any, **fields: Any) -> View:
    return View(overview(look(*said, **fields), NOW), (LAN,), NOW)


def test_all_is_well() -> None:
    words = read(view()).words
    assert words["verdict"] == ["well"]
    assert words["seen"][0].startswith("as of 12:00:00 UTC")
    assert words["problems"] == ["What is wrong", "Nothing."]
    assert words["pools-table"][-4:] == ["IPv4", "2 %", "1 of 51", "0"]
    assert words["services-table"][-6:] == ["default/web", "192.0.2.10", "layer2", FIRST, "30 s", "1"]
    assert words["peers"] == ["BGP peers", "Nothing."]
    assert words["moves-table"][-5:] == ["192.0.2.10", "default/web", FIRST, "30 s", "1"]


def test_the_picture_shows_who_answers_for_what_and_which_sessions_are_up() -> None:
    down = structs.replace(ROUTER, state="connecting")
    drawn = read(view(says(FIRST, OWNED, peers=(ROUTER,)), says(SECOND, peers=(down,)))).words["picture"]
    text = " | ".join(drawn)
    assert "router 192.0.2.1 | 1 of 2 sessions up | 192.0.2.0/24" in text
    assert f"{FIRST} | serving | BGP 1 of 1 up | 192.0.2.10" in text
    assert f"{SECOND} | serving | BGP 0 of 1 up" in text


def test_a_node_in_trouble_comes_first_and_many_ips_are_counted() -> None:
    some = [f"192.0.2.{n}" for n in range(10, 20)]
    many = snapshot(*(service(f"s{n}", held=held) for n, held in enumerate(some)))
    mine = [structs.replace(OWNED, ip=held) for held in some]
    silent = {"a": 0.5, "b": 0.5, "c": 20.0}
    world = replace(many, members=frozenset("ab"))
    drawn = read(view(says("b", *mine), snapshot=world, silent_s=silent)).words["picture"]
    assert [word for word in drawn if word in "abc"] == ["c", "a", "b"]
    assert drawn[drawn.index("c") + 1] == "silent!"
    assert drawn[-6:] == ["serving", "192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13", "and 6 more"]


@pytest.mark.parametrize("nodes", [0, 1, 7, 200])
def test_there_is_a_picture_of_any_number_of_nodes(nodes: int) -> None:
    found = view().found
    row = found.speakers[0]
    rows = tuple(replace(row, node=f"n{number:03}") for number in range(nodes))
    ports = tuple((one.node, "eth0") for one in rows)
    page = read(View(replace(found, speakers=rows), (Segment("lan", ports),), NOW))
    boxes = [attrs for tag, attrs in page.tags if tag == "rect"]
    assert len(boxes) == min(nodes, 40)
    assert ("and 160 more nodes" in page.words["picture"]) == (nodes == 200)
    (box,) = [attrs["viewbox"] for tag, attrs in page.tags if tag == "svg" and "nodes" in str(attrs)]
    height = float(str(box).split()[3])
    assert all(float(str(at["y"])) + float(str(at["height"])) <= height for at in boxes)


EVIL = '<script>alert(1)</script>\x1b[2J\u202e"'


def test_what_others_named_stays_text() -> None:
    why = Condition(ALLOCATED, "False", "PoolExhausted", EVIL)
    world = snapshot(WEB, service("bad", condition=why))
    said = says(FIRST, structs.replace(OWNED, conflict=EVIL, vendor=EVIL), problems=(EVIL,))
    peer = structs.replace(ROUTER, name=EVIL, address=EVIL, last_error=EVIL)
    guard = structs.replace(GUARD, link=EVIL, sent={EVIL: 1})
    seen = look(structs.replace(said, peers=(peer,), guards=(guard,), version=EVIL), snapshot=world)
    found = overview(replace(seen, unread=(EVIL,)), NOW)
    page = read(View(found, (replace(LAN, name=EVIL),), NOW, EVIL))
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"src": "/page.js", "defer": ""}]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on") or name == "style"]
    shown = " ".join(word for words in page.words.values() for word in words)
    assert "<script>alert(1)</script>" in shown
    assert "\x1b" not in shown and "\u202e" not in shown


def test_what_could_not_be_looked_at_again_is_said() -> None:
    words = read(replace(view(), error="the API server does not answer; is it up?")).words
    assert words["verdict"] == ["cannot tell: the API server does not answer; is it up?"]
    assert "192.0.2.10" in words["services-table"], "what was seen before stays"


def test_what_is_too_long_says_how_much_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 1)
    broken = service("down", condition=Condition(ALLOCATED, "False", "PoolExhausted", "all pools are full"))
    page = read(view(snapshot=snapshot(WEB, broken)))
    assert "default/down" in page.words["services"], "what is in trouble comes first"
    assert page.words["services"][-1] == "and 1 more: kubectl lbspeaker status"


def moment(at: float, frames: int) -> Sample:
    return Sample(int(NOW + at), frames, 11, 2 * frames, 120)


def charted(*samples: Sample, known: tuple[Span, ...] = ((NOW - 600, NOW),)) -> Reader:
    return read(replace(view(), segments=(replace(LAN, ips=1, samples=samples, known=known),)))


def heights(line: dict[str, str | None]) -> list[float]:
    return [float(point.split(",")[1]) for point in str(line["points"]).split()]


def test_the_chart_says_in_words_what_it_draws() -> None:
    page = charted(moment(-200, 11), moment(-20, 4), moment(-19, 2))
    said = " ".join(page.words["rates"])
    assert (
        "in any second of the last minute at most 4 of 11 frames from one link, 8 of 120 frames from" in said
    )
    assert "at most 100% of a budget in the last ten" in said
    busiest, together = [attrs for tag, attrs in page.tags if tag == "polyline"]
    assert busiest["class"] == "line busiest" and together["class"] == "line together"
    budget = next(attrs for tag, attrs in page.tags if attrs.get("class") == "budget")
    assert min(heights(busiest)) == pytest.approx(float(str(budget["y1"])), abs=0.1)
    assert min(heights(together)) > min(heights(busiest))
    quiet = " ".join(charted(moment(-200, 11)).words["rates"])
    assert "nothing has left unasked in the last minute; at most 100% of a budget" in quiet
    assert "nothing has left unasked in the last ten minutes" in " ".join(charted().words["rates"])


def test_what_nobody_looked_at_is_not_drawn() -> None:
    page = charted(moment(-590, 3), moment(-300, 5), known=((NOW - 600, NOW - 580), (NOW - 60, NOW)))
    lines = [attrs for tag, attrs in page.tags if tag == "polyline"]
    assert len(lines) == 4
    assert [len(set(heights(line))) for line in lines] == [2, 2, 1, 1]

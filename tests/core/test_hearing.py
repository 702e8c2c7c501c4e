"""Who is cut off, as the speakers say of each other."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from lbspeaker.core.hearing import cuts, unheard, without_cuts
from lbspeaker.core.said import Said, SaidMember
from lbspeaker.model import MemberLink
from tests.build import service, snapshot

NET, OTHER = ip_network("192.0.2.0/24"), ip_network("198.51.100.0/24")
LINKS = {name: (MemberLink("eth0", b"", (NET,)),) for name in "abcde"}
HEARS, DEAF = SaidMember(("eth0",)), SaidMember((), ("eth0",))


def hearing(*groups: str) -> dict[str, Said]:
    """Nodes of one group hear each other, and nobody else."""
    nodes = "".join(groups)
    return {
        node: Said(members={o: HEARS if o in group else DEAF for o in nodes if o != node})
        for group in groups
        for node in group
    }


@pytest.mark.parametrize(
    ("groups", "cut"),
    [
        (("abc",), ""),
        (("bc", "a"), "a"),
        (("abc", "de"), "de"),
        (("ab", "cd"), "abcd"),
        (("a", "b"), "ab"),
        (("a", "b", "c"), "abc"),
    ],
)
def test_who_is_heard_by_fewer_than_not_is_cut_off(groups: tuple[str, ...], cut: str) -> None:
    assert "".join(cuts(hearing(*groups), LINKS)) == cut


def test_who_says_nothing_of_others_is_not_asked() -> None:
    assert cuts({**hearing("bc", "a"), "b": Said(), "c": Said()}, LINKS).keys() == {"b", "c"}
    assert cuts(dict.fromkeys("abc", Said(members=dict.fromkeys("abc", SaidMember()))), LINKS) == {}
    assert cuts({}, LINKS) == {}


def test_links_of_one_segment_may_have_other_names() -> None:
    links = {**LINKS, "a": (MemberLink("lan", b"", (NET,)), MemberLink("wan", b"", (OTHER,)))}
    found = cuts(hearing("bc", "a"), links)
    assert found == {"a": {"lan": ("b", "c")}}
    assert unheard("a", found) == "a is not heard on its lan by b, c"
    assert unheard("b", found) == ""
    world = without_cuts(replace(snapshot(service("web")), links=links), found)
    assert [link.name for link in world.links["a"]] == ["wan"]
    assert world.links["b"] == LINKS["b"]


def test_of_two_links_to_one_segment_one_is_enough() -> None:
    two = SaidMember(("eth1",), ("eth0",))
    said = {**hearing("bc", "a"), "b": Said(members={"a": two}), "c": Said(members={"a": two})}
    links = {**LINKS, **dict.fromkeys("bc", (*LINKS["b"], MemberLink("eth1", b"", (NET,))))}
    assert "a" not in cuts(said, links)


def test_who_does_not_tell_its_links_is_cut_off_as_a_whole() -> None:
    found = cuts(hearing("bc", "a"), {})
    assert found == {"a": {"links": ("b", "c")}}
    assert without_cuts(snapshot(), found).links == {"a": ()}

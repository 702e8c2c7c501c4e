"""Who is not heard on which of its links, as the speakers say of each other.

A Lease shows that a speaker reaches the API, and nothing about its segment. There, each of the others says
whom it hears on which of its own links. A link is *cut off* if more of those that are on its segment do not
hear its node there than do: what the node answers does not reach them, so it is no successor of anybody.

Of two that do not hear each other nobody can tell from outside which one clients hear: both count as cut off.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lbspeaker.core.said import Said
from lbspeaker.core.words import listed
from lbspeaker.model import MemberLink, Snapshot

Cuts = Mapping[str, Mapping[str, tuple[str, ...]]]  # by node and its link: who does not hear it there
Links = Mapping[str, tuple[MemberLink, ...]]

_ANY = MemberLink("links", b"")  # of a node that does not tell of its links


def cuts(said: Mapping[str, Said], links: Links) -> Cuts:
    """Return which links are cut off, as live speakers have `said`; `links`: those of each node."""
    nodes = {node for one in said.values() for node, member in one.members.items() if member.silent_on}
    found = {node: _cuts(node, said, links) for node in sorted(nodes)}
    return {node: some for node, some in found.items() if some}


def _cuts(node: str, said: Mapping[str, Said], links: Links) -> dict[str, tuple[str, ...]]:
    found = {}
    for link in links.get(node, (_ANY,)):
        hear, deaf = [], []
        for other, one in sorted(said.items()):
            member = one.members.get(node)
            if other == node or member is None:
                continue
            facing = _facing(link, links.get(other, ()), {*member.heard_on, *member.silent_on})
            if facing & {*member.heard_on}:
                hear.append(other)
            elif facing & {*member.silent_on}:
                deaf.append(other)
        if len(deaf) > len(hear):
            found[link.name] = tuple(deaf)
    return found


def _facing(link: MemberLink, others: Iterable[MemberLink], told: set[str]) -> set[str]:
    """Which links of another node are on the segment of `link`: in a network of it, or else of its name."""
    if link is _ANY:
        return told
    near = {other.name for other in others if not set(other.networks).isdisjoint(link.networks)}
    return near or {link.name}


def without_cuts(snapshot: Snapshot, cuts: Cuts) -> Snapshot:
    """The same, in which a link that is cut off is no link."""
    if not cuts:
        return snapshot
    kept = {
        node: tuple(link for link in snapshot.links.get(node, ()) if link.name not in gone)
        for node, gone in cuts.items()
    }
    return replace(snapshot, links={**snapshot.links, **kept})


def unheard(node: str, cuts: Cuts) -> str:
    """ "node-a is not heard on its eth0 by node-b, node-c"; "" if it is heard wherever it should be."""
    some = cuts.get(node, {})
    by = sorted({other for others in some.values() for other in others})
    return f"{node} is not heard on its {listed(sorted(some))} by {listed(by)}" if some else ""

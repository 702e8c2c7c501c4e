"""What the end of a session means, and what one can do about it (RFC 4271 §6, RFC 4486 §4).

ExaBGP names the code of a NOTIFICATION and who sent it; the same code means one thing from us and another
from the router. What is not listed is told without a hint.
"""

from collections.abc import Mapping

from lbspeaker.model import Peer, SessionDown

_Ending = tuple[bool, int, int | None]  # by the router?, code, subcode (None: any)

_HINTS: Mapping[_Ending, str] = {
    (False, 1, None): "what {router} sent is not BGP; is it a router that listens at port {port}?",
    (False, 2, 2): "the router at {router} is not in AS {peer_asn} (peerASN)",
    (False, 2, 3): "the router at {router} has an unusable router ID; give it another",
    (False, 2, 6): "the router at {router} wants a hold time under 3 s; give it a longer one",
    (False, 2, None): "the OPEN of {router} is not understood; does the router speak BGP-4?",
    (
        False,
        4,
        None,
    ): "nothing came from {router} for the hold time; is the way to it, or the router, overloaded?",
    (False, 5, None): "{router} said something out of turn; is it a router that listens at port {port}?",
    (True, 2, 2): "the router at {router} expects another AS than {my_asn} (myASN) from this node",
    (True, 2, 3): "the router at {router} does not take this node's router ID; set another (routerID)",
    (True, 2, 6): "the router at {router} does not take a hold time of {hold_s} s (holdTime)",
    (True, 3, None): "the router at {router} does not take one of the routes; its log says which",
    (True, 4, None): "the router at {router} heard nothing for its hold time; is this node overloaded?",
    (True, 6, 1): "raise the maximum of prefixes for this neighbor on the router",
    (True, 6, 2): "somebody has shut this neighbor down on the router",
    (True, 6, 3): "the router has this node no longer as a neighbor",
    (True, 6, 5): "the router at {router} takes no session from this node; does it know it as a neighbor?",
    (True, 6, 7): "the router has another session with this node; is there another BGP speaker on it?",
    (True, 6, 8): "the router has no memory left, or no room for another session",
}


def explain(peer: Peer, event: SessionDown, *, was_up: bool) -> str:
    """Return in one line why the session with `peer` ended, or did not begin, and what to look at."""
    if event.notification is not None:
        code, subcode = event.notification
        hint = _HINTS.get((event.by_peer, code, subcode)) or _HINTS.get((event.by_peer, code, None), "")
    elif event.here:
        hint = "look at this node's addresses, routes and firewall"
    elif was_up:
        hint = "the log of the router at {router} may say why"
    else:
        hint = "does the router at {router} port {port} run BGP and know this neighbor?"
    if not hint:
        return event.reason
    return f"{event.reason}; {_filled(hint, peer)}"


def hopeless(event: SessionDown) -> bool:
    """Whether it ends the same way every time until a person changes something: a wrong OPEN (§6.2)."""
    return event.notification is not None and event.notification[0] == 2


def _filled(hint: str, peer: Peer) -> str:
    return hint.format(
        router=peer.address,
        port=peer.port,
        my_asn=peer.my_asn,
        peer_asn=peer.peer_asn,
        hold_s=peer.hold_time_s,
    )

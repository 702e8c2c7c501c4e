"""What is wrong with the sessions, as the router sees them.

A session that is down has one cause, the first that can be seen: what the router says itself, then what its
configuration and ours do not have in common. What is left is what nobody can see from a router: nothing
arrives. A router that expects another password does not answer at all, so that looks the same.
"""

from collections.abc import Iterator

from lbspeaker.upstream import Finding, Neighbor, RouterView, Session, Severity, Upstream

_Cause = tuple[str, str, str]  # code, what, remedy


def session_findings(up: Upstream, view: RouterView) -> Iterator[Finding]:
    """Yield what is wrong with each session, and with BGP there as a whole."""
    if view.asn is None and not view.sessions:
        what = "BGP does not run there, or has no neighbour at all"
        yield Finding("no-bgp", "error", (up.peer,), what, configure(view))
        return
    for neighbor in up.neighbors:
        session = view.sessions.get(neighbor.address)
        if session is None:
            what = "the router has no neighbour of this address"
            yield _finding(neighbor, "error", ("no-neighbor", what, configure(view)))
        elif session.up:
            yield from _up(up, neighbor, session, view)
        else:
            yield _finding(neighbor, "error", _why_down(up, neighbor, session, view))


def who(neighbor: Neighbor) -> str:
    """Return how a node is called in findings."""
    return f"{neighbor.node} ({neighbor.address})"


def configure(view: RouterView) -> str:
    """Return what has the lines that are missing."""
    return f"lbspeaker upstream config --for {view.software.lower()} has what it needs"


def again(view: RouterView) -> str:
    """Return how to have the router look again at what it was told."""
    return {
        "FRR": "then: clear bgp ADDRESS soft in",
        "BIRD": "then: birdc configure, birdc reload in all",
        "OPNsense": "then: Apply, and restart FRR in Routing: General",
    }.get(view.software, "then clear the session")


def _finding(neighbor: Neighbor, severity: Severity, cause: _Cause) -> Finding:
    code, what, remedy = cause
    return Finding(code, severity, (who(neighbor),), what, remedy)


# --- down -----------------------------------------------------------------------------------------------


def _why_down(up: Upstream, neighbor: Neighbor, session: Session, view: RouterView) -> _Cause:
    said = session.last_error.lower()
    return (
        _as_numbers(up, session)
        or _passwords(up, session)
        or _stopped(session, said)
        or _told(session, said)
        or _silence(up, session, view)
    )


def _as_numbers(up: Upstream, session: Session) -> _Cause | None:
    if session.local_asn not in (None, up.asn):
        what = f"the router is AS {session.local_asn}, and peerASN of the BGPPeer says {up.asn}"
        return "wrong-as", what, f"write peerASN: {session.local_asn}, or mend the router"
    if session.remote_asn not in (None, 0, up.nodes_asn):
        what = f"the router expects AS {session.remote_asn}, and the nodes are AS {up.nodes_asn} (myASN)"
        return "wrong-as", what, f"give the neighbour remote AS {up.nodes_asn}, or write that as myASN"
    return None


def _passwords(up: Upstream, session: Session) -> _Cause | None:
    if session.password is None or session.password == bool(up.password):
        return None
    if session.password:
        what = "the router expects a password (TCP MD5), and the BGPPeer has none: it drops what nodes send"
        return "password", what, "give the BGPPeer a passwordSecret, or take the password from the router"
    what = (
        "nodes send a password (TCP MD5), and the router has none for this neighbour: it drops what they send"
    )
    return "password", what, "give the router's neighbour the password of the BGPPeer"


def _stopped(session: Session, said: str) -> _Cause | None:
    """The router itself does not want it."""
    if "(pfxct)" in session.state.lower() or "maximum number of prefixes" in said or "limit exceeded" in said:
        what = "the router ended the session: more routes than its limit (maximum-prefix, import limit)"
        return (
            "max-prefix",
            what,
            "take the limit out, the prefix list is the better fence; then clear the session",
        )
    if "(admin)" in session.state.lower() or session.state == "Down":
        return "shutdown", "the neighbour is shut down on the router", "enable it there"
    return None


def _told(session: Session, said: str) -> _Cause | None:
    """The router says why."""
    if "bad peer as" in said:
        what = "the last attempt ended with Bad Peer AS: the two sides do not agree about their AS numbers"
        return "wrong-as", what, "compare myASN and peerASN of the BGPPeer with the router"
    if "no path to specified neighbor" in said or "waiting for nht" in said:  # FRR 8.4 says the latter
        what = "the router has no path to it on a link of its own, and takes nobody else (connected check)"
        return (
            "no-path",
            what,
            "put both on one network, or: ebgpMultiHop in the BGPPeer, multihop on the router",
        )
    if "collision" in said:
        what = (
            "two speakers of one address talk to the router, and it takes one: Calico, or another BGP speaker"
        )
        return "collision", what, "let only one of them peer, or give one of them another address"
    if "bfd" in said:
        what = f"BFD ended the session ({session.last_error})"
        return "bfd-down", what, "look at BFD first, on both sides"
    if "hold timer expired" in said or "hold time expired" in said:
        what = "nothing was heard from it for as long as the hold time is"
        return "hold-timer", what, "is the node up, does its speaker run, is there a firewall between?"
    if session.wait_s:
        what = f"the router lets nobody in for {session.wait_s:.0f} s after an error ({session.last_error})"
        return "waiting", what, "wait, or: birdc restart NAME; error wait time 1, 10 makes it shorter"
    return None


def _silence(up: Upstream, session: Session, view: RouterView) -> _Cause:
    state = session.state or "down"
    if session.bfd == "up":
        what = f"BFD is up, and BGP is {state}: only packets to TCP port {up.port} are lost"
        remedy = "look for a firewall, or for old connection tracking: notrack for BGP and BFD"
        if up.password:
            return "stuck", f"{what}, or the passwords differ", f"compare the passwords; {remedy}"
        return "stuck", what, remedy
    causes = [
        f"a firewall drops TCP port {up.port} from it",
        "no speaker runs there",
        f"it dials another address than {up.address or 'its default gateway'}",
    ]
    if up.password:
        causes.insert(0, "the passwords differ: a router then does not answer at all")
    if up.ttl_hops is not None:
        causes.append(f"the router does not send with a TTL of 255 (ttlSecurity: {up.ttl_hops})")
    what = f"no connection arrives ({state}): {'; or '.join(causes)}"
    own = " (OPNsense makes no rule for BGP by itself)" if view.software == "OPNsense" else ""
    remedy = f"on the node: lbspeaker status; on the router: let in TCP port {up.port}{own}"
    return "no-session", what, remedy


# --- up -------------------------------------------------------------------------------------------------


def _up(up: Upstream, neighbor: Neighbor, session: Session, view: RouterView) -> Iterator[Finding]:
    ungoverned = [family for family in up.families if family in session.ungoverned]
    if ungoverned:
        kinds = " and ".join(f"IPv{family}" for family in ungoverned)
        what = f'no {kinds} route is taken from it: it has no policy inwards (RFC 8212; "(Policy)" in FRR)'
        yield _finding(neighbor, "error", ("no-policy", what, f"{configure(view)}; {again(view)}"))
    if session.families is not None:
        for family in up.families:
            if family not in session.families:
                what = f"the session carries no IPv{family} routes: the router has not activated that family"
                yield _finding(neighbor, "error", ("no-family", what, configure(view)))
    for family, limit in session.limits.items():
        what = f"more than {limit} IPv{family} routes end the session, and with it all that work"
        remedy = "take the limit out, or let it only warn; the prefix list is the better fence"
        yield _finding(neighbor, "warning", ("max-prefix-limit", what, remedy))
    if session.dynamic and up.password and view.software == "OPNsense":
        what = "a range let it in, and OPNsense has no password for ranges"
        yield _finding(neighbor, "warning", ("range-password", what, "make a neighbour for each node"))
    yield from _bfd(up, neighbor, session)


def _bfd(up: Upstream, neighbor: Neighbor, session: Session) -> Iterator[Finding]:
    if session.bfd is None:
        return
    if up.bfd is None:
        if session.bfd == "down":
            what = "the router waits for BFD, and the BGPPeer has no bfdProfile"
            remedy = "give it one, or take BFD from the router's neighbour"
            yield _finding(neighbor, "warning", ("bfd-unwanted", what, remedy))
    elif session.bfd == "":
        what = "the nodes speak BFD, and the router does not: a dead node is noticed by the hold time only"
        remedy = "enable BFD for it (OPNsense: on both pages, BFD and the neighbour)"
        yield _finding(neighbor, "warning", ("no-bfd", what, remedy))
    elif session.bfd == "down":
        what = "the session is up, and BFD is not"
        remedy = "let in UDP port 3784 (4784 over several hops); OPNsense has BFD on two pages"
        yield _finding(neighbor, "warning", ("bfd-down", what, remedy))

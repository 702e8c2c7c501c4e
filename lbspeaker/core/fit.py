"""Whether a route fits into one UPDATE.

A message of BGP has at most 4,096 bytes (RFC 4271 §4.1; the longer ones of RFC 8654 are not offered), and the
attributes of a route cannot be split. With many communities they may leave no room for a single prefix.
"""

from lbspeaker.model import Route

MESSAGE = 4096
_FRAME = 19 + 2 + 2  # header, length of withdrawn routes, length of attributes (§4.3)
_ORIGIN, _NEXT_HOP, _MED, _LOCAL_PREF = 4, 7, 7, 7
_REACH_V6 = 4 + 2 + 1 + 1 + 16 + 1  # RFC 4760 §3: header, family, length of the next hop, next hop, reserved
_STANDARD, _LARGE = 4, 12  # RFC 1997, RFC 8092 §3
_FEW = 100  # so many communities fit, whatever else there is


def fits(route: Route, *, path: int) -> bool:
    """Whether an UPDATE takes `route`, with `path` ASs (of 4 bytes) in its path."""
    return len(route.communities) <= _FEW or _FRAME + _attributes(route, path) + _prefix(route) <= MESSAGE


def _attributes(route: Route, path: int) -> int:
    large = sum(community.startswith("large:") for community in route.communities)
    return (
        _ORIGIN
        + (3 + 2 + 4 * path if path else 3)
        + (_REACH_V6 if route.prefix.version == 6 else _NEXT_HOP)
        + (_MED if route.med is not None else 0)
        + (_LOCAL_PREF if route.local_pref is not None else 0)
        + _list(len(route.communities) - large, _STANDARD)
        + _list(large, _LARGE)
    )


def _list(count: int, each: int) -> int:
    """A list's attribute; its header has one byte more from 256 bytes on (§4.3)."""
    size = count * each
    return 0 if not size else size + (4 if size > 255 else 3)


def _prefix(route: Route) -> int:
    return 1 + (route.prefix.prefixlen + 7) // 8

"""BFDProfile: timers of RFC 5880 as MetalLB has them. Read and judged, and not served yet."""

from lbspeaker.config.place import Place
from lbspeaker.config.schema import Field, Record
from lbspeaker.config.values import Flag, Whole

BFD_PROFILE = Record(
    {
        "receiveInterval": Field(
            Whole(10, 60000), "Milliseconds between packets that we can take: 300 if absent."
        ),
        "transmitInterval": Field(
            Whole(10, 60000), "Milliseconds between packets that we send: 300 if absent."
        ),
        "detectMultiplier": Field(Whole(2, 255), "So many lost packets end the session: 3 if absent."),
        "echoInterval": Field(Whole(10, 60000), "Milliseconds between echo packets."),
        "echoMode": Field(
            Flag(),
            "Let the router's forwarding plane return echo packets.",
            unserved="echoMode is never served: the kernel would have to return the router's echo packets",
            hint="remove it; transmitInterval and receiveInterval say how fast a failure is noticed",
            ignored=True,
        ),
        "passiveMode": Field(Flag(), "Wait for the router to begin.", default=False),
        "minimumTtl": Field(
            Whole(1, 254), "Over several hops: packets with a lower TTL are dropped; 254 if absent."
        ),
    }
)


def warn_not_served(place: Place) -> None:
    """Tell that the profile is right, and changes nothing so far."""
    place.warn(
        "BFD is not served yet; sessions rely on the hold time",
        "set holdTime of the BGPPeers to the time after which a dead router should be noticed",
    )

"""What the controller says of objects in their status, as OpenAPI. None of it is configuration."""

from typing import Any

Json = dict[str, Any]


def _text(description: str = "") -> Json:
    return {"type": "string", **({"description": description} if description else {})}


def _time(description: str) -> Json:
    return {"type": "string", "format": "date-time", "description": description}


def _count(description: str, bits: int = 64) -> Json:
    return {"type": "integer", "format": f"int{bits}", "minimum": 0, "description": description}


def _object(required: tuple[str, ...], properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(item: Json, description: str) -> Json:
    return {"type": "array", "description": description, "items": item, "x-kubernetes-list-type": "atomic"}


# meta/v1 Condition.
_CONDITION = _object(
    ("type", "status", "lastTransitionTime", "reason", "message"),
    {
        "type": _text("Accepted; of pools also Draining."),
        "status": {
            "type": "string",
            "enum": ["True", "False", "Unknown"],
            "description": "Whether it is so.",
        },
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "The metadata.generation that was judged.",
        },
        "lastTransitionTime": _time("Since when the status is what it is."),
        "reason": _text("Why, in one word."),
        "message": _text("Why, and what to do."),
    },
)
CONDITIONS: Json = {
    "conditions": {
        "type": "array",
        "description": "The controller's verdict.",
        "items": _CONDITION,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
}

# The first four names, and what they mean, are MetalLB's.
POOL_STATUS: Json = {
    "assignedIPv4": _count("IPv4 addresses that services have."),
    "assignedIPv6": _count("IPv6 addresses that services have."),
    "availableIPv4": _count("IPv4 addresses that are free."),
    "availableIPv6": _count("IPv6 addresses that are free."),
    "sizeIPv4": _count("IPv4 addresses of the pool."),
    "sizeIPv6": _count("IPv6 addresses of the pool, at most 9223372036854775807."),
    "pending": _count("Services that wait for an IP of this pool.", bits=32),
    "assigned": _list(_text(), "Ranges of the addresses that services have."),
    "released": _list(
        _object(
            ("address", "until"),
            {
                "address": _text("The IP."),
                "service": _text("Whose it was, as namespace/name."),
                "until": _time("Until when nobody else gets it."),
            },
        ),
        "Addresses that nobody else gets until their cooldown is over.",
    ),
}

EFFECTIVE_STATUS: Json = {
    "accepted": _count("Objects in use.", bits=32),
    "refused": _count("Objects with an error, which are not in use.", bits=32),
    "refusals": _list(
        _object(
            ("object", "message"),
            {
                "object": _text("Kind/name."),
                "reason": _text("Why, in one word."),
                "message": _text("What is wrong with it."),
            },
        ),
        "What is wrong with the refused objects.",
    ),
}


def _map(description: str, **fields: Json) -> Json:
    row = {"type": "object", "properties": fields}
    return {"type": "object", "description": description, "additionalProperties": row}


_WORD: Json = {"type": "string"}
_WORDS: Json = {"type": "array", "items": _WORD, "x-kubernetes-list-type": "atomic"}
_YES_OR_NO: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "number"}
_WHOLE: Json = {"type": "integer", "format": "int64"}
_COUNTS: Json = {"type": "object", "additionalProperties": _WHOLE}

SPEAKER_STATUS: Json = {
    "state": _text("starting, serving, draining or stopped."),
    "verdict": _text("well, or the first problem."),
    "version": _text("Of lbspeaker."),
    "config": _text("Which configuration it follows: the same word wherever the same objects are in force."),
    "started": _time("When the speaker began."),
    "reported": _time("When it said this."),
    "problems": _list(_text(), "Each in one line, with what to do."),
    "owned": _count("Service IPs that this node answers for.", bits=32),
    "alive": _count("Speakers that live, as this one sees it.", bits=32),
    "moves": {
        **_COUNTS,
        "description": "By IP of others: how often it moved in the last hour, as seen here.",
    },
    "sessions": _text("BGP sessions that are up, of those that should be: 2/2."),
    "ips": _map(
        "By service IP; times are Unix times.",
        role=_WORD,
        links=_WORDS,
        since=_NUMBER,
        reason=_WORD,
        conflict=_WORD,
        vendor=_WORD,
        moves=_WHOLE,
    ),
    "guards": _map(
        "By link/protocol: frames by why they were sent, and what had to wait.",
        **dict.fromkeys(("profile",), _WORD),
        **dict.fromkeys(("dry_run",), _YES_OR_NO),
        **dict.fromkeys(("sent", "held_back", "recent"), _COUNTS),
        **dict.fromkeys(
            ("queue", "unpaced", "coalesced", "expired", "repetitive", "storms", "budget", "segment_budget"),
            _WHOLE,
        ),
        **dict.fromkeys(("longest_wait_s", "projected_s", "segment_per_s"), _NUMBER),
    ),
    "peers": _map(
        "By BGPPeer.",
        **dict.fromkeys(("address", "state", "bfd", "last_error"), _WORD),
        **dict.fromkeys(("port", "asn", "sent", "desired", "ended", "restarts"), _WHOLE),
        since=_NUMBER,
        unsent={"type": "object", "additionalProperties": _WORD},
    ),
    "bfd": _map("By router.", state=_WORD, why=_WORD, interval_ms=_NUMBER, detection_ms=_NUMBER),
    "members": _map("By node.", alive=_YES_OR_NO, heard_on=_WORDS, silent_on=_WORDS),
}

"""What the controller says of objects in their status, as OpenAPI. None of it is configuration."""

from typing import Any

Json = dict[str, Any]


def _text(description: str = "") -> Json:
    return {"type": "string", **({"description": description} if description else {})}


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
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": _text(),
        "message": _text(),
    },
)
CONDITIONS: Json = {
    "conditions": {
        "type": "array",
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
                "address": _text(),
                "service": _text("Whose it was, as namespace/name."),
                "until": {"type": "string", "format": "date-time"},
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
            {"object": _text("Kind/name."), "reason": _text(), "message": _text("What is wrong with it.")},
        ),
        "What is wrong with the refused objects.",
    ),
}

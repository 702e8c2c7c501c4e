"""What a speaker was told of the cluster: Services, endpoints, Nodes, Secrets, configuration, pins."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from lbspeaker.core.allocator import ours
from lbspeaker.model import (
    PASSWORD_HINT,
    PASSWORDS,
    Address,
    Change,
    Config,
    ConfigSet,
    Endpoint,
    EndpointSlice,
    Kind,
    Node,
    Peer,
    Pin,
    Pins,
    Secret,
    Service,
    Snapshot,
    is_password,
)

CREATE = "create it, of type kubernetes.io/basic-auth, with the key password"


class NoPassword(NamedTuple):
    """Why the Secret of a peer gives no password, and what to do. `goes_on`: with the one before."""

    why: str
    hint: str
    goes_on: bool


class World:
    """The cluster as the speaker on `node` was last told."""

    def __init__(self, node: str, load_balancer_class: str | None) -> None:
        self.config = Config()
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        self._node = node
        self._class = load_balancer_class
        self._slices: dict[str, dict[str, EndpointSlice]] = {}  # by service, by key
        self._service_of: dict[str, str] = {}  # by key of the slice
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._secrets: dict[str, Secret] = {}
        self._passwords: dict[str, str] = {}  # by key of the Secret: the last right one
        self._pins: dict[str, Pins] = {}  # by author

    def observe(self, change: Change) -> bool:
        """Take note of what is now; return whether it can matter."""
        kind, key, value = change.kind, change.key, change.value
        if kind is Kind.ENDPOINT_SLICE:
            return self._observe_slice(key, value if isinstance(value, EndpointSlice) else None)
        if kind is Kind.CONFIG and isinstance(value, ConfigSet):
            self.config = value.config
            self._forget_passwords()
        elif kind is Kind.SERVICE:
            mine = isinstance(value, Service) and ours(value, self._class)
            _enter(self.services, key, value if isinstance(value, Service) and mine else None)
        elif kind is Kind.NODE:
            _enter(self.nodes, key, value if isinstance(value, Node) else None)
        elif kind is Kind.SECRET:
            self._observe_secret(key, value if isinstance(value, Secret) else None)
        elif kind is Kind.PINS:
            _enter(self._pins, key, value if isinstance(value, Pins) else None)
        return True

    def _observe_secret(self, key: str, value: Secret | None) -> None:
        _enter(self._secrets, key, value)
        if value is not None and value.password and is_password(value.password):
            self._passwords[key] = value.password
        self._forget_passwords()

    def _forget_passwords(self) -> None:
        """Those of Secrets that are gone, and that no peer names."""
        wanted = {str(peer.password_secret) for peer in self.config.peers} | self._secrets.keys()
        self._passwords = {key: word for key, word in self._passwords.items() if key in wanted}

    def _observe_slice(self, key: str, value: EndpointSlice | None) -> bool:
        """Whether it is about a service of ours."""
        services = set()
        if (before := self._service_of.pop(key, None)) is not None:
            services.add(before)
            del self._slices[before][key]
        if value is not None:
            services.add(value.service)
            self._service_of[key] = value.service
            self._slices.setdefault(value.service, {})[key] = value
        for service in services:
            slices = self._slices[service]
            self._endpoints[service] = tuple(e for _, s in sorted(slices.items()) for e in s.endpoints)
            if not slices:
                del self._slices[service], self._endpoints[service]
        return any(service in self.services for service in services)

    def snapshot(self, members: frozenset[str], gateway: Address | None = None) -> Snapshot:
        """All of it, with these members; a peer whose Secret never gave a password is left out.

        `gateway` is the router of peers that name none.
        """
        peers = [p for peer in self.config.peers if (p := self._with_password(peer)) is not None]
        config = replace(self.config, peers=tuple(replace(p, address=p.address or gateway) for p in peers))
        return Snapshot(config, self.services, self._endpoints, self.nodes, {}, members)

    @property
    def pins(self) -> dict[Address, Pin]:
        """The pins of all authors that the cluster knows as nodes; of two, the later one."""
        found: dict[Address, Pin] = {}
        for author in sorted(self._pins.keys() & self.nodes.keys()):
            for ip, pin in self._pins[author].pins.items():
                if ip not in found or pin.term > found[ip].term:
                    found[ip] = pin
        return found

    @property
    def labels(self) -> Mapping[str, str]:
        """Those of the own node."""
        return self.nodes[self._node].labels if self._node in self.nodes else {}

    @property
    def named_links(self) -> frozenset[str]:
        """The links that advertisements name."""
        return frozenset().union(*(ad.interfaces for ad in self.config.l2_advertisements))

    def password(self, secret: str) -> str | None:
        """The password in a Secret, "namespace/name"."""
        found = self._secrets.get(secret)
        return found.password if found else None

    def without_password(self) -> dict[str, NoPassword]:
        """The peers whose Secret gives no password now."""
        found = {}
        for peer in self.config.peers:
            if peer.password_secret is not None and peer.password is None:
                trouble = self._trouble(str(peer.password_secret))
                if trouble is not None:
                    found[peer.name] = NoPassword(*trouble, self._with_password(peer) is not None)
        return found

    def _trouble(self, secret: str) -> tuple[str, str] | None:
        found = self._secrets.get(secret)
        if found is None or not found.password:
            return f"Secret {secret} is missing, or has no key `password`", CREATE
        if not is_password(found.password):
            return f"the password in Secret {secret} is not {PASSWORDS}", PASSWORD_HINT
        return None

    def _with_password(self, peer: Peer) -> Peer | None:
        """The peer with its password: the last right one, so that a mistake ends no session."""
        if peer.password_secret is None or peer.password is not None:
            return peer
        password = self._passwords.get(str(peer.password_secret))
        return replace(peer, password=password) if password is not None else None


Value = TypeVar("Value")


def _enter(table: dict[str, Value], key: str, value: Value | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value

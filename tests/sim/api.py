"""An API server: objects, streams that tell each speaker of them in order, and writes that may go wrong."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from lbspeaker.model import Change, Kind, Synced
from tests.sim.clock import Heap

STREAMS = (
    (Kind.SERVICE,),
    (Kind.ENDPOINT_SLICE,),
    (Kind.NODE,),
    (Kind.LEASE, Kind.PINS),
    (Kind.SECRET,),
    (Kind.CONFIG,),
)
DELAY_S = (0.005, 0.2)
TIMEOUT_S = 1.2  # of a write
GRID_S = 1.0  # in a quiet world changes of Leases come together


class Observer(Protocol):
    node: str

    def take_all(self, items: list[Change | Synced]) -> None: ...


class Stream:
    """What one observer is told of some kinds: a list, then changes in order; after a break a list again."""

    def __init__(self, api: "Api", observer: Observer, kinds: tuple[Kind, ...]) -> None:
        self._api = api
        self._observer = observer
        self._kinds = kinds
        self._known: dict[tuple[Kind, str], object] = {}
        self._epoch = 0
        self._last = 0.0
        self._synced = False
        self._batch: list[Change] = []
        self.open_since: float | None = None  # when the list was delivered

    def begin(self) -> None:
        """List. Whoever cannot, tries again."""
        epoch = self._epoch = self._epoch + 1
        if not self._api.reaches(self._observer.node):
            self._api.heap.after(self._api.random.uniform(0.2, 2.0), self._retry, epoch)
            return
        self._last = self._api.heap.now + self._api.delay()
        there = {(kind, key): value for kind in self._kinds for key, value in self._api.objects[kind].items()}
        changes = [Change(kind, key, value) for (kind, key), value in there.items()]
        changes += [Change(kind, key, None) for kind, key in self._known.keys() - there.keys()]
        self._api.heap.at(self._last, self._deliver, epoch, changes, True)
        self._api.open(self)

    def _retry(self, epoch: int) -> None:
        if epoch == self._epoch:
            self.begin()

    def tell(self, change: Change) -> None:
        if change.kind not in self._kinds:
            return
        api = self._api
        if api.still and change.kind is Kind.LEASE:
            self._tell_later(change)
            return
        when = self._last = max(self._last, api.heap.now + api.delay())
        api.heap.at(when, self._deliver, self._epoch, [change], False)

    def _tell_later(self, change: Change) -> None:
        self._batch.append(change)
        if len(self._batch) == 1:
            when = self._last = (max(self._last, self._api.heap.now) // GRID_S + 1) * GRID_S
            self._api.heap.at(when, self._deliver_batch, self._epoch)

    def _deliver_batch(self, epoch: int) -> None:
        batch, self._batch = self._batch, []
        self._deliver(epoch, batch, False)

    def _deliver(self, epoch: int, changes: list[Change], whole: bool) -> None:
        if epoch != self._epoch:
            return
        items: list[Change | Synced] = []
        for change in changes:
            which = (change.kind, change.key)
            if change.value is None:
                if self._known.pop(which, None) is not None:
                    items.append(change)
            elif self._known.get(which) != change.value:
                self._known[which] = change.value
                items.append(change)
        if whole:
            self.open_since = self._api.heap.now
            if not self._synced:
                self._synced = True
                items.append(Synced(self._kinds[0]))
        if items:
            self._observer.take_all(items)

    def cut(self, again_after_s: float | None) -> None:
        """The connection is gone; what is under way is lost."""
        self._epoch += 1
        self.open_since = None
        self._api.shut(self)
        if again_after_s is not None:
            self._api.heap.after(again_after_s, self._retry, self._epoch)


class Api:
    """The objects by kind and key, and who may reach them."""

    def __init__(self, heap: Heap, random: Random, trouble: float) -> None:
        self.heap = heap
        self.random = random
        self.trouble = trouble  # share of the writes that go wrong
        self.still = False
        self.objects: dict[Kind, dict[str, object]] = {kind: {} for kind in Kind}
        self.pins_version = 0
        self._open: dict[Stream, None] = {}
        self._streams: dict[str, list[Stream]] = {}  # by node
        self._cut: set[str] = set()
        self.down = False

    # -- reading --

    def watch(self, observer: Observer) -> list[Stream]:
        streams = [Stream(self, observer, kinds) for kinds in STREAMS]
        self._streams[observer.node] = streams
        for stream in streams:
            stream.begin()
        return streams

    def unwatch(self, node: str) -> None:
        for stream in self._streams.pop(node, ()):
            stream.cut(None)

    def open(self, stream: Stream) -> None:
        self._open[stream] = None

    def shut(self, stream: Stream) -> None:
        self._open.pop(stream, None)

    def delay(self) -> float:
        low, high = DELAY_S
        return low + (high - low) * self.random.random()

    # -- who reaches it --

    def reaches(self, node: str) -> bool:
        return not self.down and node not in self._cut

    def cut(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            self._cut.add(node)
            self._break(node)

    def mend(self, nodes: Iterable[str]) -> None:
        self._cut.difference_update(nodes)

    def go_down(self) -> None:
        self.down = True
        for node in list(self._streams):
            self._break(node)

    def _break(self, node: str) -> None:
        for stream in self._streams.get(node, ()):
            stream.cut(self.random.uniform(0.1, 3.0))

    # -- writing --

    def put(self, kind: Kind, key: str, value: object | None) -> None:
        """This is so from now on."""
        if value is None:
            if self.objects[kind].pop(key, None) is None:
                return
        else:
            self.objects[kind][key] = value
        self.pins_version += kind is Kind.PINS
        change = Change(kind, key, value)
        for stream in list(self._open):
            stream.tell(change)

    def write(self, node: str, do: Callable[[], None], done: Callable[[bool], None]) -> None:
        """Have `do` done; `done` hears whether the answer said so."""
        roll, after, random = self.random.random(), self.heap.after, self.random
        if not self.reaches(node) or roll < self.trouble:
            after(TIMEOUT_S, done, False)
        elif roll < self.trouble * 1.5:  # refused
            after(self.delay(), done, False)
        elif roll < self.trouble * 2:  # done, and the answer is lost
            after(random.uniform(0.0, TIMEOUT_S), self._do, node, do, None)
            after(TIMEOUT_S, done, False)
        else:
            after(random.uniform(0.001, 0.05), self._do, node, do, done)

    def _do(self, node: str, do: Callable[[], None], done: Callable[[bool], None] | None) -> None:
        if not self.reaches(node):
            if done is not None:
                self.heap.after(TIMEOUT_S, done, False)
            return
        do()
        if done is not None:
            self.heap.after(self.random.uniform(0.001, 0.02), done, True)

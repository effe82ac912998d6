"""Fair shares: of a queue's order, and of anything that is bounded, such as places or memory.

`FairQueue` serves who has received least: start-time fair queueing (Goyal, Vin and Cheng, 1996) in two levels, clients
and the requests of a client. One client with many requests, or one request with many pictures, delays another by one
picture and not by all of its own.

`FairBudget` takes back from the largest holder (longest-queue-drop) when something has run out. So one client may use
all of it, but only while no other needs it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Generic, TypeVar

T = TypeVar("T")

NETWORK_BITS = 64
"""Leading bits of an IPv6 address that belong to one client, who can choose the others."""


@dataclass(frozen=True)
class Owner:
    """Whom something is for: a client, and one of its requests."""

    client: str = ""
    request: Hashable = field(default_factory=object)


def client_at(address: str) -> str:
    """Name the client at an address: the address itself, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((parsed, NETWORK_BITS), strict=False))


class _Level(Generic[T]):
    """Members that wait, and the cost that each of them has received."""

    def __init__(self) -> None:
        self.members: dict[Hashable, T] = {}
        self._received: dict[Hashable, float] = {}
        self._now = 0.0

    def get(self, key: Hashable, create: Callable[[], T]) -> T:
        """Return a member. A new one starts level with those that wait."""
        if key not in self.members:
            self.members[key], self._received[key] = create(), self._now
        return self.members[key]

    def next(self) -> Hashable:
        key = min(self.members, key=self._received.__getitem__)
        self._now = self._received[key]
        return key

    def charge(self, key: Hashable, cost: float) -> None:
        self._received[key] += cost

    def remove(self, key: Hashable) -> None:
        del self.members[key], self._received[key]


class FairQueue(Generic[T]):
    """A queue whose order is fair to clients, and to the requests of each client."""

    def __init__(self) -> None:
        self._clients: _Level[_Level[deque[tuple[T, float]]]] = _Level()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """Iterate over all items, ordered by client and request."""
        for requests in self._clients.members.values():
            for items in requests.members.values():
                yield from (item for item, _ in items)

    def push(self, item: T, owner: Owner, cost: float = 1.0) -> None:
        """Add an item of a client's request."""
        requests = self._clients.get(owner.client, _Level)
        requests.get(owner.request, deque).append((item, cost))
        self._length += 1

    def pop(self) -> T:
        """Remove the next item. Raises IndexError: there is none."""
        if not self._length:
            raise IndexError("the queue is empty")
        client = self._clients.next()
        requests = self._clients.members[client]
        request = requests.next()
        items = requests.members[request]
        item, cost = items.popleft()
        self._length -= 1
        self._clients.charge(client, cost)
        requests.charge(request, cost)
        if not items:
            requests.remove(request)
        if not requests.members:
            self._clients.remove(client)
        return item


class Holding:
    """What one request holds of a budget; `evict` is called when it is taken back."""

    def __init__(self, budget: FairBudget, owner: Owner, evict: Callable[[], None]) -> None:
        self.owner, self.evict = owner, evict
        self.amount = 0
        self._budget = budget

    def take(self, amount: int) -> bool:
        """Hold more. Returns False if nothing is left, and no other holder has more than this one would."""
        return self._budget._take(self, amount)

    def may_take(self, amount: int) -> bool:
        """Return what `take` would, and change nothing."""
        budget = self._budget
        return budget.used + amount <= budget.capacity or budget._victim(self, amount) is not None


class FairBudget:
    """A bounded number of places, or bytes, that requests hold."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.peak = 0
        """Most that was used since this was last set."""
        self._holdings: set[Holding] = set()

    def __len__(self) -> int:
        """Number of holders, including those that hold nothing yet."""
        return len(self._holdings)

    @contextmanager
    def hold(self, owner: Owner, evict: Callable[[], None]) -> Generator[Holding]:
        """Hold nothing at first, and give back what was taken at the end of the block."""
        holding = Holding(self, owner, evict)
        self._holdings.add(holding)
        try:
            yield holding
        finally:
            self._holdings.discard(holding)
            self._release(holding)

    def _take(self, holding: Holding, amount: int) -> bool:
        while self.used + amount > self.capacity:
            victim = self._victim(holding, amount)
            if victim is None:
                return False
            self._release(victim)
            victim.evict()
        holding.amount += amount
        self.used += amount
        self.peak = max(self.peak, self.used)
        return True

    def _release(self, holding: Holding) -> None:
        self.used -= holding.amount
        holding.amount = 0

    def _victim(self, holding: Holding, amount: int) -> Holding | None:
        """Return the largest holding of the client with most, if that is more than this holding would be."""
        totals: Counter[str] = Counter()
        for other in self._holdings:
            totals[other.owner.client] += other.amount
        client = holding.owner.client
        largest = max(totals, key=lambda name: (totals[name], name == client))
        if largest != client and totals[largest] <= totals[client] + amount:
            largest = client
        candidates = [other for other in self._holdings if other.owner.client == largest and other is not holding]
        victim = max(candidates, key=lambda other: other.amount, default=None)
        if victim is None or not victim.amount:
            return None
        return victim if largest != client or victim.amount > holding.amount + amount else None

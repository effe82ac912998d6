"""Who is served next, and who gives back what is needed."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from snow.serving.fairness import FairBudget, FairQueue, Holding, Owner, client_at


def order(queue: FairQueue[str]) -> str:
    return "".join(queue.pop() for _ in range(len(queue)))


def test_clients_take_turns_and_so_do_the_requests_of_each() -> None:
    queue: FairQueue[str] = FairQueue()
    many, one = Owner("a"), Owner("a")
    for _ in range(4):
        queue.push("m", many)
    queue.push("o", one)
    other = Owner("b")
    for _ in range(2):
        queue.push("b", other)
    assert sorted(queue) == sorted("mmmmobb")
    assert order(queue) == "mbobmmm"
    with pytest.raises(IndexError):
        queue.pop()


def test_cost_counts_and_waiting_earns_no_credit() -> None:
    queue: FairQueue[str] = FairQueue()
    heavy, light = Owner("heavy"), Owner("light")
    for _ in range(2):
        queue.push("H", heavy, 10.0)
    for _ in range(11):
        queue.push("l", light, 1.0)
    assert order(queue) == "H" + 10 * "l" + "Hl"
    for _ in range(5):
        queue.push("l", light)
    assert [queue.pop() for _ in range(3)] == ["l"] * 3
    late = Owner("late")
    for _ in range(3):
        queue.push("n", late)
    assert order(queue) in ("lnlnn", "nlnln")


def test_requests_of_one_client_are_served_in_the_order_in_which_they_came() -> None:
    queue: FairQueue[str] = FairQueue()
    for letter in "abcdef":
        queue.push(letter, Owner())
    assert order(queue) == "abcdef"


class Request:
    """Holds something until it is evicted."""

    def __init__(self, budget: FairBudget, client: str, amount: int) -> None:
        self.evicted = 0
        self.context = budget.hold(Owner(client), self.evict)
        self.holding: Holding = self.context.__enter__()
        self.had = self.holding.take(amount)

    def evict(self) -> None:
        self.evicted += 1


def test_one_client_may_use_all_until_another_comes() -> None:
    budget = FairBudget(10)
    greedy = [Request(budget, "greedy", 2) for _ in range(5)]
    assert budget.used == 10
    assert all(request.had for request in greedy)
    assert not Request(budget, "greedy", 2).had
    others = [Request(budget, "other", 2) for _ in range(3)]
    assert [request.had for request in others] == [True, True, False]
    assert sum(request.evicted for request in greedy) == 2
    assert budget.used == 10
    for request in (*greedy, *others):
        request.context.__exit__(None, None, None)
    assert budget.used == 0


def test_a_small_request_takes_from_a_large_one_of_the_same_client() -> None:
    budget = FairBudget(10)
    large = Request(budget, "a", 9)
    small = [Request(budget, "a", 1) for _ in range(3)]
    assert all(request.had for request in small)
    assert (large.evicted, budget.used) == (1, 3)
    assert not small[0].holding.may_take(10)
    assert budget.used == 3


def test_a_client_with_many_ipv6_addresses_is_one() -> None:
    assert client_at("2001:db8::1") == client_at("2001:db8::ffff:1") != client_at("2001:db8:1::1")
    assert client_at("192.0.2.1") != client_at("192.0.2.2")
    assert client_at("fe80::1%eth0") == client_at("fe80::2")
    assert client_at("testclient") == "testclient"

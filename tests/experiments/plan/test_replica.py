"""The simulation against closed forms, and against the service's own batcher."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
import torch

from snow.experiments.plan.replica import SimulatedReplica
from snow.experiments.plan.simulation import simulate
from snow.serving.batching import Batcher
from snow.serving.limits import Limits


def limits(**options: object) -> Limits:
    return Limits(**{"max_pictures": 1, "max_wait": 0.0, "queue": 10_000, "deadline": 1000.0, **options})


def replica(
    seconds: Callable[[int], float],
    handling: float = 0.0,
    decoding: float = 0.0,
    delay: float = 0.0,
    **options: object,
) -> Callable[[], SimulatedReplica]:
    return lambda: SimulatedReplica(limits(**options), handling, decoding, delay, seconds)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_picture_at_a_time_waits_as_the_closed_form_says(load: float) -> None:
    """M/D/1: with passes of one second a picture waits `load / 2 (1 - load)` in the mean."""
    alone = replica(lambda pictures: 1.0, max_batch=1)
    made: list[SimulatedReplica] = []
    outcome = simulate(lambda: made.append(alone()) or made[-1], load, pictures=100_000)
    waits = [done - came - 1 for came, done in made[0].answered]
    assert sum(waits) / len(waits) == pytest.approx(load / (2 * (1 - load)), rel=0.05)
    assert outcome.utilisation == pytest.approx(load, rel=0.02)
    assert outcome.p50 <= outcome.p95 <= outcome.p99
    assert (outcome.refused, outcome.batch) == (0, 1)


def test_random_passes_wait_as_the_closed_form_says() -> None:
    """M/G/1, Pollaczek and Khinchine: passes of 0.5 s and of 1.5 s, as likely as each other."""
    chance = random.Random(1)
    made: list[SimulatedReplica] = []
    new = replica(lambda pictures: chance.choice((0.5, 1.5)), max_batch=1)
    simulate(lambda: made.append(new()) or made[-1], 0.6, pictures=200_000)
    answered = made[0].answered
    mean = sum(done - came for came, done in answered) / len(answered) - 1
    assert mean == pytest.approx(0.6 * 1.25 / (2 * 0.4), rel=0.05)


@pytest.mark.parametrize("routing", ["random", "least"])
def test_a_load_beyond_capacity_fills_the_queue_and_the_rest_is_refused(routing: str) -> None:
    """Batches of four in 0.1 s: 40 pictures a second, of 100; 20 places, so half a second until the answer."""
    new = replica(lambda pictures: 0.1, max_batch=4, queue=20)
    outcome = simulate(new, 300, 3, routing, pictures=20_000)
    assert outcome.per_second == pytest.approx(40, rel=0.02)
    assert outcome.refused == pytest.approx(0.6, rel=0.03)
    assert outcome.utilisation > 0.99
    assert outcome.batch == pytest.approx(4, rel=0.01)
    assert outcome.p50 == pytest.approx(20 / 40, rel=0.1)


def test_what_waits_beyond_the_deadline_is_refused() -> None:
    new = replica(lambda pictures: 1.0, max_batch=1, queue=100, deadline=5.0)
    outcome = simulate(new, 2.0, pictures=5_000)
    assert outcome.p99 <= 5.0
    assert outcome.refused > 0.4


def test_a_lone_picture_waits_for_others_in_vain() -> None:
    one = replica(lambda pictures: 0.02, handling=0.001, decoding=0.003, max_wait=4.0)()
    one.arrive(1.0)
    one.advance_to(2.0)
    [(came, done)] = one.answered
    assert (came, done) == (1.0, pytest.approx(1.0 + 0.001 + 0.003 + 0.004 + 0.02))


def test_a_full_batch_waits_for_nothing() -> None:
    one = replica(lambda pictures: 0.1, max_batch=2, max_wait=1000.0)()
    for moment in (0.0, 0.25, 0.3):
        one.advance_to(moment)
        one.arrive(moment)
    one.advance_to(10.0)
    assert [done for _, done in one.answered] == pytest.approx([0.35, 0.35, 1.4])


def test_requests_take_time_from_a_pass() -> None:
    for delay, end in ((0.0, 0.1), (0.01, 0.11)):
        one = replica(lambda pictures: 0.1, handling=0.004, decoding=0.006, delay=delay, max_batch=1)()
        one.arrive(0.0)
        one.advance_to(0.05)
        one.arrive(0.05)
        one.advance_to(0.15)
        assert one.answered[0][1] == pytest.approx(0.01 + end)


def test_decoding_threads_bound_what_is_answered() -> None:
    new = replica(lambda pictures: 0.001, decoding=0.1, max_batch=4, queue=20, decoders=2)
    assert simulate(new, 100, pictures=5_000).per_second == pytest.approx(20, rel=0.02)


def test_the_least_loaded_is_the_better_choice_and_alone_is_alone() -> None:
    new = replica(lambda pictures: 1.0, max_batch=1)
    dealt, chosen = (simulate(new, 0.8 * 8, 8, routing, pictures=40_000) for routing in ("random", "least"))
    assert chosen.p99 < 0.7 * dealt.p99
    assert chosen.per_second == pytest.approx(dealt.per_second, rel=0.05)
    assert simulate(new, 0.8, 1, "least") == simulate(new, 0.8, 1, "random")


def test_it_batches_as_the_service_does() -> None:
    """The service's own batcher, on a clock that jumps from one event to the next, answers every picture with the same
    company and at the same time."""
    chance = random.Random(3)
    moments = [0.0]
    for _ in range(400):
        moments.append(moments[-1] + chance.expovariate(90))
    seconds = {count: 0.01 + 0.007 * count for count in range(1, 7)}
    one = replica(seconds.__getitem__, max_batch=6, max_wait=5.0, queue=8)()
    for moment in moments:
        one.advance_to(moment)
        one.arrive(moment)
    one.advance_to(1e9)
    answered, refused = served(moments, seconds, size=6, wait=0.005, bound=8)
    assert 0 < len(refused) < 200
    assert one.refused == pytest.approx(refused)
    assert one.answered == [pytest.approx(pair) for pair in answered]


class Jumping(asyncio.SelectorEventLoop):
    """Time passes only where everything waits."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def served(
    moments: Sequence[float], seconds: dict[int, float], size: int, wait: float, bound: int
) -> tuple[list[tuple[float, float]], list[float]]:
    """When pictures came and were answered, and when those came that were refused."""
    from snow.serving.errors import RefusedError
    from snow.serving.fairness import Owner

    answered: list[tuple[float, float]] = []
    refused: list[float] = []
    pixel = torch.zeros(3, 1, 1)

    async def work() -> None:
        loop = asyncio.get_running_loop()

        async def answer(images: Sequence[object], _: object) -> list[str]:
            await asyncio.sleep(seconds[len(images)])
            return [""] * len(images)

        batcher = Batcher[str](answer, size, wait, bound)
        running = asyncio.create_task(batcher.run())

        async def client(moment: float) -> None:
            await asyncio.sleep(moment)
            try:
                owner = Owner()
                with batcher.reserve(owner, lambda: None) as places:
                    places.extend(1)
                    await batcher.submit(pixel, (), owner)
                    answered.append((moment, loop.time()))
            except RefusedError:
                refused.append(moment)

        await asyncio.gather(*(client(moment) for moment in moments))
        batcher.close()
        await running

    loop = Jumping()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
    return sorted(answered), refused

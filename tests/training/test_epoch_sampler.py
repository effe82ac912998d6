from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snow.errors import SnowError
from snow.training.loader import EpochSampler
from snow.training.training_data import balanced_weights


@settings(deadline=None, max_examples=25)
@given(pictures=st.integers(8, 200), batch_size=st.integers(8, 64), processes=st.integers(1, 3))
def test_processes_share_every_batch_and_cover_every_picture_once(
    pictures: int, batch_size: int, processes: int
) -> None:
    if pictures // -(-pictures // batch_size) < 2 * processes:
        with pytest.raises(SnowError, match="batch"):
            EpochSampler(pictures, batch_size, 0, 0, processes)
        return
    alone = EpochSampler(pictures, batch_size, seed=3)
    orders = [EpochSampler(pictures, batch_size, 3, rank, processes) for rank in range(processes)]
    for order in (alone, *orders):
        order.start(epoch=5)
    shares = [list(order) for order in orders]
    assert len({len(share) for share in shares}) == 1
    for number, batch in enumerate(alone):
        together = [key for share in shares for key in share[number]]
        assert sorted(together) == sorted(batch)
        assert sorted(index for index, _ in batch) == sorted(alone.batch(number).tolist())
        assert max(len(share[number]) for share in shares) - min(len(share[number]) for share in shares) <= 1
    sizes = [len(batch) for batch in alone]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sorted(index for batch in alone for index, _ in batch) == list(range(pictures))


def test_it_is_a_function_of_seed_and_epoch() -> None:
    def keys(seed: int, epoch: int) -> list[tuple[int, int]]:
        order = EpochSampler(50, 10, seed)
        order.start(epoch)
        return [key for batch in order for key in batch]

    assert keys(0, 0) == keys(0, 0)
    assert keys(0, 0) != keys(0, 1)
    assert keys(0, 1) != keys(1, 0)
    assert dict(keys(0, 0)) != dict(keys(0, 1)), "a picture is varied anew in each epoch"
    assert len({seed for _, seed in keys(0, 0)}) == 50


def test_it_starts_at_any_batch_and_draws_nothing_from_torch() -> None:
    order = EpochSampler(50, 10, seed=0)
    order.start(2)
    whole = list(order)
    before = torch.get_rng_state()
    order.start(2, batch=3)
    assert len(order) == 2
    assert list(order) == whole[3:]
    order.start(2, batch=5)
    assert list(order) == []
    assert torch.equal(before, torch.get_rng_state())


def test_no_picture_is_refused() -> None:
    with pytest.raises(SnowError, match="no picture"):
        EpochSampler(0, 8, 0)


def test_with_weights_rare_pictures_come_again_and_again() -> None:
    strata = torch.tensor([[0, 0]] * 90 + [[1, -1]] * 10)
    weights = balanced_weights(strata)
    assert float(weights[90:].sum()) == pytest.approx(0.5)
    order = EpochSampler(100, 10, seed=0, weights=weights)
    drawn = torch.cat([order.batch(number) for number in range(order.batches)])
    assert len(drawn) == 100
    assert 35 < int((drawn >= 90).sum()) < 65
    order.start(0)
    assert torch.equal(drawn, torch.cat([order.batch(number) for number in range(order.batches)]))

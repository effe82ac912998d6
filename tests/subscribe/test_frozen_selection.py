"""Channel pooling after its selection is fixed: it trains as the selected channels would have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snow.subscribe import ChannelPooling, FusionConv, PoolingConfig, SubscribedMap

N, K = 32, 8


def pooling(**options: object) -> ChannelPooling:
    torch.manual_seed(0)
    result = ChannelPooling(N, K, PoolingConfig(sigma2=0.0, init="normal", **options))
    result.gain.uniform_(0.5, 2.0)
    return result


@pytest.mark.parametrize("slots", ["channel", "index"])
def test_gradients_are_those_of_the_selected_channels(slots: str) -> None:
    wide = pooling(slots=slots)
    narrow, columns = wide.freeze_selection()
    fusion = FusionConv(4, wide.weight_columns, K, 6)
    kept = FusionConv(4, K, K, 6)
    index = wide.topk_indices()
    columns = torch.arange(K) if columns is None else columns
    kept.weight = nn.Parameter(torch.cat([fusion.weight[:, :4], fusion.weight[:, 4:][:, columns]], 1).detach())
    x, own = torch.randn(3, N, 5, 5), torch.randn(3, 4, 5, 5)
    results = [fusion(own, wide(x)), kept(own, narrow(x)), kept(own, narrow(x[:, index]))]
    for result in results:
        assert torch.equal(result, results[0])
    results[0].square().sum().backward()
    for result in results[1:]:
        narrow.zero_grad()
        kept.zero_grad()
        result.square().sum().backward()
        assert torch.equal(narrow.weight.grad, wide.weight.grad[index])
        assert torch.equal(kept.weight.grad[:, :4], fusion.weight.grad[:, :4])
        assert torch.equal(kept.weight.grad[:, 4:], fusion.weight.grad[:, 4:][:, columns])


def test_the_selection_stays_when_the_weights_move() -> None:
    wide = pooling()
    narrow, _ = wide.freeze_selection()
    narrow.weight.data.neg_()
    assert torch.equal(narrow.selected_mask(), wide.selected_mask())
    assert torch.equal(narrow.sample_channels(), wide.topk_indices())
    exported, columns = narrow.export_form()
    assert columns is None
    assert torch.equal(exported.selected_mask(), wide.selected_mask())
    x = torch.randn(2, N, 3, 3)
    assert torch.equal(exported(x).scaled, narrow(x).scaled)
    assert narrow.freeze_selection() == (narrow, None)


def test_norm_and_activation_go_with_it() -> None:
    wide = pooling(slots="index", norm=True, relu=True)
    wide.norm.weight.data.uniform_(0.5, 2.0)
    narrow, columns = wide.freeze_selection()
    assert columns is None
    x = torch.randn(4, N, 3, 3)
    assert torch.equal(narrow.train()(x).scaled, wide.train()(x).scaled)
    assert torch.equal(narrow.norm.running_mean, wide.norm.running_mean)
    assert torch.equal(narrow.export_form()[0].eval()(x).scaled, narrow.eval()(x).scaled)


def test_a_map_that_is_to_be_scaled_is_scaled_by_the_layer_behind() -> None:
    fusion = FusionConv(2, K, K, 5, kernel=3)
    own, x, scale = torch.randn(2, 2, 6, 6), torch.randn(2, K, 6, 6), torch.randn(K)
    expected = fusion(own, SubscribedMap(x * scale.view(-1, 1, 1), None))
    torch.testing.assert_close(fusion(own, SubscribedMap(x, None, scale)), expected, rtol=1e-4, atol=1e-5)

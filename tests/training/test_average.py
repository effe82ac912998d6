from __future__ import annotations

import torch
from tiny import built, tiny_dataset, tiny_recipe, tiny_runtime, tiny_source
from torch import nn

from snow.training.fit import fit
from snow.training.weight_average import WeightAverage


def test_it_follows_the_weights() -> None:
    module = nn.BatchNorm1d(2)
    average = WeightAverage(module, decay=0.15)
    expected = module.weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            module.weight.add_(torch.rand(2))
            module.num_batches_tracked.add_(1)
        average.update()
        decay = min(0.15, step / (step + 10))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    own = module.weight.detach().clone()
    with average.swapped_in():
        torch.testing.assert_close(module.weight.detach(), expected)
        assert module.num_batches_tracked == 5
    assert torch.equal(module.weight, own)
    assert not torch.equal(expected, own)


def test_the_average_is_what_is_kept() -> None:
    kept, last = built(noise=0.0), built(noise=0.0)
    fit(tiny_source(), {"colour": kept}, tiny_dataset(), tiny_recipe(ema=0.9), runtime=tiny_runtime())
    fit(tiny_source(), {"colour": last}, tiny_dataset(), tiny_recipe(), runtime=tiny_runtime())
    assert int(kept.seen) == int(last.seen)
    assert not torch.equal(kept.classifier.weight, last.classifier.weight)
    torch.testing.assert_close(kept.classifier.weight, last.classifier.weight, atol=0.05, rtol=0)

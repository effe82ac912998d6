"""The delta: the small network of one task, fed by a source (paper, sections 2.1 and 2.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from snow.delta.families import FAMILIES
from snow.delta.family import Block, patch_stem
from snow.delta.low_rank_head import LowRankHead, width
from snow.delta.moments_head import MomentsHead
from snow.delta.plan import DeltaPlan
from snow.source import FINAL, Features
from snow.subscribe import (
    SUBSCRIPTIONS,
    ChannelPooling,
    ChannelStatistics,
    ColumnLayer,
    FusionConv,
    PoolingConfig,
    Subscription,
)


class Delta(nn.Module):
    """`own = stem(picture)`, then at each tap `own = block(concat(own, subscribed))`, then the family's head and a
    linear classifier over `concat(mean of own, subscribed final features)` and the moments of what was subscribed to.
    The final features, which are no map, go through channel pooling whatever the subscription of the maps.

    Where there are many classes, all that is subscribed to meets them in a product of two matrices, see `LowRankHead`.

    Args:
        num_classes: width of the answer.
        subscription: of the maps, a name in `SUBSCRIPTIONS`.
        served: build the form that answers and is saved: only the chosen channels.
        dropout: probability with which a classifier input is dropped while training.
        readout: scale of the subscribed moments that the classifier reads; 0: it does not read them (the paper).
        rank: how many directions, where they take fewer parameters than a weight for each class; 0: there are none.
    """

    def __init__(
        self,
        plan: DeltaPlan,
        num_classes: int,
        subscription: str = "channel_pooling",
        pooling: PoolingConfig | None = None,
        exported: bool = False,
        dropout: float = 0.0,
        readout: float = 0.0,
        rank: int = 0,
    ) -> None:
        super().__init__()
        family, pooling = FAMILIES[plan.family], pooling or PoolingConfig()
        create, create_final = (
            kind.create_exported if exported else kind.create for kind in (SUBSCRIPTIONS[subscription], ChannelPooling)
        )
        self.taps = [level.tap for level in plan.levels]
        self.stem = (patch_stem if plan.patchify else family.stem)(plan.stem, plan.stem_stride)
        subscriptions = [create(level.channels, level.keep, pooling) for level in plan.levels]
        self.subscriptions = nn.ModuleList(subscriptions)
        self.blocks = nn.ModuleList(
            family.block(level, subscription.weight_columns, subscription.width)
            for level, subscription in zip(plan.levels, subscriptions, strict=True)
        )
        self.head, features = family.head(plan.levels[-1].out, plan.features)
        self.final = create_final(plan.final, plan.final_keep, pooling)
        self.dropout = nn.Dropout(dropout)
        read = [(one, 2) for one in subscriptions] + [(self.final, 1)] if readout else []
        inputs = width(read)
        low = 0 < rank * (inputs + num_classes) < inputs * num_classes
        weight_columns, taken = (0, 0) if low else (self.final.weight_columns, self.final.width)
        self.classifier = FusionConv(features, weight_columns, taken, num_classes, bias=True)
        nn.init.zeros_(self.classifier.weight)  # the first step is a linear probe's: own features join as they help
        self.directions = LowRankHead(read, rank, num_classes, readout, dropout, exported) if low else None
        self.readouts = nn.ModuleList(
            MomentsHead(one.weight_columns, num_classes, readout, dropout, kinds)
            for one, kinds in ([] if low else read[:-1])
        )

    def forward(self, features: Features) -> Tensor:
        """Returns logits (B, num_classes)."""
        own = self.stem(features.images)
        subscribed = []
        for tap, subscription, block in self.levels():
            x = features.maps[tap]
            if own.shape[-2:] != x.shape[-2:]:  # unpadded convolutions make odd sizes
                own = nn.functional.adaptive_avg_pool2d(own, (x.shape[-2], x.shape[-1]))
            subscribed.append(subscription(x))
            own = block(own, subscribed[-1])
        mine = self.dropout(self.head(own).mean((2, 3), keepdim=True))
        theirs = self.final(features.final[:, :, None, None])
        if self.directions is not None:
            return self.classifier(mine).flatten(1) + self.directions([*subscribed, theirs])
        theirs = theirs._replace(features=self.dropout(theirs.features))
        logits = self.classifier(mine, theirs).flatten(1)
        for readout, one in zip(self.all_readouts(), subscribed, strict=False):
            logits = logits + readout(one)
        return logits

    def levels(self) -> Iterator[tuple[str, Subscription, Block]]:
        """Tap, subscription and block of each level in order."""
        subscriptions, blocks = cast(Iterable[Subscription], self.subscriptions), cast(Iterable[Block], self.blocks)
        return zip(self.taps, subscriptions, blocks, strict=True)

    def all_subscriptions(self) -> list[Subscription]:
        """Those of the levels in order, then that of the final features."""
        return [*cast(Iterable[Subscription], self.subscriptions), self.final]

    def all_readouts(self) -> Iterable[MomentsHead]:
        """That of each level in order, and of the final features where there are directions; none in the paper."""
        return cast(Iterable[MomentsHead], self.readouts if self.directions is None else self.directions.readouts)

    def named_subscriptions(self) -> list[tuple[str, Subscription]]:
        """By tap those of the levels in order, then that of the final features, `FINAL`."""
        return list(zip((*self.taps, FINAL), self.all_subscriptions(), strict=True))

    def selected_mask(self) -> dict[str, Tensor]:
        """By tap, and `FINAL` for the final features: (N,) of bool, what it would take if it answered now."""
        found = {tap: subscription.selected_mask() for tap, subscription in self.named_subscriptions()}
        return {tap: mask for tap, mask in found.items() if mask is not None}

    def set_progress(self, fraction: float) -> None:
        for subscription in self.all_subscriptions():
            subscription.set_progress(fraction)

    def calibrate(self, statistics: dict[str, ChannelStatistics]) -> None:
        """Tells each subscription what is known of its channels: by tap, and `FINAL` for the final features."""
        for tap, subscription in self.named_subscriptions():
            subscription.calibrate(statistics[tap])
        for readout, (tap, subscription) in zip(self.all_readouts(), self.named_subscriptions(), strict=False):
            if (channel_scale := subscription.channel_scale()) is not None:
                readout.calibrate(statistics[tap], channel_scale)

    @torch.no_grad()
    def discriminate(self, found: dict[str, Tensor], label: Tensor) -> None:
        """After calibration: starts the directions, if there are any, with what would be taken now.

        Args:
            found: by tap and `FINAL`, moments (n, 2, N) of pictures with labels (n,), -1 where there is none.
        """
        if self.directions is None:
            return
        known = [
            (subscription.selected_mask(), found[tap] * channel_scale.to(found[tap]))
            for tap, subscription in self.named_subscriptions()
            if (channel_scale := subscription.channel_scale()) is not None
        ]
        taken = [None if mask is None else mask.nonzero().flatten() for mask, _ in known]
        self.directions.start([moments for _, moments in known], taken, label)

    def export_form(self) -> Delta:
        """A copy in eval mode that holds only the chosen channels and their weights; this one is left as it is."""
        return self._narrowed(lambda one: one.export_form(), learning=False).eval()

    def freeze_selection(self) -> Delta:
        """A copy that learns on with the channels that it would take now, and their weights alone."""
        return self._narrowed(lambda one: one.freeze_selection(), learning=True).train(self.training)

    def sample_channels(self) -> dict[str, Tensor | None]:
        """By tap, and `FINAL`: see `Subscription.sample_channels`."""
        return {tap: subscription.sample_channels() for tap, subscription in self.named_subscriptions()}

    def _narrowed(self, narrow: Callable[[Subscription], tuple[Subscription, Tensor | None]], learning: bool) -> Delta:
        delta = copy.deepcopy(self)
        narrower = [narrow(subscription) for subscription in delta.all_subscriptions()]
        subscriptions, columns = [one for one, _ in narrower], [kept for _, kept in narrower]
        behind: list[list[nn.Module]] = [[block] for block in delta.blocks]
        if delta.directions is None:
            behind += [[delta.classifier]]
            for readout, consumers in zip(delta.all_readouts(), behind, strict=False):
                consumers.append(readout)
        else:
            delta.directions.keep(columns, learning)
        for kept, consumers in zip(columns, behind, strict=False):
            for layer in nn.ModuleList(consumers).modules():
                if kept is not None and isinstance(layer, ColumnLayer):
                    layer.keep(kept)
        delta.subscriptions, delta.final = nn.ModuleList(subscriptions[:-1]), subscriptions[-1]
        return delta

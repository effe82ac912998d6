"""The delta: the small network of one task, fed by a source (paper, sections 2.1 and 2.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from snow.delta.config import SnowConfig
from snow.delta.families import FAMILIES
from snow.delta.family import Block, patch_stem
from snow.delta.low_rank_head import LowRankHead, count_inputs
from snow.delta.moments_head import MomentsHead
from snow.delta.plan import DeltaPlan
from snow.source import FINAL, Features
from snow.subscribe import (
    SUBSCRIPTIONS,
    ChannelPooling,
    ChannelStatistics,
    ColumnLayer,
    FusionConv,
    Replacement,
    Subscription,
)


class Delta(nn.Module):
    """Classify pictures from channels of the source: `Features` of B pictures -> (B, C).

        h = stem(images)
        h = block(concat(h, subscription(source map)))          at each tap
        logits = classifier(concat(mean(head(h)), pooling(source's final features))) + moments heads

    The final features always go through channel pooling, whatever the subscription of the maps; with a `final_keep` of
    0 they are not read. The moments heads read mean and standard deviation of the subscribed channels; the paper has
    none. With many classes a `LowRankHead` takes their place, and that of the classifier's weights for the final
    features.

    Args:
        num_classes: C.
        exported: build the form used for saving and inference, which holds the selected channels only.
    """

    def __init__(self, plan: DeltaPlan, num_classes: int, config: SnowConfig, exported: bool = False) -> None:
        super().__init__()
        family, pooling = FAMILIES[plan.family], config.pooling
        kinds = SUBSCRIPTIONS[config.subscription], ChannelPooling
        create, create_final = (kind.create_exported if exported else kind.create for kind in kinds)
        self.taps = [level.tap for level in plan.levels]
        self.stem = (patch_stem if plan.patchify else family.stem)(plan.stem, plan.stem_stride)
        subscriptions = [create(level.channels, level.keep, pooling) for level in plan.levels]
        self.subscriptions = nn.ModuleList(subscriptions)
        self.blocks = nn.ModuleList(
            family.block(level, subscription.weight_columns, subscription.width)
            for level, subscription in zip(plan.levels, subscriptions, strict=True)
        )
        self.head, features = family.head(plan.levels[-1].out, plan.features)
        self.final = create_final(plan.final, plan.final_keep, pooling) if plan.final_keep else None
        self.dropout = nn.Dropout(config.dropout)
        readout, rank = config.readout or 0.0, config.rank or 0
        head_inputs = (
            [*((each, 2) for each in subscriptions), (self.final, 1)] if readout and self.final is not None else []
        )
        inputs = count_inputs(head_inputs)
        low_rank = 0 < rank * (inputs + num_classes) < inputs * num_classes
        no_columns = low_rank or self.final is None
        columns, width = (0, 0) if no_columns else (self.final.weight_columns, self.final.width)
        self.classifier = FusionConv(features, columns, width, num_classes, bias=True)
        nn.init.zeros_(self.classifier.weight)  # starts as a linear probe: the delta's features start at zero weight
        self.directions = (
            LowRankHead(head_inputs, rank, num_classes, readout, config.dropout, exported) if low_rank else None
        )
        self.readouts = nn.ModuleList(
            MomentsHead(subscription.weight_columns, num_classes, readout, config.dropout, moment_kinds)
            for subscription, moment_kinds in ([] if low_rank else head_inputs[:-1])
        )

    def forward(self, features: Features) -> Tensor:
        """Compute logits: (B, C)."""
        h = self.stem(features.images)
        subscribed = []
        for tap, subscription, block in self.levels():
            x = features.maps[tap]
            if h.shape[-2:] != x.shape[-2:]:  # convolutions without padding make odd sizes
                h = nn.functional.adaptive_avg_pool2d(h, (x.shape[-2], x.shape[-1]))
            subscribed.append(subscription(x, features.moments.get(tap)))
            h = block(h, subscribed[-1])
        h = self.dropout(self.head(h).mean((2, 3), keepdim=True))
        if self.final is None:
            return self.classifier(h).flatten(1)
        final = self.final(features.final[:, :, None, None])
        if self.directions is not None:
            return self.classifier(h).flatten(1) + self.directions([*subscribed, final])
        logits = self.classifier(h, final._replace(features=self.dropout(final.features))).flatten(1)
        for moments_head, x in zip(self.moments_heads(), subscribed, strict=False):
            logits = logits + moments_head(x)
        return logits

    def levels(self) -> Iterator[tuple[str, Subscription, Block]]:
        """Iterate over tap, subscription and block of each level, in order."""
        subscriptions, blocks = cast(Iterable[Subscription], self.subscriptions), cast(Iterable[Block], self.blocks)
        return zip(self.taps, subscriptions, blocks, strict=True)

    def all_subscriptions(self) -> list[Subscription]:
        """List the subscriptions of the levels in order, then that of the final features."""
        levels = list(cast(Iterable[Subscription], self.subscriptions))
        return levels if self.final is None else [*levels, self.final]

    def named_subscriptions(self) -> list[tuple[str, Subscription]]:
        """List `all_subscriptions` with their taps; that of the final features is named `FINAL`."""
        return list(zip((*self.taps, FINAL), self.all_subscriptions(), strict=False))

    def moments_heads(self) -> Iterable[MomentsHead]:
        """Iterate over the moments heads of the levels, and of the final features if there is a low-rank head."""
        return cast(Iterable[MomentsHead], self.readouts if self.directions is None else self.directions.readouts)

    def selected_mask(self) -> dict[str, Tensor]:
        """Return the channels that would pass in eval mode: tap, or `FINAL` -> (N,) of bool."""
        masks = {tap: subscription.selected_mask() for tap, subscription in self.named_subscriptions()}
        return {tap: mask for tap, mask in masks.items() if mask is not None}

    def selected_moment_taps(self) -> frozenset[str]:
        """Name the taps of whose selected channels `forward` reads moments, if `features.moments` has them."""
        read = zip(self.levels(), self.moments_heads(), strict=False)
        return frozenset(tap for (tap, subscription, _), _ in read if subscription.passes_channels)

    def sample_channels(self) -> dict[str, Tensor | None]:
        """Draw the channels that the next `forward` reads: tap, or `FINAL` -> (K,) ascending; None: all."""
        return {tap: subscription.sample_channels() for tap, subscription in self.named_subscriptions()}

    def set_progress(self, fraction: float) -> None:
        """Follow the schedule of training, with 0..1 of it done."""
        for subscription in self.all_subscriptions():
            subscription.set_progress(fraction)

    def calibrate(self, statistics: dict[str, ChannelStatistics]) -> None:
        """Adapt subscriptions and moments heads to the statistics of each tap's channels, and of `FINAL`."""
        for tap, subscription in self.named_subscriptions():
            subscription.calibrate(statistics[tap])
        for moments_head, (tap, subscription) in zip(self.moments_heads(), self.named_subscriptions(), strict=False):
            if (channel_scale := subscription.channel_scale()) is not None:
                moments_head.calibrate(statistics[tap], channel_scale)

    @torch.no_grad()
    def init_directions(self, moments: dict[str, Tensor], label: Tensor) -> None:
        """Start the low-rank head, if there is one, from the selected channels. Call it after `calibrate`.

        Args:
            moments: tap, or `FINAL` -> (n, 2, N).
            label: (n,), -1 where there is none.
        """
        if self.directions is None:
            return
        scaled: list[Tensor] = []
        selected: list[Tensor | None] = []
        for tap, subscription in self.named_subscriptions():
            if (channel_scale := subscription.channel_scale()) is not None:
                mask = subscription.selected_mask()
                scaled.append(moments[tap] * channel_scale.to(moments[tap]))
                selected.append(None if mask is None else mask.nonzero().flatten())
        self.directions.init_directions(scaled, selected, label)

    @torch.no_grad()
    def multiply(self, factor: float) -> None:
        """Multiply the logits by a factor."""
        last = [self.readouts] if self.directions is None else [self.directions.expand]
        for part in (self.classifier, *last):
            for value in part.parameters():
                value.mul_(factor)

    def export_form(self) -> Delta:
        """Copy with the current selection fixed, in eval mode: only the selected channels and their weights."""
        return self._narrowed_copy(lambda subscription: subscription.export_form(), learning=False).eval()

    def freeze_selection(self) -> Delta:
        """Copy with the current selection fixed, which trains on: only the selected channels and their weights."""
        return self._narrowed_copy(lambda subscription: subscription.freeze_selection(), learning=True).train(
            self.training
        )

    def _narrowed_copy(self, narrow: Callable[[Subscription], Replacement], learning: bool) -> Delta:
        delta = copy.deepcopy(self)
        replacements = [narrow(subscription) for subscription in delta.all_subscriptions()]
        columns = [replacement.columns for replacement in replacements]
        if delta.directions is not None:
            delta.directions.keep(columns, learning)
        for layers, kept in zip(delta._column_layers(), columns, strict=False):
            for layer in layers if kept is not None else ():
                layer.keep(cast(Tensor, kept))
        narrowed = [replacement.subscription for replacement in replacements]
        delta.subscriptions = nn.ModuleList(narrowed[: len(self.taps)])
        delta.final = None if self.final is None else narrowed[-1]
        return delta

    def _column_layers(self) -> list[list[ColumnLayer]]:
        """List the layers behind each subscription that hold weight columns for it, without the low-rank head's."""
        consumers: list[list[nn.Module]] = [[block] for block in self.blocks]
        if self.directions is None and self.final is not None:
            consumers.append([self.classifier])
            for modules, moments_head in zip(consumers, self.moments_heads(), strict=False):
                modules.append(moments_head)
        return [
            [layer for module in modules for layer in module.modules() if isinstance(layer, ColumnLayer)]
            for modules in consumers
        ]

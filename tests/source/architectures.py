"""Networks that give tokens, or maps with channels last, made small: name of timm -> what it is made with."""

from __future__ import annotations

import warnings
from typing import Any

import timm
import torch

from snow.source import Preprocessing, Source

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 2}

TOKENS: dict[str, tuple[int, dict[str, Any]]] = {
    "test_vit": (64, {"img_size": 64}),  # a class token
    "swin_tiny_patch4_window7_224": (
        64,
        {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 4), "window_size": 4},
    ),
    "vit_small_patch14_reg4_dinov2": (42, {"img_size": 42, **SMALL}),  # register tokens, an odd grid, no classes
}
"""Those that every run of the tests looks at."""

MORE: dict[str, tuple[int, dict[str, Any]]] = {
    "mixer_s16_224": (64, {"img_size": 64}),
    "test_vit2": (64, {"img_size": 64}),
    "test_vit3": (64, {"img_size": 64}),
    "test_mambaout": (64, {}),
    "test_convnext2": (64, {}),
    "deit_tiny_distilled_patch16_224": (64, {"img_size": 64, **SMALL}),
    "vit_base_patch16_clip_224": (64, {"img_size": 64, **SMALL}),
    "vit_base_patch16_siglip_224": (64, {"img_size": 64, **SMALL}),
    "vit_relpos_small_patch16_224": (64, {"img_size": 64, **SMALL}),
    "vit_tiny_r_s16_p8_224": (64, {"img_size": 64, "depth": 2}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, **SMALL}),
    "vit_small_patch16_dinov3": (64, {"img_size": 64, **SMALL}),
    "beit_base_patch16_224": (64, {"img_size": 64, **SMALL}),
    "cait_xxs24_224": (64, {"img_size": 64, **SMALL}),
    "convit_tiny": (64, {"img_size": 64, "depth": 3, "embed_dim": 12, "num_heads": 4}),
    "xcit_nano_12_p8_224": (64, {"img_size": 64, "depth": 2}),
    "swinv2_tiny_window8_256": (
        64,
        {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 4), "window_size": 4},
    ),
    "resmlp_12_224": (64, {"img_size": 64}),
    "pvt_v2_b0": (64, {}),
    "twins_svt_small": (64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    "pit_ti_224": (64, {"img_size": 64}),
    "levit_128s": (96, {"img_size": 96}),
    "coat_tiny": (64, {"img_size": 64}),
    "crossvit_tiny_240": (240, {}),
    "nest_tiny": (224, {}),
    "hiera_tiny_224": (64, {"img_size": (64, 64)}),
    "hieradet_small": (64, {"stages": (1, 1, 2, 1)}),
    "mvitv2_tiny": (64, {"img_size": 64}),
    "maxvit_nano_rw_256": (96, {"img_size": 96}),
    "mobilevit_xxs": (64, {}),
    "tiny_vit_5m_224": (64, {}),
    "convnextv2_atto": (64, {}),
    "mobilenetv4_conv_small": (64, {}),
    "fastvit_t8": (64, {}),
    "volo_d1_224": (64, {"img_size": 64}),
}
"""The others, for the slow tests."""

ALL = TOKENS | MORE


def small_source(name: str) -> Source:
    """Make a source of `ALL` with random weights, always the same."""
    size, options = ALL[name]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        cnn = timm.create_model(name, **{"num_classes": 10, **options})
        for value in cnn.parameters():
            if not value.any():
                torch.nn.init.normal_(value, std=0.02)  # position embeddings and branches that start at zero
    return Source(cnn, f"timm/{name}", "random", Preprocessing(size))

"""The paper's own figures. Accuracies in percent, parameters in millions, memory in GB, speeds in images/s."""

from __future__ import annotations

SETS = ("Food", "DTD", "Action", "Car", "CUB")
CLASSES = (101, 47, 40, 196, 200)
"""Table 3, in the order of `SETS`. `snow.data.published` has the numbers of images."""

METHODS = ("FO", "FE", "FT", "MP", "PN", "SNOW-256", "SNOW-128")
"""Rows of Tables 7 and 8. That 256 and 128 are batch sizes is a guess: the text does not say."""

TABLE4 = {
    "keep": {"1/4": (83.10, 96.93), "1/8": (83.79, 96.94), "1/16": (83.39, 96.93)},
    "width": {"1/4": (79.02, 96.00), "1/8": (83.79, 96.94), "1/16": (80.36, 95.93)},
    "pooling.sigma2": {
        "1e-1": (81.27, 95.85),
        "1e-3": (83.79, 96.94),
        "1e-5": (83.45, 96.99),
        "1e-7": (83.35, 96.88),
    },
}
"""Top-1 and top-5 on Car, by K / N, by the width of the delta relative to the source, and by sigma²."""

TABLE5_PARAMETERS = {"FO": 26.8, "FE": 28.3, "FT": 144.3, "MP": 26.9, "PN": 257.4, "SNOW": 30.8}
TABLE5_THROUGHPUT = {"FO": 7060.8, "FE": 5626.6, "FT": 632.9, "MP": 304.3, "PN": 169.5, "SNOW": 4731.0}

SUBSCRIPTIONS = {
    "conv1x1": "1×1 convolution",
    "channel_attention": "channel-wise attention",
    "all": "subscribing to all",
    "channel_pooling": "channel pooling",
}
"""Name in `snow.subscribe.SUBSCRIPTIONS` -> row of Table 6."""

TABLE6_OVERHEAD = {"conv1x1": 14.0, "channel_attention": 35.0, "all": 17.5, "channel_pooling": 5.5}
TABLE6_ACCURACY = {
    "conv1x1": (82.82, 74.73, 78.29, 77.07, 73.20),
    "channel_attention": (84.05, 74.06, 79.50, 82.94, 75.51),
    "all": (82.80, 73.78, 78.85, 76.47, 72.80),
    "channel_pooling": (84.06, 72.37, 78.48, 83.79, 75.81),
}
"""Top-1, in the order of `SETS`."""

TABLE7 = {
    "FO": ((70.76, 90.55), (70.81, 91.65), (76.41, 95.58), (51.96, 78.68), (65.96, 89.90)),
    "FE": ((82.24, 95.84), (71.45, 92.40), (73.97, 93.64), (74.05, 94.12), (67.16, 91.27)),
    "FT": ((87.63, 97.32), (61.56, 85.01), (75.40, 93.02), (90.26, 98.62), (77.93, 93.37)),
    "MP": ((81.97, 95.68), (72.41, 92.88), (81.51, 95.44), (81.42, 96.00), (77.22, 94.24)),
    "PN": ((86.19, 96.97), (74.32, 92.34), (79.99, 94.41), (86.26, 97.71), (76.51, 93.63)),
    "SNOW-256": ((84.06, 96.47), (72.37, 92.02), (78.48, 95.04), (83.79, 96.94), (75.81, 94.05)),
    "SNOW-128": ((84.20, 96.52), (73.98, 93.06), (79.28, 95.25), (83.69, 97.04), (75.51, 93.87)),
}
"""Top-1 and top-5, in the order of `SETS`."""

TABLE8 = {
    "FO": ((1076.08, 4.12), (1089.83, 4.40), (1106.31, 4.38), (1085.67, 4.24), (1102.50, 4.63)),
    "FE": ((1205.84, 4.05), (1205.84, 4.31), (1230.77, 4.02), (1209.26, 4.17), (1219.63, 4.31)),
    "FT": ((356.84, 13.74), (357.94, 13.74), (359.13, 13.83), (358.74, 13.75), (358.24, 14.66)),
    "MP": ((391.36, 14.57), (393.60, 14.68), (394.25, 14.69), (388.66, 14.67), (392.96, 13.72)),
    "PN": ((189.69, 15.29), (189.09, 15.60), (189.50, 15.29), (185.01, 15.72), (187.24, 15.56)),
    "SNOW-256": ((947.80, 4.40), (959.16, 4.40), (949.55, 4.26), (965.31, 4.25), (970.06, 4.27)),
    "SNOW-128": ((871.34, 2.92), (873.12, 2.87), (868.97, 2.80), (885.20, 2.87), (880.94, 2.94)),
}
"""Training throughput and memory, in the order of `SETS`."""

LF_THROUGHPUT, LF_MEMORY = 272.69, 13.99
"""Learning without forgetting (appendix A.3)."""

ORDERS = (("Car", "Action", "CUB", "DTD", "Food"), ("Action", "CUB", "DTD", "Car", "Food"))
TABLE9 = (
    (
        (81.87, 28.40, 22.78, 22.44, 15.31),
        (None, 77.08, 68.87, 62.60, 56.36),
        (None, None, 70.94, 46.12, 32.91),
        (None, None, None, 71.93, 39.29),
        (None, None, None, None, 79.71),
    ),
    (
        (80.63, 72.31, 66.74, 55.5, 57.36),
        (None, 75.91, 54.33, 52.19, 36.00),
        (None, None, 73.26, 43.27, 40.78),
        (None, None, None, 73.77, 16.33),
        (None, None, None, None, 79.10),
    ),
)
"""LF in orders A and B: row i is a task, column j its top-1 after task j was learned."""

SIGMA2 = {"Action": 1e-8}
"""sigma² where it is not 1e-3 (section 3.1)."""

CONVERGED = 60
"""Epochs by which all methods have converged (section 3.1, of Figure 4)."""

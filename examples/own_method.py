"""Write a method of your own, and compare it with the linear probe `fo`.

The method here is a linear classifier on the spatial mean of one feature map of the source:

    python examples/own_method.py
    python examples/own_method.py --data pictures/ --image-size 224 --epochs 20
"""

import argparse

from torch import nn

import snow
from snow.data.samples import write_samples


class TapProbe(snow.Method):
    """Classify the mean of a feature map: (B, N, H, W) -> (B, num_classes). `tap` is an index in `Source.taps`."""

    name = "tap_probe"

    def __init__(self, tap, num_classes, config):
        super().__init__()
        self.tap, self.num_classes, self.options = tap.name, num_classes, config
        self.head = nn.Sequential(nn.BatchNorm1d(tap.channels), nn.Linear(tap.channels, num_classes))

    @classmethod
    def build(cls, source, num_classes, config=None):  # for training
        return cls(source.taps[(config or {}).get("tap", -1)], num_classes, dict(config or {}))

    @classmethod
    def rebuild(cls, source, num_classes, config):  # the saved form; its tensors are loaded afterwards
        return cls.build(source, num_classes, config).eval()

    config = property(lambda self: self.options)  # what `rebuild` needs, as JSON values
    taps = property(lambda self: frozenset({self.tap}))  # the feature maps that `forward` reads

    def forward(self, features):
        return self.head(features.maps[self.tap].mean((2, 3)))


snow.METHODS[TapProbe.name] = TapProbe  # do this wherever a hub with such tasks is opened

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled images; default: textures")
    parser.add_argument("--hub", default="example-hub", help="folder of the hub")
    parser.add_argument("--image-size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    hub = snow.Hub.create(args.hub, snow.Source.embedded(args.image_size))
    data = args.data or write_samples("textures", f"{args.hub}/samples")
    recipe, runtime = snow.Recipe(epochs=args.epochs, lr=3e-3), snow.Runtime(workers=0)
    for method, config in (("fo", {}), ("tap_probe", {"tap": -3})):
        dataset = snow.open_dataset(data, task=method)
        [task] = snow.train(hub, dataset, method=method, config=config, recipe=recipe, runtime=runtime, replace=True)
        print(f"{method}: top-1 accuracy {task.metrics['test']['top1']:.1%}")

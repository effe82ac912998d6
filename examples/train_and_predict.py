"""Train a task, and predict images with it.

By default this trains on small images of textures that come with the installation, in about a minute on two CPU cores:

    python examples/train_and_predict.py
    python examples/train_and_predict.py --data pictures/ --hub my-hub --image-size 224 --epochs 20

`--data` is a folder `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or anything else that `snow.open_dataset` accepts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import snow
from snow.data.samples import write_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled images; default: textures")
    parser.add_argument("--hub", type=Path, default=Path("example-hub"), help="folder of the hub")
    parser.add_argument("--image-size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    # The hub: a folder with one frozen source, and the tasks that are trained on it.
    hub = snow.Hub.create(args.hub, snow.Source.embedded(args.image_size))

    # The data: labelled images, split into a training and a test part. Images that cannot be read are skipped.
    dataset = snow.open_dataset(args.data or write_samples("textures", args.hub / "samples"), task="example")
    for warning in dataset.warnings:
        print("warning:", warning)

    # The task: its delta subscribes to channels of the source. The source is not changed.
    recipe = snow.Recipe(epochs=args.epochs, batch_size=32, lr=3e-3)
    config = snow.SnowConfig(width=1 / 16, dropout=0.1)
    [task] = snow.train(hub, dataset, recipe=recipe, config=config, runtime=snow.Runtime(workers=0), replace=True)
    print(f"top-1 accuracy on test images: {task.metrics['test']['top1']:.1%}")
    print(f"trained parameters: {task.metrics['learned_parameters']:,}")

    # One forward pass of the source serves all tasks of the hub. A hub can be opened again: snow.Hub.open(folder).
    images = dataset.test.items[:3]
    for image, predictions in zip(images, hub.predict(images), strict=True):
        for name, prediction in predictions.items():
            print(f"{image}: {name} is {prediction.classes[0]} ({prediction.probabilities[0]:.0%})")


if __name__ == "__main__":
    main()

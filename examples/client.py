"""Send images to a running service, and print what each task predicts. It needs the standard library only.

snow serve example-hub &
python examples/client.py ant.jpg bee.jpg
python examples/client.py --url http://127.0.0.1:8000 --tasks insects --top-k 3 ant.jpg bee.jpg
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def predict(url: str, images: list[Path], tasks: list[str] | None, top_k: int, timeout: float = 30) -> list[dict]:
    """Send images in one request. Returns one dict per image: task -> prediction or error.

    Raises:
        HTTPError: the service refused the request; the body is `{"error": {"code", "message"}}`.
    """
    body = {"images": [base64.b64encode(image.read_bytes()).decode() for image in images], "top_k": top_k}
    if tasks:
        body["tasks"] = tasks
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{url}/v1/predict", json.dumps(body).encode(), headers), timeout=timeout) as response:
        return [result["tasks"] for result in json.load(response)["results"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--tasks", type=lambda text: text.split(","), help="separated by commas; default: all")
    parser.add_argument("--top-k", type=int, default=1)
    args = parser.parse_args()

    try:
        results = predict(args.url, args.images, args.tasks, args.top_k)
    except HTTPError as error:
        problem = json.load(error)["error"]
        sys.exit(f"{problem['code']}: {problem['message']}")
    for image, predictions in zip(args.images, results, strict=True):
        for task, prediction in predictions.items():
            if "error" in prediction:
                print(f"{image}: {task} failed: {prediction['error']}")
                continue
            ranked = (f"{entry['class']} ({entry['probability']:.0%})" for entry in prediction["classes"])
            print(f"{image}: {task} is {', '.join(ranked)}")


if __name__ == "__main__":
    main()

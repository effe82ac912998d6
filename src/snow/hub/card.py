"""Write the model card of a task or a hub: README.md with its classes, its accuracy and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIBRARY = "snow-cnn"


def task_card(config: Mapping[str, Any], metrics: Mapping[str, Any], repository: str) -> str:
    """Write the model card of one task.

    Args:
        config: content of `config.json`.
        metrics: content of `metrics.json`.
        repository: name on the Hugging Face Hub, or folder.
    """
    name, source = config["task"], config["source"]
    load = [
        "import snow",
        "",
        f'hub = snow.Hub.create("my-hub", {_source_call(source)})',
        f'hub.add(snow.Artifact.from_pretrained("{repository}", hub.source))',
        f'print(hub.predict(["picture.jpg"], ["{name}"])[0]["{name}"].classes[0])',
    ]
    return "\n".join(
        [
            _head(repository, [(name, metrics)]),
            f"# {name}",
            "",
            f"Classifies images into {len(config['classes'])} classes. Trained with method `{config['method']}` of "
            "SNOW on a frozen source, which is not included: this repository holds only what the task has learned.",
            "",
            "## Accuracy",
            "",
            _table(("task", "top-1", "top-5", "test images", "parameters"), [_row(name, metrics)]),
            *_training(config),
            "## Classes",
            "",
            ", ".join(_plain(name) for name in config["classes"]),
            "",
            "## Source",
            "",
            _source_table(source),
            "## How to use it",
            "",
            *_python(load),
        ]
    )


def hub_card(
    source: Mapping[str, Any], tasks: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]], repository: str
) -> str:
    """Write the model card of a hub.

    Args:
        source: content of `source.json`.
        tasks: name, `config.json` and `metrics.json` of each task.
        repository: name on the Hugging Face Hub, or folder.
    """
    rows = [_row(name, metrics) for name, _, metrics in tasks]
    load = [
        "import snow",
        "",
        f'hub = snow.Hub.from_pretrained("{repository}")',
        'print(hub.predict(["picture.jpg"])[0])  # per task: classes with probabilities, most likely first',
    ]
    return "\n".join(
        [
            _head(repository, [(name, metrics) for name, _, metrics in tasks]),
            f"# {repository.rpartition('/')[2]}",
            "",
            f"{len(tasks)} image-classification tasks that share one frozen source, trained with SNOW. "
            "One source pass serves all of them.",
            "",
            "## Tasks",
            "",
            _table(("task", "top-1", "top-5", "test images", "parameters"), rows),
            *(f"- **{name}**: {', '.join(_plain(one) for one in config['classes'])}" for name, config, _ in tasks),
            "",
            "## Source",
            "",
            _source_table(source),
            "## How to use it",
            "",
            *_python(load),
        ]
    )


def _head(repository: str, tasks: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Write the metadata that the Hugging Face Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData  # slow to import

    measured = [(name, _test(metrics)["top1"]) for name, metrics in tasks if "top1" in _test(metrics)]
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="image-classification",
        tags=["snow", "image-classification"],
        model_name=repository.rpartition("/")[2],
        eval_results=[EvalResult("image-classification", name, name, "accuracy", top1) for name, top1 in measured],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    test = _test(metrics)
    shares = (f"{100 * test[key]:.1f} %" if key in test else "" for key in ("top1", "top5"))
    parameters = metrics.get("learned_parameters")
    return (name, *shares, str(test.get("images", "")), f"{parameters:,}" if isinstance(parameters, int) else "")


def _test(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    test = metrics.get("test")
    return test if isinstance(test, Mapping) else {}


def _training(config: Mapping[str, Any]) -> list[str]:
    recipe, data = config["training"].get("recipe"), config["training"].get("data")
    if not isinstance(recipe, Mapping) or not isinstance(data, Mapping):
        return []
    names = ("epochs", "batch_size", "optimizer", "lr", "augment", "seed")
    parts = [f"{data['train_images']} images"] if "train_images" in data else []
    parts += [f"{name.replace('_', ' ')} {recipe[name]}" for name in names if name in recipe]
    return [f"Trained on {', '.join(parts)}.", ""]


def _source_table(source: Mapping[str, Any]) -> str:
    rows = [(key, source[key]) for key in ("architecture", "weights") if key in source]
    rows += [*source.get("preprocessing", {}).items(), ("fingerprint", source["fingerprint"])]
    return _table(("", ""), rows)


def _source_call(source: Mapping[str, Any]) -> str:
    """Write the call that opens a source of this description."""
    library, _, name = str(source.get("architecture", "")).rpartition("/")
    size = source.get("preprocessing", {}).get("image_size")
    resize = source.get("preprocessing", {}).get("resize")
    more = f', resize="{resize}"' if resize else ""
    if source.get("weights") == "embedded":
        return f"snow.Source.embedded({size}{more})"
    weights = "pretrained=True" if source.get("weights") == "pretrained" else 'weights="source.safetensors"'
    return f'snow.Source.from_{library or "timm"}("{name}", {weights}, image_size={size}{more})'


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_plain(cell) for cell in line)} |\n" for line in lines)


def _plain(value: object) -> str:
    """Put a value on one line, with Markdown characters escaped."""
    text = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in r"\`*_[]<>|#" else letter for letter in text)


def _python(lines: Sequence[str]) -> list[str]:
    return ["```bash", f"pip install {LIBRARY}", "```", "", "```python", *lines, "```", ""]

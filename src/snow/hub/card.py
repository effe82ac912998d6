"""Write the model card of a task or a hub: README.md with its classes, its accuracy and how to load it.

Names, metrics and descriptions may come from others: they become plain text, never code or markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snow.errors import printable
from snow.hub.listing import figure_text, figures, unit_of
from snow.source.description import HUGGING_FACE, embedded_name

LIBRARY = "snow-cnn"


def task_card(config: Mapping[str, Any], metrics: Mapping[str, Any], repository: str) -> str:
    """Write the model card of one task.

    Args:
        config: content of `config.json`.
        metrics: content of `metrics.json`.
        repository: name on the Hugging Face Hub, or folder.
    """
    name, source = config["task"], _without_path(config["source"])
    load = [
        "import snow",
        "",
        f'hub = snow.Hub.create("my-hub", {_source_call(source)})',
        f"hub.add(snow.Artifact.from_pretrained({_literal(repository)}, hub.source))",
        f'print(hub.predict(["picture.jpg"], [{_literal(name)}])[0][{_literal(name)}].classes[0])',
    ]
    return "\n".join(
        [
            _head(repository, [(name, metrics)]),
            f"# {_plain(name)}",
            "",
            f"{_purpose(config)} Trained with method {_plain(config['method'])} "
            "of SNOW on a frozen source, which is not included: this repository holds only what the task has learned.",
            "",
            "## Accuracy",
            "",
            _table(*_figures([(name, config, metrics)])),
            *_training(config),
            *_labels(config),
            "## Source",
            "",
            _source_table(source),
            "## How to use it",
            "",
            *_python(load, source),
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
    source = _without_path(source)
    load = [
        "import snow",
        "",
        f"hub = snow.Hub.from_pretrained({_literal(repository)})",
        'print(hub.predict(["picture.jpg"])[0])  # per task: classes with probabilities, most likely first',
    ]
    return "\n".join(
        [
            _head(repository, [(name, metrics) for name, _, metrics in tasks]),
            f"# {_plain(repository.rpartition('/')[2])}",
            "",
            f"{len(tasks)} image tasks that share one frozen source, trained with SNOW. "
            "One source pass serves all of them.",
            "",
            "## Tasks",
            "",
            _table(*_figures(tasks)),
            *(f"- **{_plain(name)}**: {_classes(config)}" for name, config, _ in tasks),
            "",
            "## Source",
            "",
            _source_table(source),
            "## How to use it",
            "",
            *_python(load, source),
        ]
    )


def _head(repository: str, tasks: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Write the metadata that the Hugging Face Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData  # slow to import

    measured = [(name, share) for name, metrics in tasks if (share := _share(metrics, "top1")) is not None]
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="image-classification",
        tags=["snow", "image-classification"],
        model_name=repository.rpartition("/")[2],
        eval_results=[EvalResult("image-classification", name, name, "accuracy", top1) for name, top1 in measured],
    )
    return f"---\n{data.to_yaml()}\n---\n"


PURPOSES = {
    "class": "Classifies images into {} classes.",
    "multi": "Finds which of {} tags apply to an image.",
    "number": "Estimates a number from an image.",
    "ordered": "Grades images on a scale of {} grades.",
}


def _kind(config: Mapping[str, Any]) -> str:
    return str(_mapping(config, "labels").get("kind", "class"))


def _purpose(config: Mapping[str, Any]) -> str:
    return PURPOSES.get(_kind(config), "Answers about images.").format(len(config["classes"]))


def _labels(config: Mapping[str, Any]) -> list[str]:
    """Write the section on the labels: their names, or the range of a number."""
    labels, kind = _mapping(config, "labels"), _kind(config)
    if kind == "number":
        unit = _plain(labels.get("unit", ""))
        return ["## Range", "", f"{_plain(labels.get('low'))} to {_plain(labels.get('high'))} {unit}".strip(), ""]
    title = {"multi": "Tags", "ordered": "Grades"}.get(kind, "Classes")
    return [f"## {title}", "", f"{len(config['classes'])} {title.lower()}: {_classes(config)}", ""]


def _figures(
    tasks: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay out what was measured: columns, and a row for each task."""
    if all(_kind(config) == "class" for _, config, _ in tasks):
        return ("task", "top-1", "top-5", "test images", "parameters"), [_row(name, each) for name, _, each in tasks]
    columns = ("task", "kind", "measured", "test images", "parameters")
    return columns, [
        (name, _kind(config), _measured(config, each), *_row(name, each)[3:]) for name, config, each in tasks
    ]


def _measured(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Write all figures: `map 0.812, micro_f1 0.74`."""
    return ", ".join(figure_text(key, value, unit_of(config)) for key, value in figures(metrics).items())


def _row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    shares = (_share(metrics, key) for key in ("top1", "top5"))
    images, parameters = _test(metrics).get("images"), metrics.get("learned_parameters")
    return (
        name,
        *("" if share is None else f"{100 * share:.1f} %" for share in shares),
        *(f"{value:,}" if isinstance(value, int) else "" for value in (images, parameters)),
    )


def _test(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(metrics, "test")


def _share(metrics: Mapping[str, Any], key: str) -> float | None:
    """Return a measured fraction; None if there is none, or something that is no fraction."""
    value = _test(metrics).get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def _classes(config: Mapping[str, Any]) -> str:
    return ", ".join(map(_plain, config["classes"]))


def _training(config: Mapping[str, Any]) -> list[str]:
    recipe, data = _mapping(config["training"], "recipe"), _mapping(config["training"], "data")
    if not recipe or not data:
        return []
    names = ("epochs", "batch_size", "optimizer", "lr", "augment", "seed")
    parts = [f"{data['train_images']} images"] if "train_images" in data else []
    parts += [f"{name.replace('_', ' ')} {recipe[name]}" for name in names if name in recipe]
    return [f"Trained on {', '.join(map(_plain, parts))}.", ""]


def _without_path(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Copy a description whose model lies in a folder of this machine, with the last part of its path only."""
    architecture = str(source.get("architecture", ""))
    folder = Path(architecture.removeprefix(HUGGING_FACE))
    if not architecture.startswith(HUGGING_FACE) or not folder.is_absolute():
        return source
    origin = {key: str(value).replace(str(folder), folder.name) for key, value in _mapping(source, "origin").items()}
    return {**source, "architecture": f"{HUGGING_FACE}{folder.name}", "origin": origin}


def _source_table(source: Mapping[str, Any]) -> str:
    rows = [(key, source[key]) for key in ("architecture", "weights") if key in source]
    rows += [
        *_mapping(source, "origin").items(),
        *_mapping(source, "preprocessing").items(),
        ("fingerprint", source["fingerprint"]),
    ]
    return _table(("", ""), rows)


def _source_call(source: Mapping[str, Any]) -> str:
    """Write the call that opens a source of this description."""
    library, _, name = str(source.get("architecture", "")).rpartition("/")
    preprocessing = _mapping(source, "preprocessing")
    size, resize = preprocessing.get("image_size"), preprocessing.get("resize")
    more = f", resize={_literal(resize)}" if resize else ""
    size = size if type(size) is int else None
    if source.get("weights") == "embedded":
        name = embedded_name(str(source.get("architecture"))) or "embedded"
        named = "" if name == "embedded" else f", {_literal(name)}"
        return f"snow.Source.embedded({size}{named}{more})"
    if str(source.get("architecture", "")).startswith(HUGGING_FACE):
        build, name = "from_transformers", str(source["architecture"]).removeprefix(HUGGING_FACE)
    else:
        build = "from_torchvision" if library == "torchvision" else "from_timm"
    weights = "pretrained=True" if source.get("weights") == "pretrained" else 'weights="source.safetensors"'
    return f"snow.Source.{build}({_literal(name)}, {weights}, image_size={size}{more})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_plain(cell) for cell in line)} |\n" for line in lines)


def _plain(value: object) -> str:
    """Put a value on one line, with the characters of Markdown, HTML and links escaped."""
    text = printable(" ".join(str(value).split()))
    escaped = "".join(f"\\{letter}" if letter in r"\`*_[]<>|#~$&@" else letter for letter in text)
    return escaped.replace("://", "\\://").replace("www.", "www\\.")


def _literal(value: object) -> str:
    """Write a string as Python reads it, on one line and without backquotes, which would end the block of code."""
    return printable(json.dumps(str(value), ensure_ascii=False)).replace("`", "\\x60")


def _python(lines: Sequence[str], source: Mapping[str, Any]) -> list[str]:
    of_transformers = str(source.get("architecture", "")).startswith(HUGGING_FACE)
    package = f"'{LIBRARY}[transformers]'" if of_transformers else LIBRARY
    return ["```bash", f"pip install {package}", "```", "", "```python", *lines, "```", ""]

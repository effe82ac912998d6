"""Lay out what was measured of tasks: kinds of labels, unknown pictures, drift, and what to label next."""

from __future__ import annotations

from typing import Any

from snow.experiments.results import table


def kinds(results: dict[str, Any]) -> str:
    """How well a class, tags and a number are learned by each method."""
    columns = ("method", "body: top-1 %", "balanced %", "ECE", "make and body: mAP %", "year: MAE", "R²")
    rows = [
        (
            method,
            f"{100 * tasks['body']['top1']:.1f}",
            f"{100 * tasks['body']['balanced_accuracy']:.1f}",
            f"{tasks['body']['ece']:.3f}",
            f"{100 * tasks['tags']['map']:.1f}",
            f"{tasks['year']['mae']:.2f}",
            f"{tasks['year']['r2']:.2f}",
        )
        for method, tasks in results["methods"].items()
    ]
    text = (
        f"\nA class, tags and a number, learned together from {results['train']:,} pictures of cars "
        f"({results['makes']}) and measured on {results['test']:,}. "
        f"`{results['command']}`: {results['image_size']} px, "
        f"{results['recipe']['epochs']} epochs, seed {results['recipe']['seed']}; {table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text


def unknowns(results: dict[str, Any]) -> str:
    """How well pictures of a task are told from others, by each score."""
    scores = ("known", "softmax", "energy", "knn")
    columns = ("pictures", "own / other", "top-1 %", *(f"{name} AUROC / FPR95 %" for name in scores), "rejected %")
    rows = [
        (
            name,
            f"{pair['own']} / {pair['other']}",
            f"{100 * pair['top1']:.1f}",
            *(f"{pair['auroc'][score]:.3f} / {100 * pair['fpr95'][score]:.1f}" for score in scores),
            f"{100 * pair['rejected']['own']:.1f} / {100 * pair['rejected']['other']:.1f}",
        )
        for name, pair in results["pairs"].items()
    ]
    text = (
        f"\nRejected: own / other with `--reject {results['reject']}`. `{results['command']}`: "
        f"{results['image_size']} px, {results['recipe']['epochs']} epochs, seed {results['recipe']['seed']}; "
        f"{table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text


def drift(results: dict[str, Any]) -> str:
    """In how many windows of pictures drift is said to be there, as it is and where the world has changed."""
    sizes = [str(size) for size in results["sizes"]]
    columns = ("task", "images", "of", *(f"changed %, {size} at a time" for size in sizes), "by", "strength")
    rows = []
    for task, changes in results["tasks"].items():
        for change, entry in changes.items():
            measured = [entry[size] for size in sizes if entry[size]]
            cells = (f"{100 * entry[size]['changed']:.0f}" if entry[size] else "" for size in sizes)
            names = ("distance alone", "content", "appearance") if measured else ()
            parts = [part for part in names if measured[0][part] > 0.5]
            strength = f"{measured[0]['strength']:.2f}" if measured else ""
            rows.append((task, change, f"{entry['images']}", *cells, ", ".join(parts), strength))
    text = (
        f"\nShare of {results['draws']} windows that `snow drift` calls changed. Of windows of {sizes[0]}: which "
        f"parts do so mostly, and the mean of the largest part. `{results['command']}`: {results['image_size']} px, "
        f"seed {results['seed']}; {table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text


def pick(results: dict[str, Any]) -> str:
    """Test accuracy after labelling the pictures that `snow pick` names, and others."""
    steps = range(1, results["steps"] + 1)
    columns = ("set", "from", "labelled next", *(f"step {step}, %" for step in steps), "ahead of random, points")
    rows = []
    for name, starts in results["sets"].items():
        for start, found in starts.items():
            for way, entry in found.items():
                if way == "labelled":
                    continue
                cells = (f"{100 * entry['top1'][step]:.1f}" for step in steps)
                leads = [f"{100 * entry['lead'][step]:+.1f} ± {100 * entry['lead_error'][step]:.1f}" for step in steps]
                rows.append((name, start, way, *cells, "" if way == "random" else ", ".join(leads)))
    text = (
        f"\nTop-1 on all test pictures, mean over {results['seeds']} seeds, of a linear classifier in closed form that "
        f"starts with as many random pictures as *from* says; each step labels as many more, but at most 50 (400 of all"
        f" cars). Ahead of random: mean and standard error over the seeds, after each step. *typical*: without doubt. "
        f"`{results['command']}`: {results['image_size']} px; {table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text

"""Lay out what was measured of tasks that are in use: unknown pictures, drift, and what to label next."""

from __future__ import annotations

from typing import Any

from snow.experiments.results import table


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
    """In how many draws of pictures drift is said to be there, as it is and where the world has changed."""
    sizes = results["sizes"]
    columns = ("task", "images", "of", *(f"changed %, {size} at a time" for size in sizes), "distance")
    rows = [
        (
            task,
            change,
            f"{entry['images']}",
            *(f"{100 * entry[str(size)]['changed']:.0f}" for size in sizes),
            f"{entry[str(sizes[-1])]['distance']:.2f}",
        )
        for task, changes in results["tasks"].items()
        for change, entry in changes.items()
    ]
    text = (
        f"\nShare of {results['draws']} draws that `snow drift` calls changed. Distance: mean over draws of "
        f"{sizes[-1]}. `{results['command']}`: {results['image_size']} px, seed {results['seed']}; "
        f"{table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text


def pick(results: dict[str, Any]) -> str:
    """Test accuracy after labelling the pictures that `snow pick` names, and others."""
    columns = ("set", "labelled next", *(f"{count} labelled, %" for count in results["labelled"]))
    rows = [
        (
            name,
            way,
            *(
                f"{100 * top1:.1f} ± {100 * deviation:.1f}"
                for top1, deviation in zip(found["top1"], found["deviation"], strict=True)
            ),
        )
        for name, ways in results["sets"].items()
        for way, found in ways.items()
        if isinstance(found, dict)
    ]
    text = (
        f"\nTop-1 on all test pictures (± standard deviation over {results['seeds']} seeds). `pick` is doubt and "
        f"coverage together, as in `snow pick`. `{results['command']}`: {results['image_size']} px; "
        f"{table.environment(results)}.\n"
    )
    return table.markdown_table(columns, rows) + text

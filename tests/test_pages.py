"""Every code block of the documentation runs, on fewer and smaller pictures; every link and name leads somewhere."""

from __future__ import annotations

import pkgutil
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from snow.cli.app import main
from snow.delta import FAMILIES
from snow.experiments.step_cost import TrainingCost
from snow.methods import METHODS
from snow.methods.variant import Variant

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
SETUP = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/snow quickstart"
"""Is run by nobody here: it installs."""

SMALL_RECIPE = "snow.Recipe(epochs=1, batch_size=6)"
LEARNING = ("train", "compare", "sweep", "lifelong", "reproduce")
ELSEWHERE = ("snow serve", "curl", "timing")
"""Blocks of the page on serving that have one of these are run by tests/serving/test_documented.py."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_folder: Callable[..., Path],
    write_tree: Callable[[str, Path], Path],
) -> Iterator[Path]:
    """A folder with everything that the pages name; methods and families that they add are gone afterwards."""
    for name in ("pictures", "insects", "textures"):
        write_folder(tmp_path / name, train=4, test=2)
    write_tree("dtd", tmp_path / "datasets")
    shutil.copy(next((tmp_path / "pictures" / "test").rglob("*.png")), tmp_path / "picture.jpg")
    found = sorted((tmp_path / "pictures").rglob("*.png"))
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{('round', 'flat')[n % 2]},{('old|dry', 'dry')[n % 2]},{n}"
        for n, path in enumerate(found)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,colour,shape,tags,size", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    methods, families = dict(METHODS), dict(FAMILIES)
    yield tmp_path
    for registry, before in ((METHODS, methods), (FAMILIES, families)):
        registry.clear()
        registry.update(before)  # ty: ignore[no-matching-overload]


def quick(arguments: Sequence[str]) -> list[str]:
    """The same command on a tiny CNN with random weights, for one epoch, with one learning rate."""
    command, *rest = arguments
    if command == "sources":
        return [part.replace("embedded,resnet50", "embedded") for part in arguments]  # nothing is downloaded
    small = {"--source": "test_resnet", "--image-size": "64", "--batch-size": "6"}
    if command == "bench":
        small |= {"--rounds": "1", **({"--sizes": "1,6"} if rest[0] == "serving" else {"--steps": "1"})}
    elif command in LEARNING:
        small |= {"--epochs": "1", "--workers": "0"}
        small |= {"--rates": "1e-3"} if command in ("compare", "reproduce") and "--rates" not in rest else {}
    else:
        return list(arguments)
    for name in small.keys() & set(rest):
        at = rest.index(name)
        del rest[at : at + 2]
    weights = [] if command == "bench" else ["--no-pretrained"]  # a bench looks for none anyway
    return [command, *rest, *(part for pair in small.items() for part in pair), *weights]


def unmeasured(_conditions: object, variants: Sequence[Variant]) -> object:
    """In place of `measure_training_costs`, whose processes take longer to start than all else here."""
    return {variant.label: TrainingCost(1.0, (1.0, 1.0), 1) for variant in variants}


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_code_block_runs(
    page: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(import_module("snow.experiments.compare"), "measure_training_costs", unmeasured)
    if page.stem == "rivals":
        pytest.importorskip("peft")
    if page.stem == "sources":
        pytest.importorskip("transformers")
    if page.stem == "benchmarks":
        pytest.importorskip("optuna")
    if page.stem == "troubleshooting":  # of a hub that is there already
        assert main(quick(["train", "pictures/", "--task", "insects", "--hub", "my-hub"])) == 0
    names: dict[str, object] = {"__name__": page.stem}
    for language, text in blocks(page):
        if page.stem == "serving" and any(part in text for part in ELSEWHERE):
            continue
        assert language in ("bash", "python"), f"{page.name} has a block of {language or 'nothing'}"
        if language == "python":
            text = text.replace("Source.embedded()", "Source.embedded(64)")
            text = text.replace("snow.Recipe(epochs=10)", f"{SMALL_RECIPE}, runtime=snow.Runtime(workers=0)")
            exec(compile(text, page.name, "exec"), names)
            continue
        for line in text.strip().splitlines():
            if line == SETUP:
                continue
            name, *arguments = shlex.split(line, comments=True)
            assert name == "snow", line
            assert main(quick(arguments)) == 0, (line, capsys.readouterr().err)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    assert sorted(name for entry in site["nav"] for name in entry.values()) == [page.name for page in PAGES]


def named(page: str, pattern: str) -> list[str]:
    return re.findall(pattern, (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "name", named("paper-to-code.md", r"`(snow\.[\w.]+)`") + named("api.md", r"^::: (\S+)$"), ids=lambda name: name
)
def test_names_of_the_code_are_there(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


def test_files_on_the_map_are_there() -> None:
    files = named("paper-to-code.md", r"`(src/[\w./]+)`")
    assert len(files) > 8
    assert [file for file in files if not (ROOT / file).exists()] == []

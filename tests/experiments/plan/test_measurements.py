"""From results files to the model of a replica."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snow.errors import SnowError
from snow.experiments.plan import Demand, Measurements, TaskMix
from snow.experiments.plan.measurements import LinearFit, PiecewiseLinear
from snow.experiments.plan.pass_times import PassTimes


def of(*results: dict[str, Any]) -> Measurements:
    return Measurements.of([(f"file {number}", one) for number, one in enumerate(results)])


def test_passes_that_were_measured_and_those_between_are_met(measured: Callable[..., dict]) -> None:
    measurements = of(measured())
    for size in (1, 2, 4, 9, 16, 32):
        assert measurements.source.at(size) == pytest.approx(0.006 + 0.004 * size)
        assert measurements.delta.at(size) == pytest.approx(0.001 + 0.0005 * size)
    assert measurements.seconds(8, [(8, 6), (2, 3)]) == pytest.approx(0.038 + 6 * 0.005 + 3 * 0.002)


def test_what_all_tasks_of_a_pass_share_is_told_apart(measured: Callable[..., dict]) -> None:
    service = measured()["service"]
    passes = [
        entry | {"seconds": entry["seconds"] + 0.003 * entry["pictures"] * (entry["tasks"] > 0)}
        for entry in service["passes"]
    ]
    measurements = of(measured(service=service | {"passes": passes}))
    for size in (1, 4, 16):
        assert measurements.source.at(size) == pytest.approx(0.006 + 0.004 * size)
        assert measurements.delta.at(size) == pytest.approx(0.001 + 0.0005 * size)
        assert measurements.shared.at(size) == pytest.approx(0.003 * size)
    assert measurements.seconds(8) == pytest.approx(0.038)
    assert measurements.seconds(8, [(8, 6)]) == pytest.approx(0.038 + 0.024 + 6 * 0.005)


def test_requests_and_memory_are_read(measured: Callable[..., dict]) -> None:
    measurements = of(measured())
    assert measurements.decode == 0.002
    assert measurements.handling.at(11) == pytest.approx(0.002)
    assert measurements.request_seconds(6) == pytest.approx(0.0035)
    assert measurements.memory_bytes.at(6) == 500_000_000
    assert measurements.memory_bytes.at(1000) == 500_000_000 + 994 * 2_000_000


def test_requests_delay_passes_on_all_processors(measured: Callable[..., dict]) -> None:
    service = measured()["service"]
    assert of(measured()).delay(6) == 0
    assert of(measured(service=service | {"threads": 2})).delay(6) == pytest.approx(0.0035)
    assert of(measured(service=service | {"threads": 2}, device="cuda")).delay(6) == 0


def test_loads_tell_what_a_service_does_to_its_passes(measured: Callable[..., dict]) -> None:
    def took(pictures: int, rate: float) -> float:
        return 1.3 * pictures**-0.1 * (0.012 + 0.007 * pictures) / (1 - 0.002 * rate)

    rates = [
        {
            "per_second": rate,
            "decode_seconds": 0.003,
            "handling_seconds": 0.006,
            "passes": [{"pictures": size, "samples": [took(size, rate)] * 9} for size in (1, 2, 3, 8)],
        }
        for rate in (10.0, 30.0, 60.0)
    ]
    service = measured()["service"] | {"loads": {"tasks": 6, "rates": rates}}
    measurements = of(measured(service=service))
    assert measurements.decode == 0.003
    assert measurements.handling.at(6) == pytest.approx(0.006)
    assert measurements.handling.at(1) == pytest.approx(0.004)
    assert measurements.delay(6) == pytest.approx(0.002, rel=0.05)
    assert measurements.seconds(8, [(8, 6)]) == pytest.approx(took(8, 0.0), rel=0.01)
    assert measurements.ratios() == pytest.approx([1.0] * 108, rel=0.01)


def test_memory_of_a_gpu_is_read(measured: Callable[..., dict]) -> None:
    service = measured()["service"] | {"device_bytes": {"0": 100.0, "1": 110.0, "6": 160.0}}
    measurements = of(measured(device="cuda", service=service))
    assert measurements.device_memory_bytes is not None
    assert measurements.device_memory_bytes.at(100) == pytest.approx(1100)


def test_results_without_the_service_take_several_sizes_of_batch(measured: Callable[..., dict]) -> None:
    small, large = measured(service={}), measured(service={}, batch_size=2)
    large["source"] = {"images_per_second": 2 / 0.014}
    large["snow"] = {"1": {"images_per_second": 2 / 0.016}, "6": {"images_per_second": 2 / 0.026}}
    measurements = of(small, large)
    assert measurements.source.at(5) == pytest.approx(0.026)
    assert measurements.delta.at(5) == pytest.approx(0.0035)
    assert measurements.variation == (1.0,)
    with pytest.raises(SnowError, match=r"all passes have 8 pictures.* several files with different --batch-size"):
        of(small)


def test_how_passes_vary_is_kept(measured: Callable[..., dict]) -> None:
    results = measured()
    results["service"]["passes"][0]["samples"] = [0.5 * results["service"]["passes"][0]["seconds"]] * 3
    assert of(results).variation[:4] == (0.5, 0.5, 0.5, 1.0)


def test_noise_makes_no_pass_cheaper_for_having_more_in_it(measured: Callable[..., dict]) -> None:
    results = measured()
    for one in results["service"]["passes"]:
        if one["pictures"] == 4:
            one["seconds"] = 0.001 * (10 - one["tasks"])
    measurements = of(results)
    for size in range(1, 40):
        assert measurements.source.at(size + 1) >= measurements.source.at(size)
        assert measurements.delta.at(size + 1) >= measurements.delta.at(size) >= 0


def test_below_the_first_measured_point_nothing_is_for_free() -> None:
    assert PiecewiseLinear((4, 8), (4.0, 10.0)).at(2) == pytest.approx(2.0), "not 1"
    assert PiecewiseLinear((4, 8), (4.0, 5.0)).at(2) == pytest.approx(3.5)
    assert LinearFit.fit([1, 2], [3.0, 1.0]).slope == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": 96}, "file 0 and file 1 were measured under different conditions: image_size differ"),
        ({"hardware": {}, "device": "cuda"}, "device, hardware differ"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(measured: Callable[..., dict], changes: dict, told: str) -> None:
    with pytest.raises(SnowError, match=told):
        of(measured(), measured(**changes))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no file"),
        ("not JSON", "figures.json"),
        ("[1, 2]", "figures.json"),
        ("{}", "is not a results file of snow bench serving: source_name"),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path: Path, content: str | None, told: str) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SnowError, match=told):
        Measurements.read([file])


@pytest.mark.parametrize("broken", [{"service": {"passes": 3}}, {"hub": {}}, {"service": {"passes": [{}]}}])
def test_results_with_holes_are_refused(tmp_path: Path, measured: Callable[..., dict], broken: dict) -> None:
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(measured(**broken)))
    with pytest.raises(SnowError, match="not results of snow bench serving"):
        Measurements.read([file])


def test_one_number_of_tasks_does_not_tell_what_a_task_takes(measured: Callable[..., dict]) -> None:
    results = measured()
    results["service"]["passes"] = [one for one in results["service"]["passes"] if one["tasks"] == 6]
    with pytest.raises(SnowError, match="one number of tasks only: 6"):
        of(results)


def test_tasks_that_nobody_shares_take_their_own_time(measured: Callable[..., dict]) -> None:
    """One task each of very many: a batch of 8 asks for 8 tasks, each about one picture."""
    measurements = of(measured())
    scattered = PassTimes(measurements, Demand(1, 100_000, TaskMix((1,), (1.0,))))
    assert scattered.draw(8) == pytest.approx(measurements.seconds(8, [(1, 8)]), rel=0.01)
    together = PassTimes(measurements, Demand(1, 6))
    assert together.draw(8) == pytest.approx(measurements.seconds(8, [(8, 6)]))


def test_sizes_between_those_that_are_drawn_lie_between_them(measured: Callable[..., dict]) -> None:
    times = PassTimes(of(measured()), Demand(1, 50, TaskMix((3,), (1.0,))))
    means = [times.mean(size) for size in (16, 17, 18, 19, 20, 40, 64)]
    assert means == sorted(means)
    assert means[0] < means[-1]


@pytest.mark.parametrize(
    ("text", "shown", "mean"), [("all", "all", 9), ("3", "3", 3), ("1:1,5:3", "1:1,5:3", 4), ("1,2", "1:1,2:1", 1.5)]
)
def test_mixes_are_read(text: str, shown: str, mean: float) -> None:
    mix = TaskMix.parse(text)
    assert str(mix) == shown
    assert mix.mean(9) == mean


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("many", "not 'many'"),
        ("", "not ''"),
        ("0", "at least one task, not 0"),
        ("1:0", "above 0"),
        ("1:nan", "above 0"),
        ("1,1", "one weight"),
    ],
)
def test_mixes_that_are_none_are_refused(text: str, told: str) -> None:
    with pytest.raises(SnowError, match=told):
        TaskMix.parse(text)

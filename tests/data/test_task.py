from __future__ import annotations

from pathlib import Path

import pytest
import torch

from snow.data import Dataset, Pictures, Task
from snow.errors import SnowError


def pictures(labels: list[list[int]]) -> Pictures:
    return Pictures([Path("a.jpg")] * len(labels), torch.tensor(labels))


@pytest.mark.parametrize("name", ["", "  ", "a/b", "..", ".hidden", "a\\b", "a\nb"])
def test_a_task_needs_a_name_that_a_folder_can_have(name):
    with pytest.raises(SnowError, match="cannot name a task"):
        Task(name, ("cat", "dog"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "there is none"),
        (("cat",), "only 'cat'"),
        (("cat", ""), "class without a name"),
        (("cat", "dog", "cat"), "2 classes named 'cat'"),
    ],
)
def test_a_task_needs_two_named_classes(classes, message):
    with pytest.raises(SnowError, match=message):
        Task("pets", classes)


def test_labels_have_one_column_for_each_task_and_stay_within_its_classes():
    tasks = (Task("pets", ("cat", "dog")), Task("size", ("big", "small", "tiny")))
    Dataset(tasks, pictures([[1, 2], [-1, 0]]), pictures([[0, -1]]))
    with pytest.raises(SnowError, match="1 labels each for 2 tasks"):
        Dataset(tasks, pictures([[1]]), pictures([[0, 0]]))
    with pytest.raises(SnowError, match=r"a test label of task 'pets' is outside -1\.\.1"):
        Dataset(tasks, pictures([[1, 2]]), pictures([[2, 2]]))
    with pytest.raises(SnowError, match="at least one task"):
        Dataset((), pictures([[1]]), pictures([[1]]))


def test_what_is_held_out_takes_the_place_of_the_test_pictures():
    train = Pictures([Path(f"{index}.jpg") for index in range(8)], torch.arange(8) % 2)
    whole = Dataset((Task("pets", ("cat", "dog")),), train, pictures([[0]]))
    part = whole.held_out(0.25, seed=3)
    assert (len(part.train), len(part.test)) == (6, 2)
    assert set(part.train.items) | set(part.test.items) == set(train.items)
    assert part.test.items == whole.held_out(0.25, seed=3).test.items == train.split(0.25, 3)[1].items
    with pytest.raises(SnowError, match="hold out"):
        whole.held_out(0.0, seed=3)

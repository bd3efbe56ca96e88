from collections import Counter

from models.training.volumes import Split
from pipelines.patient_splits import splits_of, strictest

NAMES = [f"{number:03d}" for number in range(40)]


def test_one_in_ten_validates_and_one_in_ten_tests() -> None:
    assert Counter(splits_of(NAMES, {}).values()) == {"train": 32, "validation": 4, "test": 4}


def test_of_three_patients_one_each_is_held_out_and_of_two_none() -> None:
    assert sorted(splits_of(NAMES[:3], {}).values()) == ["test", "train", "validation"]
    assert set(splits_of(NAMES[:2], {}).values()) == {"train"}


def test_nobody_changes_the_split_when_others_join_one_by_one() -> None:
    splits: dict[str, Split] = {}
    for count in range(1, len(NAMES) + 1):
        grown = splits_of(NAMES[-count:], splits)
        assert {name: grown[name] for name in splits} == splits
        splits = grown
    assert Counter(splits.values()) == {"train": 33, "validation": 4, "test": 3}


def test_who_has_left_is_not_in_the_answer() -> None:
    assert splits_of(["B"], {"A": "test", "B": "test"}) == {"B": "test"}


def test_what_was_once_trained_on_is_not_held_out() -> None:
    assert strictest(["test", "train", "validation"]) == "train"
    assert strictest(["test", "validation"]) == "validation"

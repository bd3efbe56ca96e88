from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.imported import ImportedModel, Normalisation
from models.imported_finder import most_likely, nonzero_box, normalised_as
from tests.models.test_sliding_window import model


def test_the_mean_probability_is_that_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(0.0, 3.0, (5, 4, 6, 7)).astype(np.float32)
    labels, sure = most_likely(logits, lambda values: values, "logits", lambda _: None)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=0)
    np.testing.assert_array_equal(labels, logits.argmax(axis=0))
    expected = [softmax[label][labels == label].mean() for label in range(1, 5)]
    np.testing.assert_allclose(sure, expected, rtol=1e-5)
    same, sure = most_likely(softmax, lambda values: values, "probabilities", lambda _: None)
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_allclose(sure, expected, rtol=1e-5)


def test_an_organ_without_a_voxel_has_no_probability() -> None:
    logits = np.zeros((2, 1, 1, 1), np.float32)
    assert np.isnan(most_likely(logits, lambda values: values, "logits", lambda _: None)[1]).all()


def test_the_box_holds_all_that_is_not_zero() -> None:
    volume = np.zeros((6, 7, 8), np.float32)
    assert volume[nonzero_box(volume)].shape == volume.shape
    volume[1, 2, 3], volume[4, 2, 6] = 5.0, -5.0
    assert nonzero_box(volume) == (slice(1, 5), slice(2, 3), slice(3, 7))


def test_each_normalisation_is_what_it_says() -> None:
    volume = np.array([[[0.0, 0.0, 100.0, 300.0, 0.0]]], np.float32)

    def found(**facts: Any) -> list[float]:
        return [float(value) for value in normalised_as(volume, Normalisation(**facts)).ravel()]

    assert found(scheme="linear", clip_hu=(0.0, 200.0), subtract=100.0, divide=50.0) == [-2.0, -2.0, 0.0, 2.0, -2.0]
    assert found(scheme="range") == pytest.approx([0.0, 0.0, 1 / 3, 1.0, 0.0])
    assert found(scheme="z_score", inside_nonzero=True) == [0.0, 0.0, -1.0, 1.0, 0.0]
    scores = found(scheme="z_score")
    assert np.mean(scores) == pytest.approx(0.0, abs=1e-6) and np.std(scores) == pytest.approx(1.0)


def test_an_image_without_contrast_can_be_normalised() -> None:
    for scheme in ("z_score", "range"):
        how = Normalisation.model_validate({"scheme": scheme})
        assert not normalised_as(np.full((2, 2, 2), 7.0, np.float32), how).any()


@pytest.mark.parametrize(
    "facts",
    [
        {"axes": "SPA"},
        {"axes": "XYZ"},
        {"organs": ("Liver", "Liver")},
        {"organs": ()},
        {"organs": ("Li\nver",)},
        {"organs": ("L" * 65,)},
        {"patch": (4096, 4096, 4096)},
        {"spacing_mm": (float("nan"), 1.0, 1.0)},
        {"dimensions": 2},
        {"own": 1},
    ],
)
def test_a_model_that_does_not_hold_together_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**facts)


def test_axes_are_turned_by_the_directions_of_the_patient() -> None:
    def turned(axes: str) -> tuple[Any, ...]:
        return ImportedModel.turned_axes(model(axes=axes))

    assert turned("SPL") == ((0, 1, 2), ())
    assert turned("RAS") == ((2, 1, 0), (0, 1))
    assert turned("PLI") == ((1, 2, 0), (2,))

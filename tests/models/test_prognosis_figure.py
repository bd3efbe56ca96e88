"""The page of a prognosis, looked at as a person does: which colour is where, and how much of it."""

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from models.outcomes import SIMULATED
from models.prognosis import GroupCurve
from models.prognosis_figure import PrognosisPage, printable, prognosis_pdf_bytes, prognosis_png
from models.survival.interval import Interval

LOW = GroupCurve(
    group="low", patients=60, events=9, times=(100.0, 400.0), survival=(0.98, 0.85), low=(0.9, 0.7), high=(1.0, 0.93),
    last_watched=1000.0,
)  # fmt: skip
HIGH = LOW.model_copy(update={"group": "high", "survival": (0.7, 0.4), "low": (0.5, 0.2), "high": (0.8, 0.6)})
PAGE = PrognosisPage(
    title="Prognosis",
    warnings=("RESEARCH, NOT FOR TREATMENT",),
    patient=(("Patient", "Test"), ("Patient ID", "P-1")),
    statement="Risk group: low.",
    curve_name="volume",
    curve_labels=("fraction 1", "fraction 2"),
    curve_values=(1.0, 2.0),
    curves=(LOW, HIGH),
    time_unit="days",
    endpoint="death",
    group="low",
    probability=Interval(0.2, 0.1, 0.4),
    horizon=730.0,
    probabilities=(),
)
TOP, LEGEND = 240, 545
"""Rows of the picture of PAGE between which the curves are."""


@cache
def picture(page: PrognosisPage) -> NDArray[np.float32]:
    """The page as a person sees it."""
    return np.asarray(imread(io.BytesIO(prognosis_png(page)))[..., :3])


def pixels(page: PrognosisPage, colour: str, tolerance: float = 0.02) -> NDArray[np.int64]:
    """Places (down, right) of the pixels that have a colour."""
    image = picture(page)
    return np.argwhere(np.abs(image - np.array(to_rgb(colour))).max(axis=-1) < tolerance)


def plotted(page: PrognosisPage, colour: str) -> int:
    """Pixels of a colour in the plots, above their legends."""
    down = pixels(page, colour, 0.15)[:, 0]
    return int(((down > TOP) & (down < LEGEND)).sum())


@pytest.mark.parametrize(("group", "his", "other"), [("low", "tab:blue", "tab:red"), ("high", "tab:red", "tab:blue")])
def test_the_curve_of_the_patients_group_is_the_thick_one(group: Literal["low", "high"], his: str, other: str) -> None:
    page = replace(PAGE, group=group)
    assert plotted(page, his) > 500 > plotted(page, other)


def bar(page: PrognosisPage) -> tuple[int, int]:
    """Top and bottom of the patient's interval: of what only a page with a horizon has, the highest column."""
    dark, without = (
        {tuple(place) for place in pixels(one, "black", 0.2)} for one in (page, replace(page, horizon=None))
    )
    down, right = np.array(sorted(place for place in dark - without if TOP < place[0] < LEGEND)).T
    rows = down[right == np.bincount(right).argmax()]
    return int(rows.min()), int(rows.max())


def test_that_the_cohort_is_simulated_is_the_largest_text_of_the_page() -> None:
    said = replace(PAGE, warnings=(SIMULATED, *PAGE.warnings))
    places = pixels(said, "firebrick")
    assert places[:, 0].max() < 0.12 * 1286
    assert np.ptp(places[:, 1]) > 0.75 * 909


def test_the_interval_of_the_patient_is_drawn_at_the_horizon() -> None:
    """Of the probability of the event, while the curve is of the part without it: 0.1 to 0.4 is 0.9 down to 0.6."""
    narrow, wide = (bar(replace(PAGE, probability=Interval(0.2, 0.1, high))) for high in (0.4, 0.7))
    assert narrow[0] == wide[0]
    assert wide[1] - wide[0] == pytest.approx(2.0 * (narrow[1] - narrow[0]), abs=3)


def test_without_times_the_probabilities_of_the_cohort_are_shown() -> None:
    probabilities = tuple((number / 50, number > 25) for number in range(50))
    page = replace(PAGE, curves=(), probabilities=probabilities, horizon=None, endpoint="poor outcome")
    assert prognosis_png(page) != prognosis_png(replace(page, probabilities=()))
    assert prognosis_pdf_bytes(page) != prognosis_pdf_bytes(replace(page, probability=Interval(0.5, 0.4, 0.6)))


def test_a_page_with_more_text_than_there_is_room_says_so() -> None:
    many = tuple(("Remark", f"Sentence {number}.") for number in range(60))
    full, fuller = (picture(replace(PAGE, notes=notes)) for notes in (many, (*many, ("Remark", "One more."))))
    differing = np.argwhere((full != fuller).any(axis=-1))
    # Only the number of lines that are left out differs.
    assert 0 < np.ptp(differing[:, 0]) < 15


@pytest.mark.parametrize("name", ["Παπαδόπουλος", "Иванов", "Müller", "O$x^2$"])
def test_names_that_the_font_has_are_printed(name: str) -> None:
    assert printable(name) == name
    assert prognosis_pdf_bytes(replace(PAGE, patient=(("Patient", name),)))


def test_a_character_that_the_font_lacks_is_a_square_and_no_warning() -> None:
    assert printable("王 Wang") == "\N{WHITE SQUARE} Wang"
    assert prognosis_png(replace(PAGE, patient=(("Patient", "王"),)))


def test_the_page_is_the_same_bytes_in_every_process() -> None:
    """Python hashes text by another seed in every process, and sets of characters follow it."""
    plain = replace(PAGE, curves=(), probabilities=((0.2, True), (0.7, False)), notes=(("Remark", "One, two."),))
    program = (
        "import sys, hashlib; from models.prognosis_figure import PrognosisPage, prognosis_pdf_bytes; "
        "from models.survival.interval import Interval; "
        f"sys.stdout.write(hashlib.sha256(prognosis_pdf_bytes({plain!r})).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert run.stdout == hashlib.sha256(prognosis_pdf_bytes(plain)).hexdigest()


def test_the_pdf_has_one_page_of_a4_and_no_date() -> None:
    content = prognosis_pdf_bytes(PAGE)
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
    assert content.count(b"/Type /Page ") == 1
    assert b"595.44 841.68" in content
    assert b"Date" not in content and b"/FontFile2" in content

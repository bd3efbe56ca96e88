"""Pictures of an evaluation of few-view reconstruction: images with their errors, curves over views, lesions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.intensity import Hu
from models.lesions import Lesion
from models.training.few_view_measures import TRUTH
from models.training.few_view_methods import title
from models.training.few_view_report import FewViewReport
from models.training.few_view_scans import Condition

_DISPLAY_HU = (-160.0, 240.0)
_DIFFERENCE_HU = 150.0
_CROP_MM = 40.0
"""Half the width of what is shown about a lesion."""
_CURVES = (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("edge_rise", "edge rise 10-90 %, mm"))


@dataclass(frozen=True)
class Picture:
    """One slice under one condition; HU, [row, column]."""

    heading: str
    truth: Hu
    images: Mapping[str, Hu]
    """By method."""


@dataclass(frozen=True)
class LesionPicture:
    """One slice with lesions under one condition; HU, [row, column]."""

    heading: str
    lesions: Sequence[Lesion]
    truth: Hu
    """With the lesions."""
    images: Mapping[str, Hu]
    """By method."""
    pixel_mm: float


def draw_pictures(pictures: Sequence[Picture], png: Path) -> None:
    """Two rows for each: truth and images in the window of soft tissue, below them image minus truth."""
    columns = 1 + max(len(picture.images) for picture in pictures)
    figure = Figure(figsize=(2.3 * columns, 4.9 * len(pictures)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(pictures), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, picture in enumerate(pictures):
        above, below = axes[2 * number], axes[2 * number + 1]
        for axis, (name, image) in zip(above, {TRUTH: picture.truth, **picture.images}.items(), strict=False):
            axis.imshow(image, cmap="gray", vmin=_DISPLAY_HU[0], vmax=_DISPLAY_HU[1])
            axis.set_title(title(name), fontsize=9)
        for axis, image in zip(below[1:], picture.images.values(), strict=False):
            axis.imshow(image - picture.truth, cmap="RdBu_r", vmin=-_DIFFERENCE_HU, vmax=_DIFFERENCE_HU)
        below[0].text(
            0.5,
            0.5,
            f"{picture.heading}\n\nimage - truth\n±{_DIFFERENCE_HU:g} HU",
            ha="center",
            va="center",
            fontsize=9,
        )
    figure.savefig(png, dpi=90)


def draw_curves(report: FewViewReport, png: Path) -> None:
    """Quality over the number of views, one line for each method."""
    figure = Figure(figsize=(5.2 * len(_CURVES), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    study = report.study
    for axis, (measure, label) in zip(figure.subplots(1, len(_CURVES)), _CURVES, strict=True):
        for name in report.methods():
            found = {
                views: report.mean(measure, name, Condition(views, study.photons)) for views in sorted(study.views)
            }
            known = {views: value for views, value in found.items() if value is not None}
            if known:
                style = {"color": "black", "linestyle": ":"} if name == TRUTH else {"marker": "o"}
                axis.plot(list(known), list(known.values()), label=title(name), markersize=4, **style)
        axis.set_xscale("log")
        axis.set_xticks(sorted(study.views), [f"{v}\n{study.part(v)}" for v in sorted(study.views)])
        axis.minorticks_off()
        axis.set_xlabel("views")
        axis.set_ylabel(label)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.savefig(png, dpi=90)


def draw_lesions(pictures: Sequence[LesionPicture], png: Path) -> None:
    """One row for each: the surroundings of its first and its last lesion in the truth and in every image."""
    columns = 1 + max(len(picture.images) for picture in pictures)
    figure = Figure(figsize=(2.3 * columns, 4.9 * len(pictures)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(pictures), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, picture in enumerate(pictures):
        for row, lesion in enumerate((picture.lesions[0], picture.lesions[-1])):
            shown = {f"{picture.heading}\n{lesion.shape} {lesion.contrast_hu:+g} HU": picture.truth}
            shown |= {title(name): image for name, image in picture.images.items()}
            for axis, (heading, image) in zip(axes[2 * number + row], shown.items(), strict=False):
                axis.imshow(
                    _around(image, lesion, picture.pixel_mm), cmap="gray", vmin=_DISPLAY_HU[0], vmax=_DISPLAY_HU[1]
                )
                axis.set_title(heading, fontsize=8)
    figure.savefig(png, dpi=90)


def _around(image: Hu, lesion: Lesion, pixel_mm: float) -> Hu:
    reach = round(_CROP_MM / pixel_mm)
    rows, columns = (
        slice(max(int(np.rint(at)) - reach, 0), int(np.rint(at)) + reach + 1) for at in (lesion.row, lesion.column)
    )
    return np.asarray(image[rows, columns])

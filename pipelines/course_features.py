"""Features of the tumour over a course of treatment: what the files of one patient become, in `run` as in training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydicom import Dataset

from models.delta_features import CourseImage, delta_sets
from models.feature_library import RadiomicsUnavailable
from models.feature_region import FeatureError
from models.feature_robustness import Subject
from models.feature_settings import FeatureSettings
from models.inference import EnhancementModel, enhanced
from models.intensity import AIR_HU
from models.local_agreement import Placed, local_correlation
from models.radiomics import Feature, features
from models.rigid_motion import Matrix
from pipelines.base import InputRejected, PipelineError, Progress, no_progress
from pipelines.course_measures import course_measures, spread_between_outlines
from pipelines.dicom.carried_structures import LEAST_CUT, carried_mask, check_one_patient, part_outside
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import Registration, given_matrix, usable_registrations
from pipelines.dicom.volume import axis_order
from pipelines.fractions import Course, CoursePlan, Fraction, course_of
from pipelines.image_registration import registered, seen_voxels
from pipelines.named_region import NamedRegion, named_region

ImageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class CourseExtraction(BaseModel):
    """Everything that decides the features of a course; a model is used with the one that it was trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gtv: tuple[str, ...] = Field(default=("GTVp", "GTV"), min_length=1)
    """TG-263 names; the first that the structure set has counts."""
    course: CoursePlan = CoursePlan()
    registration: Literal["image", "given"] = "image"
    """What lays the planning CT on each image: the images themselves, or the registration that came with them."""
    images: Literal["original", "enhanced"] = "original"
    """Whether an image is enhanced before anything is computed of it."""
    features: Mapping[ImageName, FeatureSettings] = {"original": FeatureSettings()}
    """How features are computed, by the name that stands behind the @ of a feature: of the image, of filtered ones."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CourseExtraction":
        if not self.features or any(len(one.aggregations) > 1 for one in self.features.values()):
            raise ValueError("features: at least one set of settings, each with a single aggregation")
        return self


@dataclass(frozen=True)
class CourseSources:
    """The files of one patient; each inner sequence is one series, in any order."""

    planning_ct: Sequence[Sequence[Path]]
    structure_sets: Sequence[Path]
    cbct: Sequence[Sequence[Path]]
    treatment_records: Sequence[Path] = ()
    registrations: Sequence[Path] = ()


@dataclass(frozen=True)
class ImagedFraction:
    """The tumour on the image of one fraction."""

    fraction: Fraction
    headers: tuple[Dataset, ...]
    """Of every slice of the image."""
    registration_doubt: float
    """1 less the correlation of planning CT and image around the tumour; nan where they have no contrast."""
    registration_inverse_mm: float
    """How far a point comes back from where it was, through the registrations both ways; nan where one was given."""
    outside: float
    """Part of the tumour outside of the field of view, 0 to 1."""
    features: Mapping[str, Feature]
    """By name, `cm_contrast@original`."""


@dataclass(frozen=True)
class CourseFeatures:
    """What the images of a course say about the tumour so far."""

    planning_headers: tuple[Dataset, ...]
    region: NamedRegion
    fractions: tuple[ImagedFraction, ...]
    sets: Mapping[str, Mapping[str, float]]
    """The delta sets whose time points are there, by name."""
    measures: Mapping[str, float]
    """What speaks for and against them (`pipelines.course_measures`)."""
    remarks: tuple[str, ...]
    """One sentence each, for a person."""

    @property
    def positions(self) -> list[float]:
        """Of the fractions in the course."""
        return [one.fraction.position for one in self.fractions]


@dataclass(frozen=True)
class CourseReader:
    """Computes the features of courses; `enhancement` is the network, where images are to be enhanced."""

    extraction: CourseExtraction
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """TG-263 names by the names that the site uses, in lower case."""
    enhancement: EnhancementModel | None = None

    def read(self, sources: CourseSources, progress: Progress = no_progress) -> CourseFeatures:
        """Features of the tumour on each image, and the delta sets.

        Raises
        ------
        InputRejected
            If there is not exactly one planning CT, objects are of several patients, the tumour is absent, too small
            or outside of an image, or an image can not be read or registered.
        PipelineError
            If the library for features is not installed.
        """
        planning, region, course = self._begin(sources)
        registrations = usable_registrations(sources.registrations)
        imaged: list[ImagedFraction] = []
        left_out: list[str] = []
        spread = float("nan")
        for index, fraction in enumerate(course.fractions):
            progress(index / len(course.fractions), f"image {index + 1}")
            is_last = fraction is course.fractions[-1]
            try:
                seen, subject = self._on_day(planning, region, fraction, registrations)
            except InputRejected as error:
                # Of the fraction that a report is about there is nothing to say; an earlier one may be missing.
                if is_last:
                    raise
                left_out.append(f"{fraction.label.capitalize()} is left out: {error}")
                continue
            imaged.append(seen)
            if is_last:
                spread = self._spread(subject)
        images = [CourseImage(one.fraction.position, _numbers(one.features)) for one in imaged]
        return CourseFeatures(
            planning_headers=planning.headers,
            region=region,
            fractions=tuple(imaged),
            sets=delta_sets(images),
            measures=course_measures(imaged, spread, self.extraction.course),
            remarks=(*course.remarks, *left_out, *region.remarks, *_cut(region.name, imaged)),
        )

    def first_subject(self, sources: CourseSources) -> Subject:
        """The tumour on the first image of a course; errors as of `read`."""
        planning, region, course = self._begin(sources)
        registrations = usable_registrations(sources.registrations)
        return self._on_day(planning, region, course.fractions[0], registrations)[1]

    def _begin(self, sources: CourseSources) -> tuple[ImageSeries, NamedRegion, Course]:
        if len(sources.planning_ct) != 1:
            raise InputRejected(f"There are {len(sources.planning_ct)} planning CTs, and which one counts is not known")
        course = course_of(sources.cbct, sources.treatment_records, self.extraction.course)
        planning = read_image_series(sources.planning_ct[0])
        return planning, named_region(planning, sources.structure_sets, self.extraction.gtv, self.synonyms), course

    def _on_day(
        self, planning: ImageSeries, region: NamedRegion, fraction: Fraction, registrations: Sequence[Registration]
    ) -> tuple[ImagedFraction, Subject]:
        day = read_image_series(fraction.paths)
        check_one_patient(planning, region.structures, day)
        matrix, inverse_mm = self._way(planning, day, registrations)
        seen = seen_voxels(day)
        mask = carried_mask(region.mask_zyx, planning.volume, day.volume, matrix) & seen
        if not mask.any():
            raise InputRejected(f"{region.name} lies outside of the field of view of {fraction.label}")
        subject = Subject(self._hu(day), mask, day.volume.spacing_zyx_mm)
        one = ImagedFraction(
            fraction=fraction,
            headers=day.headers,
            registration_doubt=1.0 - local_correlation(_placed(day), _placed(planning), matrix, mask, seen),
            registration_inverse_mm=inverse_mm,
            outside=part_outside(region.mask_zyx, planning.volume, day.volume, matrix, seen),
            features=self._features(subject),
        )
        return one, subject

    def _way(
        self, planning: ImageSeries, day: ImageSeries, registrations: Sequence[Registration]
    ) -> tuple[Matrix, float]:  # fmt: skip
        if self.extraction.registration == "given":
            return given_matrix(planning, day, registrations), float("nan")
        found = registered(planning, day, registrations)
        return found.matrix, found.inverse_consistency_mm

    def _hu(self, day: ImageSeries) -> NDArray[np.float32]:
        hu_zyx = day.filled_zyx(AIR_HU)
        if self.enhancement is None:
            return hu_zyx
        order = axis_order(day.volume)
        network_hu = enhanced(self.enhancement, order.canonical(hu_zyx), order.spacing_zyx_mm(day.volume))
        return order.original(network_hu)

    def _spread(self, subject: Subject) -> float:
        settings = self.extraction.features.values()
        margin_mm = max(one.margin_mm for one in settings)
        voxels = [one.resampling.spacing_mm for one in settings if one.resampling]
        voxel_mm = max(voxels) if len(voxels) == len(settings) else None
        return spread_between_outlines(subject, lambda one: _numbers(self._features(one)), margin_mm, voxel_mm)

    def _features(self, subject: Subject) -> dict[str, Feature]:
        found: dict[str, Feature] = {}
        try:
            for image, settings in self.extraction.features.items():
                computed = features(subject.image_zyx, subject.mask_zyx, subject.spacing_zyx_mm, settings)
                found |= {f"{one.tag}@{image}": one for one in computed}
        except FeatureError as error:
            raise InputRejected(str(error)) from error
        except RadiomicsUnavailable as error:
            raise PipelineError(str(error)) from error
        return found


def _placed(series: ImageSeries) -> Placed:
    return Placed(series.filled_zyx(AIR_HU), series.volume.affine)


def _numbers(found: Mapping[str, Feature]) -> dict[str, float]:
    return {name: one.value for name, one in found.items()}


def _cut(name: str, imaged: Sequence[ImagedFraction]) -> list[str]:
    return [
        f"{name} lies by {100 * one.outside:.2g} % outside of the field of view of {one.fraction.label} and is cut"
        for one in imaged
        if one.outside > LEAST_CUT
    ]

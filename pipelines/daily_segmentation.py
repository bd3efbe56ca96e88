"""Organs of the day: found in a CBCT or MVCT, and carried over to it from the planning CT; each checks the other."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RTStructureSetStorage, SegmentationStorage, SpatialRegistrationStorage

from models.rigid_registration import RigidRegistration
from pipelines.base import InputRejected, Inputs, Need, Outcome, Progress, no_progress
from pipelines.dicom.carried_structures import carried_over, check_one_patient
from pipelines.dicom.image_series import ImageSeries, read_image_series
from pipelines.dicom.registration import Registration, image_registration, usable_registrations
from pipelines.dicom.structure_names import standard_name
from pipelines.dicom.structure_set import read_structure_set
from pipelines.dicom.structure_set_writing import check_transverse
from pipelines.image_registration import as_given, registered, seen_voxels
from pipelines.integrity import identity_finding
from pipelines.organ_agreement import agreement, measured
from pipelines.organ_reading_back import read_back_findings
from pipelines.provenance import provenance
from pipelines.segmentation import Segmentation
from pipelines.site_limits import SiteStability
from pipelines.stability import Finding, Verdict


class DailySegmentation(Segmentation):
    """As `Segmentation`, with the planning structure set carried over by a rigid registration."""

    needs: ClassVar[Mapping[str, Need]] = {
        "planning_ct": Need(),
        "structure_set": Need(),
        "registration": Need(at_least=0, at_most=None),
    }
    produces: ClassVar[frozenset[UID]] = frozenset(
        {SegmentationStorage, RTStructureSetStorage, SpatialRegistrationStorage}
    )

    registration: Literal["image", "given"] = "image"
    """What lays the planning CT on the images: the images themselves, or the registration that came with them."""
    use_mr: bool = False

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        """Find the organs of the triggering series, and carry those of the planning CT over to it."""
        day = read_image_series(inputs.trigger.paths)
        planning = read_image_series(inputs.linked["planning_ct"][0].paths)
        structures = read_structure_set(_only_file(inputs, "structure_set"))
        self.check(day)
        check_one_patient(planning, structures, day)
        progress(0.05, "read")
        way = self._registered(planning, day, _registrations(inputs))
        progress(0.25, "registered")
        work = self.found(day, inputs, lambda done, what: progress(0.25 + 0.55 * done, what))
        origin = provenance(self, inputs)
        objects = self.written(day, work.kept, origin)
        registration = image_registration(planning, day, way.matrix, origin)
        carried = carried_over(
            planning,
            structures,
            day,
            way.matrix,
            origin,
            seen=seen_voxels(day),
            registration_uid=registration.SOPInstanceUID,
        )
        progress(0.9, "measuring")
        datasets = [one.dataset for one in objects]
        findings = (
            identity_finding(day, [*datasets, carried.dataset]),
            *read_back_findings(day, work.kept, datasets),
            *work.findings,
            *_of_registration(way, self.stability),
            *(_said(number, remark) for number, remark in enumerate(carried.remarks, start=1)),
            *_of_agreement(work.kept, carried.masks, day, self.stability),
        )
        return Outcome(series=tuple((one,) for one in (*datasets, registration, carried.dataset)), findings=findings)

    def check(self, source: ImageSeries) -> None:
        """As `Segmentation.check`, whatever is sent: what is carried over is a structure set in any case."""
        check_transverse(source)

    def _registered(
        self, planning: ImageSeries, day: ImageSeries, registrations: Sequence[Registration]
    ) -> RigidRegistration:  # fmt: skip
        if self.registration == "given":
            return as_given(planning, day, registrations)
        return registered(planning, day, registrations)


def _only_file(inputs: Inputs, role: str) -> Path:
    paths = inputs.linked[role][0].paths
    if len(paths) != 1:
        raise InputRejected(
            f"The series of the structure set has {len(paths)} files, and which one counts is not known"
        )
    return paths[0]


def _registrations(inputs: Inputs) -> list[Registration]:
    return usable_registrations(path for one in inputs.linked.get("registration", ()) for path in one.paths)


def _of_registration(way: RigidRegistration, site: SiteStability) -> Iterator[Finding]:
    """How far the registration can be trusted; no limit was measured on patients, so a person looks."""
    yield site.judged(
        "registration_doubt", 1.0 - way.correlation_after, "1", None, "Disagreement of planning CT and images"
    )
    if np.isfinite(way.inverse_consistency_mm):
        what = "Registration there and back, largest distance in mm"
        yield site.judged("registration_inverse_mm", way.inverse_consistency_mm, "mm", None, what)
    yield site.judged("registration_rotation_deg", way.rotation_deg, "deg", None, "Rotation of the patient in degrees")


def _said(number: int, remark: str) -> Finding:
    return Finding(name=f"carried_remark_{number}", value=1.0, unit="1", verdict=Verdict.FLAG, text=remark)


def _of_agreement(
    found: Mapping[str, NDArray[np.bool_]],
    carried: Mapping[str, NDArray[np.bool_]],
    day: ImageSeries,
    site: SiteStability,
) -> Iterator[Finding]:  # fmt: skip
    """Each organ found against carried over: what differs has moved, or one of the two is wrong."""
    drawn = Counter(_standard(name) for name in carried)
    for name in found:
        if drawn[_standard(name)] > 1:
            text = f"{name} was drawn {drawn[_standard(name)]} times on the planning CT, so it is not compared"
            yield Finding(name=f"{name.lower()}_not_compared", value=1.0, unit="1", verdict=Verdict.FLAG, text=text)
    once = {name: mask for name, mask in carried.items() if drawn[_standard(name)] == 1}
    for one in measured(agreement({name: mask for name, mask in found.items() if mask.any()}, once, day.volume)):
        yield site.judged(one.name, one.value, one.unit, None, one.text)


def _standard(name: str) -> str:
    return standard_name(name) or name

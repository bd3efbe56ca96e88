"""What a worker process runs: one job order in, files and a report out. It knows no ledger and no network."""

import hashlib
import importlib
import inspect
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from models.weights import WeightsError
from pipelines.base import (
    InputRejected,
    Inputs,
    InputSeries,
    Labelling,
    Outcome,
    Pipeline,
    PipelineError,
    Predecessor,
    Progress,
    no_progress,
)
from pipelines.dicom.elements import text
from pipelines.dicom.writing import file_bytes, put, write_whole
from pipelines.quality_page import write_quality_page
from pipelines.stability import Finding, Verdict, verdict_of

REPORT_NAME = "report.json"
RUN_SHARE = 0.9
"""Part of the progress that the pipeline has; the rest is writing."""


class PipelineConfigError(Exception):
    """The configuration of a pipeline can not be used; says which key of its file, and why."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        super().__init__(f"{name}: {key}: {reason}")
        self.key = key
        self.reason = reason


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderedSeries(_Record):
    """The files of one input series."""

    role: str
    series_instance_uid: str
    paths: tuple[Path, ...]


class JobOrder(_Record):
    """Everything that a worker has to know about one attempt of one job; JSON on the wire."""

    job_id: int
    attempt: int
    pipeline_name: str
    pipeline_class: str
    """`module:Class`"""
    settings: dict[str, Any]
    trigger: OrderedSeries
    linked: tuple[OrderedSeries, ...] = ()
    labelling: Labelling = Labelling()
    predecessors: tuple[Predecessor, ...] = ()
    quality_report: bool = True
    """Whether a quality report and a page are made, where the pipeline makes any."""
    output_dir: Path

    def inputs(self) -> Inputs:
        """The order's series as a pipeline takes them."""
        roles = sorted({series.role for series in self.linked})
        return Inputs(
            trigger=_input_series(self.trigger),
            linked={role: tuple(_input_series(s) for s in self.linked if s.role == role) for role in roles},
            labelling=self.labelling,
            predecessors=self.predecessors,
        )


class JobStatus(StrEnum):
    """How an attempt ended that did not raise."""

    FINISHED = "finished"
    REJECTED = "rejected"
    """No attempt can succeed on these inputs."""


class WrittenInstance(_Record):
    """One file that was made."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    file: str
    """Relative to the folder of the report."""
    sha256: str
    bytes: int


class WrittenSeries(_Record):
    """One series that was made."""

    study_instance_uid: str = ""
    """Empty in the reports of older versions."""
    series_instance_uid: str
    modality: str
    description: str
    instances: tuple[WrittenInstance, ...]
    is_quality_report: bool = False
    """Whether it tells how the others were judged."""


class JobReport(_Record):
    """What an attempt made, and what was found about it."""

    status: JobStatus
    reason: str = ""
    """Of a rejection: one plain sentence."""
    series: tuple[WrittenSeries, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdict: Verdict
    seconds: float


def load_pipeline(name: str, class_path: str, settings: Mapping[str, Any], verify: bool = True) -> Pipeline:
    """The pipeline that a configuration file describes, with its weights verified.

    Parameters
    ----------
    name
        Name of the file, without its ending.
    class_path
        `module:Class`.
    settings
        Values for the fields of the class.
    verify
        Whether the weights have to be there; False for training, which makes them.

    Raises
    ------
    PipelineConfigError
        If the class can not be imported or is no pipeline, a setting is wrong, or weights are absent or altered.
    """
    pipeline_class = _pipeline_class(name, class_path)
    if "name" in settings:
        raise PipelineConfigError(name, "settings.name", "is the name of the file, not a setting")
    try:
        pipeline = pipeline_class(name=name, **settings)
        if verify:
            pipeline.weights_sha256()
    except ValidationError as error:
        raise PipelineConfigError(name, "settings", _faults(error)) from error
    except WeightsError as error:
        raise PipelineConfigError(name, "settings.weights", str(error)) from error
    return pipeline


def execute(order: JobOrder, progress: Progress = no_progress) -> JobReport:
    """Run the pipeline of an order and write its instances, then `report.json`, into the folder of the order.

    Every file is fsync'd before it gets its name, and the report comes last: a folder with a report is whole.

    Raises
    ------
    PipelineConfigError
        If the pipeline can not be loaded.
    PipelineError
        If the attempt failed; all that a pipeline raises beside `InputRejected` passes through.
    """
    started = time.monotonic()
    pipeline = load_pipeline(order.pipeline_name, order.pipeline_class, order.settings)
    order.output_dir.mkdir(parents=True, exist_ok=True)
    try:
        outcome = pipeline.run(order.inputs(), lambda done, what: progress(done * RUN_SHARE, what))
    except InputRejected as error:
        report = JobReport(
            status=JobStatus.REJECTED,
            reason=str(error),
            verdict=Verdict.HOLD,
            seconds=time.monotonic() - started,
        )
    else:
        _check_produced(pipeline, outcome)
        report = _written(pipeline, order, outcome, started)
    write_whole(order.output_dir / REPORT_NAME, report.model_dump_json(indent=1).encode())
    progress(1.0, report.status)
    return report


def _input_series(series: OrderedSeries) -> InputSeries:
    return InputSeries(series.role, series.series_instance_uid, series.paths)


def _pipeline_class(name: str, class_path: str) -> type[Pipeline]:
    module_name, separator, class_name = class_path.partition(":")
    if not separator or not module_name or not class_name:
        raise PipelineConfigError(name, "class", f"{class_path} is not of the form module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise PipelineConfigError(name, "class", str(error)) from error
    if not isinstance(found, type) or not issubclass(found, Pipeline):
        raise PipelineConfigError(name, "class", f"{class_path} is not a pipeline")
    if inspect.isabstract(found):
        raise PipelineConfigError(name, "class", f"{class_path} is abstract")
    return found


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())


def _check_produced(pipeline: Pipeline, outcome: Outcome) -> None:
    """The node routes by what a pipeline says it makes, so it has to make that."""
    made = {dataset.SOPClassUID for series in outcome.series for dataset in series}
    if pipeline.produces and not made:
        raise PipelineError(f"{pipeline.name} made no instance")
    if not made <= pipeline.produces:
        names = ", ".join(sorted(uid.name for uid in made - pipeline.produces))
        raise PipelineError(f"{pipeline.name} made {names}, which it does not declare")


def _written(pipeline: Pipeline, order: JobOrder, outcome: Outcome, started: float) -> JobReport:
    verdict = verdict_of(outcome.findings)
    if verdict is not Verdict.RELEASE:
        _label(outcome)
    folder = order.output_dir
    series = [_written_series(datasets, folder, index) for index, datasets in enumerate(outcome.series, start=1)]
    # Without any finding the result is held, and there is nothing that a report could say.
    if order.quality_report and pipeline.reports_quality and outcome.findings:
        # Brings highdicom along, which a job without a report does without.
        from pipelines.quality import quality_report_of

        report = quality_report_of(pipeline, order.inputs(), outcome)
        written = _written_series([report], folder, len(series) + 1)
        series.append(written.model_copy(update={"is_quality_report": True}))
        write_quality_page(order.trigger.paths, _paths(series, folder), outcome.findings, folder, pipeline.name)
    return JobReport(
        status=JobStatus.FINISHED,
        series=tuple(series),
        findings=outcome.findings,
        verdict=verdict,
        seconds=time.monotonic() - started,
    )


def _paths(series: Sequence[WrittenSeries], folder: Path) -> dict[str, list[Path]]:
    """Files of the first series of each modality."""
    found: dict[str, list[Path]] = {}
    for one in series:
        found.setdefault(one.modality, [folder / instance.file for instance in one.instances])
    return found


def _label(outcome: Outcome) -> None:
    """Say in the images themselves what was found: they may be seen where no report is (PS3.3 C.7.6.1)."""
    remarks = "; ".join(finding.text for finding in outcome.findings if finding.verdict is not Verdict.RELEASE)
    for series in outcome.series:
        for dataset in series:
            if "PixelData" in dataset:
                put(dataset, "ImageComments", f"FLAGGED: {remarks or 'nothing was measured'}"[:10240])


def _written_series(datasets: Sequence[Dataset], output_dir: Path, index: int) -> WrittenSeries:
    folder = output_dir / f"{index:03d}"
    folder.mkdir(exist_ok=True)
    instances = tuple(_written_instance(dataset, folder) for dataset in datasets)
    return WrittenSeries(
        study_instance_uid=text(datasets[0], "StudyInstanceUID"),
        series_instance_uid=text(datasets[0], "SeriesInstanceUID"),
        modality=text(datasets[0], "Modality"),
        description=text(datasets[0], "SeriesDescription"),
        instances=instances,
    )


def _written_instance(dataset: Dataset, folder: Path) -> WrittenInstance:
    content = file_bytes(dataset)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    write_whole(path, content)
    return WrittenInstance(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        file=f"{folder.name}/{path.name}",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
    )

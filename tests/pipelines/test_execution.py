"""What a worker runs: an order in, files and a report out."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, CTImageStorage, RTDoseStorage

from models.weights import WeightsError
from pipelines.base import InputRejected, Inputs, Outcome, Pipeline, PipelineError, Progress, no_progress
from pipelines.copy_series import CopySeries
from pipelines.execution import (
    JobOrder,
    JobReport,
    JobStatus,
    OrderedSeries,
    PipelineConfigError,
    execute,
    load_pipeline,
)
from pipelines.stability import Finding, Verdict
from tests.pipelines.made import ct_series, write

COPY = "pipelines.copy_series:CopySeries"


class Failing(Pipeline):
    """A pipeline that fails in the way that it is told."""

    produces: ClassVar[frozenset[UID]] = frozenset({CTImageStorage})
    how: str = "crash"

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        if self.how == "reject":
            raise InputRejected("The series is not of this world")
        if self.how == "nothing":
            return Outcome(series=(), findings=())
        raise RuntimeError("crashed")

    def weights_sha256(self) -> tuple[str, ...]:
        if self.how == "weights":
            raise WeightsError("the weights file x can not be read")
        return ()


class Flagging(CopySeries):
    """A copy about which something was found."""

    def run(self, inputs: Inputs, progress: Progress = no_progress) -> Outcome:
        outcome = super().run(inputs, progress)
        finding = Finding(name="x", value=1, unit="1", verdict=Verdict.FLAG, text="Something is unusual")
        return Outcome(outcome.series, (*outcome.findings, finding))


class Undeclared(CopySeries):
    """A copy that says it makes doses."""

    produces: ClassVar[frozenset[UID]] = frozenset({RTDoseStorage})


def order(folder: Path, class_path: str = COPY, settings: Mapping[str, Any] | None = None) -> JobOrder:
    (folder / "in").mkdir(exist_ok=True)
    paths = write(ct_series(), folder / "in")
    return JobOrder(
        job_id=1,
        attempt=1,
        pipeline_name="test",
        pipeline_class=class_path,
        settings=dict(settings or {}),
        trigger=OrderedSeries(role="cbct", series_instance_uid="1.2", paths=tuple(paths)),
        output_dir=folder / "out",
    )


def here(name: str) -> str:
    return f"{__name__}:{name}"


def test_an_order_survives_json(tmp_path: Path) -> None:
    asked = order(tmp_path)
    assert JobOrder.model_validate_json(asked.model_dump_json()) == asked


def test_linked_series_come_by_role(tmp_path: Path) -> None:
    doses = tuple(OrderedSeries(role="dose", series_instance_uid=f"1.{i}", paths=()) for i in range(2))
    inputs = order(tmp_path).model_copy(update={"linked": doses}).inputs()
    assert [series.series_instance_uid for series in inputs.linked["dose"]] == ["1.0", "1.1"]


def test_every_file_of_the_report_is_there_and_nothing_else(tmp_path: Path) -> None:
    asked = order(tmp_path)
    report = execute(asked)
    assert (report.status, report.verdict) == (JobStatus.FINISHED, Verdict.RELEASE)
    (series,) = report.series
    assert (series.modality, series.description) == ("CT", "Copy NOT FOR TREATMENT")
    for instance in series.instances:
        content = (asked.output_dir / instance.file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (instance.bytes, instance.sha256)
        assert dcmread(asked.output_dir / instance.file).SOPInstanceUID == instance.sop_instance_uid
    files = {str(path.relative_to(asked.output_dir)) for path in asked.output_dir.rglob("*") if path.is_file()}
    assert files == {"report.json", *(instance.file for instance in series.instances)}
    assert JobReport.model_validate_json((asked.output_dir / "report.json").read_bytes()) == report


def test_the_same_order_again_makes_the_same_files(tmp_path: Path) -> None:
    first = execute(order(tmp_path))
    second = execute(order(tmp_path).model_copy(update={"output_dir": tmp_path / "again", "attempt": 2}))
    assert first.series == second.series


def test_a_rejection_is_a_report_with_its_reason(tmp_path: Path) -> None:
    asked = order(tmp_path, here("Failing"), {"how": "reject"})
    report = execute(asked)
    assert (report.status, report.reason) == (JobStatus.REJECTED, "The series is not of this world")
    assert JobReport.model_validate_json((asked.output_dir / "report.json").read_bytes()) == report


def test_a_crash_leaves_no_report(tmp_path: Path) -> None:
    asked = order(tmp_path, here("Failing"))
    with pytest.raises(RuntimeError, match="crashed"):
        execute(asked)
    assert not (asked.output_dir / "report.json").exists()


@pytest.mark.parametrize(
    ("class_path", "settings", "sentence"),
    [
        (here("Undeclared"), {}, "test made CT Image Storage, which it does not declare"),
        (here("Failing"), {"how": "nothing"}, "test made no instance"),
    ],
)
def test_a_pipeline_has_to_make_what_it_declares(
    tmp_path: Path, class_path: str, settings: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        execute(order(tmp_path, class_path, settings))


def test_a_flagged_result_says_so_in_its_images(tmp_path: Path) -> None:
    asked = order(tmp_path, here("Flagging"))
    report = execute(asked)
    image: Dataset = dcmread(asked.output_dir / report.series[0].instances[0].file)
    assert report.verdict is Verdict.FLAG
    assert image.ImageComments == "FLAGGED: Something is unusual"


def test_progress_ends_at_one(tmp_path: Path) -> None:
    said: list[float] = []
    execute(order(tmp_path), lambda done, _: said.append(done))
    assert said == sorted(said)
    assert said[-1] == 1.0


@pytest.mark.parametrize(
    ("class_path", "settings", "sentence"),
    [
        ("copy_series", {}, "test: class: copy_series is not of the form module:Class"),
        ("pipelines.absent:X", {}, "test: class: No module named 'pipelines.absent'"),
        ("pipelines.copy_series:X", {}, "test: class: module 'pipelines.copy_series' has no attribute 'X'"),
        ("pathlib:Path", {}, "test: class: pathlib:Path is not a pipeline"),
        (COPY, {"colour": 1}, "test: settings: colour: Extra inputs are not permitted"),
        (COPY, {"series_description": 1}, "test: settings: series_description: Input should be a valid string"),
        (COPY, {"name": "x"}, "test: settings.name: is the name of the file, not a setting"),
        ("pipelines.base:Pipeline", {}, "test: class: pipelines.base:Pipeline is abstract"),
        (here("Failing"), {"how": "weights"}, "test: settings.weights: the weights file x can not be read"),
    ],
)
def test_a_wrong_configuration_is_named(class_path: str, settings: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(PipelineConfigError) as caught:
        load_pipeline("test", class_path, settings)
    assert str(caught.value) == sentence


def test_weights_that_training_will_make_need_not_be_there() -> None:
    assert load_pipeline("test", here("Failing"), {"how": "weights"}, verify=False).name == "test"

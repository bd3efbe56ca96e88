"""Training, evaluation and study of a segmentation pipeline: which data, which settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import TypeAdapter, ValidationError

from models.limits import Limits
from models.pelvis_noise import TissuePatch
from models.training.organ_volumes import OrganVolume, organ_volume
from models.training.pelvis_volumes import pelvis_cohort
from models.training.segmentation import train
from models.training.segmentation_calibration import calibrate
from models.training.segmentation_report import evaluate
from models.training.segmentation_settings import SegmentationSettings
from models.training.segmentation_study import studied
from models.training.segmentation_study_report import write_report
from models.training.volumes import Split, TrainingDataError
from models.weights import WeightsError
from pipelines.base import PipelineError, Progress, TrainingOptions
from pipelines.organ_training_data import organ_volumes
from pipelines.training_data import training_volumes

if TYPE_CHECKING:
    from pipelines.segmentation import Segmentation

_READING_SHARE = 0.05


def train_segmentation(
    pipeline: "Segmentation", data: Path, output: Path, options: TrainingOptions, progress: Progress
) -> Path:
    """Train; the weights get the name in the settings of the pipeline.

    Raises
    ------
    PipelineError
        If the settings can not be used or the data do not suffice.
    """
    settings = segmentation_settings(pipeline, options)
    try:
        volumes = volumes_for(pipeline, data, settings, progress)
        return train(
            volumes,
            settings,
            output,
            Path(pipeline.weights).stem,
            _rest(progress),
            is_made_up=bool(pipeline.made_up_pelves),
            mirror=pipeline.mirror,
        )
    except TrainingDataError as error:
        raise PipelineError(str(error)) from error


def evaluate_segmentation(
    pipeline: "Segmentation", data: Path, output: Path, progress: Progress, record: bool
) -> Mapping[str, float]:  # fmt: skip
    """Measure on the test patients; errors as of `train_segmentation`."""
    settings = segmentation_settings(pipeline, TrainingOptions())
    try:
        pipeline.weights_sha256()
        volumes = volumes_for(pipeline, data, settings, progress, ("test",))
        made_up = bool(pipeline.made_up_pelves)
        return evaluate(pipeline.weights, volumes, output, pipeline.mirror, _rest(progress), record, made_up)
    except (TrainingDataError, WeightsError) as error:
        raise PipelineError(str(error)) from error


def calibrate_segmentation(pipeline: "Segmentation", data: Path, progress: Progress) -> Mapping[str, Limits]:
    """Measure the limits on the validation patients and write them into the card; errors as of `train_segmentation`."""
    if pipeline.made_up_pelves:
        raise PipelineError(f"{pipeline.name} knows made-up patients only, and what is usual for them limits nobody")
    settings = segmentation_settings(pipeline, TrainingOptions())
    try:
        pipeline.weights_sha256()
        volumes = volumes_for(pipeline, data, settings, progress)
        return calibrate(pipeline.weights, volumes, pipeline.mirror, pipeline.one_piece, _rest(progress)).limits
    except (TrainingDataError, WeightsError) as error:
        raise PipelineError(str(error)) from error


def study_segmentation(
    pipeline: "Segmentation", data: Path, output: Path, options: TrainingOptions, progress: Progress
) -> str:
    """Compare windows and class weights; the answer as a sentence. Errors as of `train_segmentation`."""
    settings = segmentation_settings(pipeline, options)
    try:
        volumes = volumes_for(pipeline, data, settings, progress, ("train", "validation"))
        results = studied(volumes, settings, output, _rest(progress))
    except TrainingDataError as error:
        raise PipelineError(str(error)) from error
    return write_report(results, settings, output)


def segmentation_settings(pipeline: "Segmentation", options: TrainingOptions) -> SegmentationSettings:
    """Those of the pipeline's file, changed by what was chosen for this run.

    Raises
    ------
    PipelineError
        If one is unknown or has no such value, or an option has no meaning here.
    """
    if options.method is not None or options.slices is not None:
        raise PipelineError(f"{pipeline.name} has one method of training, on whole volumes")
    if not pipeline.organs:
        raise PipelineError(f"{pipeline.name} does not say which organs it should learn (settings: organs)")
    chosen = options.model_dump(include={"updates", "seed", "device"}, exclude_none=True)
    values = {"organs": pipeline.organs, **pipeline.training, **options.settings, **chosen}
    try:
        return TypeAdapter(SegmentationSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise PipelineError(f"training setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def volumes_for(
    pipeline: "Segmentation",
    data: Path,
    settings: SegmentationSettings,
    progress: Progress,
    splits: Sequence[Split] = get_args(Split),
) -> list[OrganVolume]:
    """What lies below the folder, or patients of the splits made up with the texture of the CT there."""
    if not pipeline.made_up_pelves:
        return organ_volumes(data, settings.organs, lambda done, what: progress(_READING_SHARE * done, what))
    textures = [
        TissuePatch(volume.hu_zyx, volume.spacing_zyx_mm)
        for volume in training_volumes(data)
        if volume.split != "test" and volume.domain == "planning_ct"
    ]
    cohort = []
    for number, one in enumerate(pelvis_cohort(pipeline.made_up_pelves, textures, splits), start=1):
        cohort.append(organ_volume(one.volume, one.masks(), settings.organs, one.mr_zyx))
        progress(_READING_SHARE * number / (number + 10), f"made up {number} patients")
    return cohort


def _rest(progress: Progress) -> Progress:
    return lambda done, what: progress(_READING_SHARE + (1.0 - _READING_SHARE) * done, what)

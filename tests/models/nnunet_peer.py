"""Train toy nnU-Nets with the package of its makers, and predict with them: a program of its own, run by tests.

`python nnunet_peer.py FOLDER` leaves the trained folders under FOLDER/results, and for each of `CASES` a file NAME.npz
with an image, its spacing and the labels that nnU-Net finds in it.
"""

import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = {"background": 0, "parotid_left": 1, "parotid_right": 2}
_FOREGROUND_SAMPLES = 20_000
"""Of its ten million, which take longer to draw than all else here."""
_NUMBERS_HU = (300.0, -300.0)
"""Of the two organs; the rest is 0 with noise."""


@dataclass(frozen=True)
class Case:
    """One data set, the configuration that is trained on it, and the image that is predicted."""

    name: str
    configuration: str
    planner: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    patch: tuple[int, ...]
    unseen_shape: tuple[int, int, int]
    unseen_spacing_mm: tuple[float, float, float]
    folds: tuple[int | str, ...] = ("all",)
    training_images: int = 2
    iterations: int = 40


CASES = (
    Case(
        "isotropic", "3d_fullres", "ExperimentPlanner", (32, 32, 32), (2.0, 2.0, 2.0), (24, 24, 24),
        (20, 17, 38), (2.7, 2.1, 1.6), folds=(0, 1), training_images=5,
    ),
    Case(
        "anisotropic", "3d_fullres", "nnUNetPlannerResEncM", (14, 40, 40), (8.0, 2.0, 2.0), (8, 24, 24),
        (6, 40, 44), (11.0, 1.7, 1.5),
    ),
    Case(
        "flat", "2d", "ExperimentPlanner", (14, 40, 40), (8.0, 2.0, 2.0), (32, 32),
        (6, 50, 44), (11.0, 1.7, 1.5), iterations=60,
    ),
)  # fmt: skip


def image(seed: int, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """HU and labels of two balls side by side."""
    rng = np.random.default_rng(seed)
    size_mm = np.array(shape) * spacing_mm
    places_mm = np.indices(shape) * np.reshape(spacing_mm, (3, 1, 1, 1))
    hu, labels = rng.normal(0.0, 20.0, shape), np.zeros(shape, np.uint8)
    for label, (across, value) in enumerate(zip((0.7, 0.3), _NUMBERS_HU, strict=True), 1):
        middle_mm = size_mm * (0.5, 0.5, across) + rng.uniform(-3.0, 3.0, 3)
        ball = np.square(places_mm - middle_mm[:, None, None, None]).sum(axis=0) < (0.18 * size_mm.min()) ** 2
        hu[ball] += value
        labels[ball] = label
    return hu.astype(np.float32), labels


class _Here:
    """A pool of processes that are none: starting one takes longer than all that it would do."""

    _pool = ()

    def __init__(self, processes: int) -> None:
        pass

    def __enter__(self) -> "_Here":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def starmap_async(self, function: Any, arguments: Any) -> "_Done":
        return _Done([function(*some) for some in arguments])


class _Done:
    def __init__(self, results: list[Any]) -> None:
        self._results = results

    def ready(self) -> bool:
        return True

    def get(self) -> list[Any]:
        return self._results


class _Context:
    Pool = _Here


def _dataset(folder: Path, case: Case) -> None:
    import SimpleITK

    itk: Any = SimpleITK
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    files = {}
    for number in range(case.training_images):
        paths = f"imagesTr/c{number}_0000.nii.gz", f"labelsTr/c{number}.nii.gz"
        for array, path in zip(image(number, case.shape, case.spacing_mm), paths, strict=True):
            written = itk.GetImageFromArray(array)
            written.SetSpacing(case.spacing_mm[::-1])
            itk.WriteImage(written, str(folder / path))
        files[f"c{number}"] = {"images": [paths[0]], "label": paths[1]}
    facts = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": case.training_images,
        "file_ending": ".nii.gz",
        "licence": "made up",
        "dataset": files,
    }
    (folder / "dataset.json").write_text(json.dumps(facts))


def _planned(number: int, case: Case) -> dict[str, Any]:
    """Plans of the makers, with fewer features and smaller patches."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(api.__file__).parent / "experiment_planners"
    planner = recursive_find_python_class(
        str(folder), case.planner, current_module="nnunetv2.experiment_planning.experiment_planners"
    )
    extractor = DatasetFingerprintExtractor(number, num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = _FOREGROUND_SAMPLES
    extractor.run()
    plans, name = api.plan_experiment_dataset(number, planner)
    configuration = plans["configurations"][case.configuration]
    configuration["patch_size"] = list(case.patch)
    settings = configuration["architecture"]["arch_kwargs"]
    settings["features_per_stage"] = [min(8 << stage, 32) for stage in range(settings["n_stages"])]
    path = Path(os.environ["nnUNet_preprocessed"]) / plans["dataset_name"] / f"{name}.json"
    path.write_text(json.dumps(plans))
    api.preprocess_dataset(number, plans_identifier=name, configurations=(case.configuration,), num_processes=(1,))
    return dict(json.loads(path.read_text()))


def _trained(plans: dict[str, Any], case: Case, dataset: dict[str, Any]) -> Path:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    for fold in case.folds:
        plans["continue_training"] = False
        trainer = nnUNetTrainer(plans, case.configuration, fold, dataset, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = (
            1,
            case.iterations,
            1,
        )
        trainer.logger.plot_progress_png = lambda folder: None
        trainer.run_training()
    return Path(trainer.output_folder).parent


def _predicted(folder: Path, case: Case) -> tuple[NDArray[Any], NDArray[Any]]:
    """An image with a rim of zeros, and what nnU-Net finds in it."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    hu, _ = image(99, case.unseen_shape, case.unseen_spacing_mm)
    hu[:, :3], hu[:, :, -4:] = 0.0, 0.0
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), case.folds)
    labels = predictor.predict_single_npy_array(hu[None], {"spacing": list(case.unseen_spacing_mm)}, None, None, False)
    return hu, labels


def main(root: Path) -> None:
    os.environ.update({f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")})
    os.environ.update(nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1", nnUNet_compile="f")
    import torch

    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    multiprocessing.get_context = lambda method=None: _Context  # type: ignore[assignment]
    for number, case in enumerate(CASES, 1):
        folder = root / "raw" / f"Dataset{number:03d}_{case.name}"
        _dataset(folder, case)
        os.environ["nnUNet_n_proc_DA"] = "1"
        plans = _planned(number, case)
        os.environ["nnUNet_n_proc_DA"] = "0"
        trained = _trained(plans, case, json.loads((folder / "dataset.json").read_text()))
        hu, labels = _predicted(trained, case)
        np.savez(root / f"{case.name}.npz", hu=hu, labels=labels)
        trained.rename(root / case.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

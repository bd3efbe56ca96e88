"""Objects of organs as programs read them that no one here wrote: dcmqi the Segmentations, ITK what comes of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from pipelines.dicom.segmentation import segmentation
from pipelines.dicom.writing import file_bytes
from tests.pipelines.organs_made import ORIGIN, POSITIONS, images, organ_masks

READER = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or "segimage2itkimage"


def in_order(points: object) -> NDArray[np.float64]:
    """Points (n, 3) by their rounded coordinates."""
    rounded = np.round(np.asarray(points, np.float64), 1)
    return np.asarray(rounded[np.lexsort(rounded.T)])


@pytest.mark.parametrize("position", list(POSITIONS))
def test_dcmqi_finds_every_organ_by_name_where_it_was_written(tmp_path: Path, position: str) -> None:
    source, masks = images(tmp_path, position), organ_masks()
    path = tmp_path / "organs.dcm"
    path.write_bytes(file_bytes(segmentation(source, masks, ORIGIN, "Organs").dataset))
    command = [READER, "--inputDICOM", str(path), "--outputDirectory", str(tmp_path), "--outputType", "nrrd"]
    subprocess.run([*command, "--prefix", "read"], check=True, capture_output=True, timeout=60)
    described = json.loads((tmp_path / "read-meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    labels = {one["labelID"]: one["SegmentLabel"] for group in described for one in group}
    written = {name: mask for name, mask in masks.items() if mask.any()}
    assert sorted(labels.values()) == sorted(written)
    for number, name in labels.items():
        image = SimpleITK.ReadImage(str(tmp_path / f"read-{number}.nrrd"))
        found = np.argwhere(SimpleITK.GetArrayFromImage(image))
        place: Any = image.TransformIndexToPhysicalPoint
        points = [place(tuple(map(int, index[::-1]))) for index in found]
        expected = source.volume.points_lps(np.argwhere(written[name])[:, ::-1].astype(np.float64))
        np.testing.assert_allclose(in_order(points), in_order(expected), atol=0.02)

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from pipelines.phantom_study import Kind, PhantomSize, write_phantom

SMALL = PhantomSize(matrix=96, slices=16, slice_mm=4.0, fractions=1)


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", "demo", "--output", str(folder / "out"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.timeout(400)
def test_demonstration_brings_made_up_patients_to_tps_and_pacs(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    enhanced = [dcmread(path) for path in (tmp_path / "out" / "received" / "TPS").glob("*.dcm")]
    # Four fractions of each patient: MVCT of the head and neck, CBCT of the pelvis.
    assert Counter(str(dataset.PatientName) for dataset in enhanced) == {"Demo^HeadNeck": 160, "Demo^Pelvis": 160}
    assert all("NOT FOR TREATMENT" in dataset.SeriesDescription for dataset in enhanced)
    page = (tmp_path / "out" / "index.html").read_text()
    pictures = sorted((tmp_path / "out" / "pictures").glob("*.png"))
    # Of each enhanced fraction, of each series that is copied, and of the organs of the head and neck, which are held.
    assert len(pictures) == 13
    assert all(f"pictures/{picture.name}" in page for picture in pictures)


@pytest.mark.timeout(300)
def test_demonstration_takes_a_folder_of_ones_own(tmp_path: Path) -> None:
    write_phantom(Kind.HEADNECK, tmp_path / "own", size=SMALL)
    done = demo(tmp_path, "--input", str(tmp_path / "own"))
    assert "enhance_mvct" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "out" / "pictures" / "job_1.png").is_file()


def test_demonstration_of_an_empty_folder_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    done = demo(tmp_path, "--input", str(tmp_path / "own"))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"rtnode: {tmp_path / 'own'} has no DICOM file")

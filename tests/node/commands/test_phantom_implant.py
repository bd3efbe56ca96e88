"""The command `rtnode phantom implant`."""

from pathlib import Path

from pipelines.outcomes import collected_patients, read_truth
from tests.node.commands.test_phantom import phantom


def test_implants_are_written_as_a_collection_and_counted(tmp_path: Path) -> None:
    answer = phantom("implant", "--patients", "2", "--effect", "0", "--output", tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("2 patients, ")
    assert [one.patient for one in collected_patients(tmp_path)] == ["implant_0_0000", "implant_0_0001"]
    assert set(read_truth(tmp_path).values()) == {0.0}


def test_a_cohort_of_one_is_refused(tmp_path: Path) -> None:
    answer = phantom("implant", "--patients", "1", "--output", tmp_path)
    assert answer.returncode == 2

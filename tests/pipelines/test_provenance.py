"""UIDs that follow from the work, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.base import InputRejected, Inputs, InputSeries, Labelling
from pipelines.copy_series import CopySeries
from pipelines.provenance import Provenance, hashed_uid, provenance
from tests.pipelines.conftest import inputs
from tests.pipelines.made import ct_series, write

ORIGIN = Provenance("copy", "ab" * 32, ("cd" * 32,), Labelling(), ("1.2", "1.3"), "1.0")


def test_a_hashed_uid_is_a_uuid_in_decimal_and_never_changes() -> None:
    uid = hashed_uid(["a", 1])
    assert uid == "2.25.50963776333089602882530594028783596242"
    assert uid.is_valid
    assert int(uid.removeprefix("2.25.")) < 2**128


@pytest.mark.parametrize(
    "other",
    [
        replace(ORIGIN, settings_sha256="ef" * 32),
        replace(ORIGIN, version="1.1"),
        replace(ORIGIN, sop_instance_uids=("1.2",)),
        replace(ORIGIN, labelling=Labelling("PRODUCT")),
        replace(ORIGIN, predecessors=("1.2",)),
    ],
)
def test_whatever_a_result_depends_on_changes_its_uid(other: Provenance) -> None:
    assert other.uid("series") != ORIGIN.uid("series")
    assert ORIGIN.uid("series") == replace(ORIGIN).uid("series") != ORIGIN.uid("instance")


def test_inputs_count_wherever_they_are_linked_and_in_any_order(tmp_path: Path) -> None:
    paths = write(ct_series(), tmp_path)
    pipeline = CopySeries(name="copy")
    linked = Inputs(
        InputSeries("cbct", "1", tuple(paths[:2])),
        {"planning_ct": (InputSeries("planning_ct", "2", tuple(paths[2:])),)},
    )
    assert provenance(pipeline, linked) == provenance(pipeline, inputs(paths[::-1]))


def test_the_description_names_pipeline_settings_and_weights() -> None:
    said = ORIGIN.description()
    assert said == f"Pipeline copy; settings SHA-256 {'ab' * 32}; weights SHA-256 {'cd' * 32}"
    assert len(replace(ORIGIN, weights_sha256=("cd" * 32,) * 40).description()) == 1024


def test_an_input_without_a_uid_is_refused(tmp_path: Path) -> None:
    paths = write(ct_series()[:1], tmp_path)
    content = paths[0].read_bytes()
    start = content.index(b"\x08\x00\x18\x00UI")
    end = start + 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    paths[0].write_bytes(content[:start] + content[end:])
    with pytest.raises(InputRejected, match="An instance has no SOP Instance UID"):
        provenance(CopySeries(name="copy"), inputs(paths))

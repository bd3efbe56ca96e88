"""Bytes that an enemy or a bad disk made: the reader refuses them or reads them, and does nothing else."""

import io
import warnings
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from pipelines.base import InputRejected
from pipelines.dicom.dose import read_dose
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.projection_scan import announced_views, scan_fault
from pipelines.dicom.projections import read_projections
from pipelines.dicom.reading import UNREADABLE, quiet
from pipelines.dicom.registration import read_registration
from pipelines.dicom.stack import stack_fault
from pipelines.dicom.structure_set import read_structure_set
from tests.pipelines.made import ct_series, enhanced_ct, ramp, write
from tests.pipelines.projections_made import ANGLE, AXIAL, DETECTOR, projection_series, with_private

SYNTAXES: dict[str, UID] = {"implicit": ImplicitVRLittleEndian, "rle": RLELossless}
READERS = (lambda path: read_image_series([path]), read_dose, read_structure_set, read_registration)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@cache
def valid(kind: str, folder: Path) -> bytes:
    small = ramp(slices=2, rows=4, columns=4)
    dataset = enhanced_ct(small) if kind == "enhanced" else ct_series(small)[0]
    return write([dataset], folder, SYNTAXES.get(kind, ExplicitVRLittleEndian))[0].read_bytes()


def with_flips(content: bytes, data: st.DataObject, most: int) -> bytearray:
    flipped = bytearray(content)
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=most)):
        flipped[place] = value
    return flipped


@pytest.mark.parametrize("kind", ["explicit", "implicit", "rle", "enhanced"])
@FUZZ
@given(data=st.data())
def test_flipped_and_cut_bytes_are_refused_or_read(folder: Path, kind: str, data: st.DataObject) -> None:
    content = with_flips(valid(kind, folder), data, most=12)
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = folder / "fuzzed.dcm"
    path.write_bytes(content[:end])
    for reader in READERS:
        try:
            reader(path)
        except InputRejected:
            continue


@FUZZ
@given(data=st.data())
def test_the_stack_of_broken_headers_is_judged_without_an_error(folder: Path, data: st.DataObject) -> None:
    """Headers as pydicom leaves them, undecoded: the node asks about files that it only parsed."""
    content = with_flips(valid("implicit", folder), data, most=4)
    try:
        with quiet():
            header = dcmread(io.BytesIO(content))
    except UNREADABLE:
        return
    with quiet():
        stack_fault([header, header])


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A scan of six views; Implicit VR leaves the private elements without a VR."""
    return write(projection_series(6), tmp_path_factory.mktemp("views"), ImplicitVRLittleEndian)


@settings(FUZZ, max_examples=50)
@given(data=st.data())
def test_a_scan_with_one_broken_view_is_refused_or_read(views: list[Path], data: st.DataObject) -> None:
    content = with_flips(views[0].read_bytes(), data, most=4)
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = views[0].with_name("fuzzed.dcm")
    path.write_bytes(content[:end])
    try:
        read_projections([path, *views[1:]])
    except InputRejected:
        return


@settings(FUZZ, max_examples=50)
@given(data=st.data())
def test_a_scan_of_broken_headers_is_judged_without_an_error(views: list[Path], data: st.DataObject) -> None:
    headers = []
    with quiet():
        for path in views:
            try:
                headers.append(dcmread(io.BytesIO(with_flips(path.read_bytes(), data, most=2))))
            except UNREADABLE:
                continue
        scan_fault(headers)
        announced_views(headers)


ANY_VALUE = st.one_of(
    st.tuples(st.just("FL"), st.floats(width=32)),
    st.tuples(st.just("FL"), st.lists(st.floats(width=32), max_size=3)),
    st.tuples(st.just("FD"), st.floats()),
    st.tuples(st.just("US"), st.integers(0, 65535)),
    st.tuples(st.just("UN"), st.sampled_from([b"", b"\x00\x00", b"FLAT", b"12345678", b"\xff" * 6])),
    st.tuples(st.just("LO"), st.sampled_from(["1e400", "nan", "x", "3", "1\\2"])),
)
SCAN = projection_series(6)


@settings(FUZZ, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*DETECTOR, ANGLE, AXIAL, 0x70331065]), ANY_VALUE)))
def test_a_scan_with_any_geometry_is_refused_or_read(
    folder: Path, changes: list[tuple[int, int, tuple[str, object]]]
) -> None:
    series = deepcopy(SCAN)
    for index, tag, value in changes:
        with_private(series[index], {tag: value})
    scan_fault(series)
    with warnings.catch_warnings():
        # pydicom's, of values that no writer should write.
        warnings.simplefilter("ignore", UserWarning)
        paths = write(series, folder)
    try:
        read_projections(paths)
    except InputRejected:
        return

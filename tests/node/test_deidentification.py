from collections.abc import Mapping
from datetime import timedelta

import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, generate_uid

from node.deidentification import Action, Deidentifier, action_for, shifted

KEY = b"k" * 32


@pytest.fixture
def secret() -> Dataset:
    """A data set with SECRET in every place that a name has been found in."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.FrameOfReferenceUID = "1.2.4"
    dataset.PatientName = "SECRET^NAME"
    dataset.PatientID = "SECRETID"
    dataset.PatientSex = "F"
    dataset.StudyDate = "20250228"
    dataset.AcquisitionDateTime = "20250301235959.123+0900"
    dataset.SeriesDescription = "SECRET description"
    dataset.PatientComments = "SECRET comment"
    dataset.OperatorsName = "SECRET^OPERATOR"
    dataset.DeviceSerialNumber = "SECRET1"
    dataset.Manufacturer = "Maker"
    dataset.add_new(0x00091001, "LO", "SECRET private")
    dataset.add_new(0x60000010, "US", 4)
    dataset.add_new(0x60003000, "OW", b"SECRET overlay")
    dataset.add_new(0x30060999, "UN", b"SECRET unknown")
    item = Dataset()
    item.FrameOfReferenceUID = "1.2.4"
    item.ReviewerName = "SECRET^REVIEWER"
    item.add_new(0x00111001, "LO", "SECRET nested private")
    dataset.ReferencedFrameOfReferenceSequence = [item]
    return dataset


def test_no_secret_is_left_at_any_depth(secret: Dataset) -> None:
    assert "SECRET" not in str(Deidentifier(KEY).deidentified(secret))


def test_the_original_is_not_touched(secret: Dataset) -> None:
    before = str(secret)
    Deidentifier(KEY).deidentified(secret)
    assert str(secret) == before


def test_it_says_what_was_done(secret: Dataset) -> None:
    copy = Deidentifier(KEY).deidentified(secret)
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [item.CodeValue for item in copy.DeidentificationMethodCodeSequence] == ["113100", "113107", "113108"]


def test_references_stay_whole(secret: Dataset) -> None:
    copy = Deidentifier(KEY).deidentified(secret)
    assert copy.FrameOfReferenceUID == copy.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    assert copy.FrameOfReferenceUID != "1.2.4"
    assert copy.FrameOfReferenceUID.is_valid


def test_uids_of_the_standard_stay(secret: Dataset) -> None:
    assert Deidentifier(KEY).deidentified(secret).SOPClassUID == CTImageStorage


def test_what_research_needs_stays(secret: Dataset) -> None:
    copy = Deidentifier(KEY).deidentified(secret)
    assert (copy.PatientSex, copy.Manufacturer) == ("F", "Maker")


def test_all_dates_of_a_patient_move_by_the_same_days(secret: Dataset) -> None:
    deidentifier = Deidentifier(KEY)
    days = deidentifier.shift("SECRETID")
    copy = deidentifier.deidentified(secret)
    assert copy.StudyDate == shifted("20250228", days)
    assert copy.AcquisitionDateTime == shifted("20250301235959.123+0900", days)
    assert days < timedelta(0)


def test_birth_date_goes_at_every_depth_so_that_no_age_in_days_is_left(secret: Dataset) -> None:
    secret.PatientBirthDate, secret.PatientBirthTime = "19500131", "0315"
    secret.PatientBirthDateInAlternativeCalendar = "SECRET birth date"
    secret.ReferencedFrameOfReferenceSequence[0].PatientBirthDate = "19500131"
    copy = Deidentifier(KEY).deidentified(secret)
    item = copy.ReferencedFrameOfReferenceSequence[0]
    assert not copy.PatientBirthDate and not item.PatientBirthDate
    assert "PatientBirthTime" not in copy and "PatientBirthDateInAlternativeCalendar" not in copy


def test_other_dates_that_the_profile_empties_are_moved_instead(secret: Dataset) -> None:
    secret.StructureSetDate = "20250303"
    deidentifier = Deidentifier(KEY)
    copy = deidentifier.deidentified(secret)
    assert copy.StructureSetDate == shifted("20250303", deidentifier.shift("SECRETID"))


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        ("20240301", -1, "20240229"),
        ("20250101", -7, "20241225"),
        ("20250101120000.5+0900", -1, "20241231120000.5+0900"),
        ("202501", -1, ""),
        ("yesterday", -1, ""),
    ],
)
def test_shifted_date(text: str, days: int, expected: str) -> None:
    assert shifted(text, timedelta(days=days)) == expected


def test_another_key_makes_another_person() -> None:
    assert Deidentifier(KEY).pseudonym("A") != Deidentifier(b"o" * 32).pseudonym("A")
    assert Deidentifier(KEY).pseudonym("A") == Deidentifier(KEY).pseudonym("A")


def test_uid_is_a_digest_that_depends_on_the_key() -> None:
    original = generate_uid()
    assert Deidentifier(KEY).uid(original) == Deidentifier(KEY).uid(original)
    assert Deidentifier(KEY).uid(original) != Deidentifier(b"o" * 32).uid(original)


def structure_set(*roi_names: str | None) -> Dataset:
    """Regions numbered from 7 up, with these names."""
    dataset = Dataset()
    dataset.PatientID = "SECRETID"
    items = []
    for number, name in enumerate(roi_names, start=7):
        item = Dataset()
        item.ROINumber, item.ROIName, item.ROIDescription = number, name, "SECRET"
        items.append(item)
    dataset.StructureSetROISequence = items
    return dataset


def roi_names(dataset: Dataset, structure_names: Mapping[str, str] | None = None) -> list[str]:
    copy = Deidentifier(KEY, structure_names).deidentified(dataset)
    assert "SECRET" not in str(copy)
    return [item.ROIName for item in copy.StructureSetROISequence]


def test_roi_names_of_tg_263_stay_and_others_are_numbered() -> None:
    original = structure_set("Parotid_L", "Mr SECRET bolus", "PTVp_5040", "Heart^SECRET", None, "SPINALCORD")
    assert roi_names(original) == ["Parotid_L", "ROI 2", "PTVp_5040", "ROI 4", "ROI 5", "SpinalCord"]


def test_roi_numbers_stay_so_that_contours_find_their_region() -> None:
    copy = Deidentifier(KEY).deidentified(structure_set("Heart", "SECRET"))
    assert [item.ROINumber for item in copy.StructureSetROISequence] == [7, 8]


def test_roi_names_of_the_site_become_what_its_table_says() -> None:
    table = {"Rückenmark": "SpinalCord", "Mandible": "Bone_Mandible"}
    names = roi_names(structure_set("RÜCKENMARK", "mandible ", "SECRET mandible"), table)
    assert names == ["SpinalCord", "Bone_Mandible", "ROI 3"]


def test_two_regions_do_not_come_to_one_name() -> None:
    assert roi_names(structure_set("Heart", "HEART", "Herz"), {"Herz": "Heart"}) == ["Heart", "ROI 2", "ROI 3"]


@pytest.mark.parametrize(
    ("keyword", "vr", "action"),
    [
        ("PatientComments", "LT", Action.REMOVE),
        ("AccessionNumber", "SH", Action.EMPTY),
        ("StructureSetLabel", "SH", Action.DUMMY),
        ("FrameOfReferenceUID", "UI", Action.REPLACE_UID),
        ("SourceImageSequence", "SQ", Action.LOOK_INSIDE),
        ("KVP", "DS", Action.LOOK_INSIDE),
        ("PatientBirthDate", "DA", Action.EMPTY),
        ("PatientBirthTime", "TM", Action.REMOVE),
        ("StudyDate", "DA", Action.MOVE_DATE),
        ("ContentTime", "TM", Action.MOVE_DATE),
        ("ParticipationDateTime", "DT", Action.MOVE_DATE),
        ("ScheduledProcedureStepStartDate", "DA", Action.REMOVE),
    ],
)
def test_action_of_the_standards_table(keyword: str, vr: str, action: Action) -> None:
    values: dict[str, object] = {"SQ": [], "DA": "20250101", "DT": "20250101", "TM": "10"}
    assert action_for(DataElement(Tag(keyword), vr, values.get(vr, "1"))) is action

import pytest

from pipelines.dicom.label_names import _BASES, tg263_name
from pipelines.dicom.structure_names import standard_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("kidney_left", "Kidney_L"),
        ("Kidney left", "Kidney_L"),
        ("left-kidney", "Kidney_L"),
        ("KIDNEY_L", "Kidney_L"),
        ("lung_r", "Lung_R"),
        ("parotid_gland_right", "Parotid_R"),
        ("urinary_bladder", "Bladder"),
        ("Spinal Cord", "SpinalCord"),
        ("femoral_head_left", "Femur_Head_L"),
        ("prostate", "Prostate"),
        ("PTV_High", "PTV_High"),
        ("Bladder", "Bladder"),
    ],
)
def test_labels_of_published_models_get_their_tg263_names(label: str, name: str) -> None:
    assert tg263_name(label) == name


@pytest.mark.parametrize("label", ["vertebrae_L1", "liver_left", "tumour", "left right", "heart_atrium_left_right", ""])
def test_a_label_that_is_not_known_stays_as_it_is(label: str) -> None:
    assert tg263_name(label) == label


def test_every_name_of_the_table_is_one_of_tg263() -> None:
    for base, name in _BASES.items():
        assert standard_name(name) == name, base

import pytest

from pipelines.dicom.structure_names import standard_name


@pytest.mark.parametrize(
    "name",
    [
        "SpinalCord",
        "Parotid_L",
        "Femur_Head_R",
        "Brainstem_PRV",
        "SpinalCord_PRV05",
        "~Lung_L",
        "VB_T12",
        "GTVp",
        "CTVn2",
        "PTV_High",
        "PTV_Mid01",
        "PTVp_5040",
        "PTV!_5040",
        "PTV_2000x5",
        "PTV_50p4Gy",
        "CTVp_7000-05",
    ],
)
def test_names_of_the_report_are_kept(name: str) -> None:
    assert standard_name(name) == name


@pytest.mark.parametrize(
    ("name", "standard"), [("PAROTID_L", "Parotid_L"), (" heart ", "Heart"), ("opticnrv_r", "OpticNrv_R")]
)
def test_upper_and_lower_case_of_organs_is_set_right(name: str, standard: str) -> None:
    assert standard_name(name) == standard


@pytest.mark.parametrize(
    "name",
    [
        "",
        "SECRET",
        "PTV SECRET",
        "PTV_SECRET",
        "PTVp_5040^Secret",
        "Heart^Secret",
        "Secret_L",
        "Heart_L",
        "Heart_PRV05_Secret",
        "PTV_19500101",
        "~",
        "_PRV",
        "VB_T13",
        "Heart\nSECRET",
    ],
)
def test_free_text_is_no_name(name: str) -> None:
    assert standard_name(name) is None

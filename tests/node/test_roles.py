"""The rule language of roles.yaml, and the roles that the shipped rules give to machines, objects and real data."""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from pydicom import Dataset, Sequence, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset

from node.config import load_config
from node.errors import ConfigError
from node.roles import UNKNOWN_ROLE, RoleRule, role_of, tags_of
from node.sop_classes import LABEL_MAP_SEGMENTATION_STORAGE
from pipelines.base import Labelling
from pipelines.copy_series import CopySeries
from tests.pipelines.conftest import inputs
from tests.pipelines.made import ct_series, write
from tests.pipelines.projections_made import as_unknown, projection_series

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("RTNODE_DATA", REPOSITORY / ".." / "shared" / "data"))
SHIPPED = TypeAdapter(tuple[RoleRule, ...]).validate_python(
    yaml.safe_load((REPOSITORY / "config" / "roles.yaml").read_text(encoding="utf-8"))
)

AFTERWARDS = ["DERIVED", "SECONDARY", "AXIAL"]
LOSSY_COPY = ["DERIVED", "PRIMARY", "AXIAL"]
BY_ANOTHER_DEVICE: dict[str, Any] = {"ContributingEquipmentSequence": Sequence([Dataset()])}


def of_class(sop_class_uid: uid.UID, **elements: Any) -> Dataset:
    """The header of an instance of a patient; `_7029_1010` is the private element (7029,1010)."""
    header = Dataset()
    patient = {"SOPClassUID": sop_class_uid, "PatientName": "Quang^An", "PatientID": "4711"}
    for keyword, value in (patient | elements).items():
        if keyword.startswith("_"):
            header.add_new(int(keyword.replace("_", ""), 16), "LO", value)
        else:
            setattr(header, keyword, value)
    return header


def ct(
    maker: str = "GE MEDICAL SYSTEMS", model: str = "LightSpeed16", description: str = "", **elements: Any
) -> Dataset:
    """The header of a CT slice."""
    slice_of_a_scan = {
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Manufacturer": maker,
        "ManufacturerModelName": model,
        "SeriesDescription": description,
        "KVP": "120",
    }
    return of_class(uid.CTImageStorage, **slice_of_a_scan | elements)


def tomotherapy(**elements: Any) -> Dataset:
    return ct("TomoTherapy Incorporated", "Hi-Art", **elements)


def radixact(**elements: Any) -> Dataset:
    return ct("Accuray Incorporated", "Radixact", **elements)


def varian(model: str, **elements: Any) -> Dataset:
    return ct("Varian Medical Systems", model, **elements)


def head(**elements: Any) -> Dataset:
    return ct(**{"BodyPartExamined": "HEAD", "StudyDescription": "CT, HEAD/BRAIN WO CONTRAST"} | elements)


def mr(**elements: Any) -> Dataset:
    return of_class(uid.MRImageStorage, Modality="MR", **elements)


MADE_AFTERWARDS = [
    ("a result that comes back", "derived", ct("rtnode", "enhance_cbct", ImageType=AFTERWARDS)),
    ("a structure set of rtnode", "derived", of_class(uid.RTStructureSetStorage, Manufacturer="rtnode")),
    ("a segmentation of rtnode", "derived", of_class(uid.SegmentationStorage, Manufacturer="rtnode")),
    ("a report of rtnode", "derived", of_class(uid.ComprehensiveSRStorage, Manufacturer="rtnode")),
    ("a result that a TPS calls its own", "derived", varian("ARIA", SeriesDescription="CBCT+ NOT FOR TREATMENT")),
    ("made-up patients are no results", "structure_set", of_class(uid.RTStructureSetStorage, Manufacturer="rtnode x")),
    ("synthetic CT of a CBCT", "derived", varian("OBI Cone-beam CT", SeriesDescription="sCT fx 3")),
    ("synthetic CT of MR", "derived", ct("Philips", description="MRCAT pelvis")),
    ("no synthetic CT", "planning_ct", ct(description="Discthorax")),
    ("maximum of a 4D-CT", "derived", ct(ImageType=["DERIVED", "PRIMARY", "MIP"])),
    ("by another device", "derived", varian("Halcyon - PVA", ImageType=AFTERWARDS, **BY_ANOTHER_DEVICE)),
    ("copied by an archive", "planning_ct", ct(ImageType=LOSSY_COPY, **BY_ANOTHER_DEVICE)),
    ("by nobody knows whom", "derived", ct(ImageType=AFTERWARDS)),
    ("a lossy copy", "planning_ct", ct(ImageType=LOSSY_COPY)),
    ("average of a 4D-CT", "planning_ct", ct(description="4D Average", ImageType=AFTERWARDS)),
    ("AIP", "planning_ct", ct(description="Thorax AIP 3mm", ImageType=AFTERWARDS)),
    ("average of a 4D-CBCT", "cbct", varian("Patient Verification", SeriesDescription="4D Average")),
]  # fmt: skip
PHANTOMS = [
    *[(f"named {name}", "qa_phantom", ct(PatientName=name)) for name in
      ("CATPHAN^504", "Cheese^Phantom", "QA^TrueBeam2", "QA TB2", "TB2_QA", "Linac^QA", "Daily QA", "Winston^Lutz")],
    *[(f"with id {id_}", "qa_phantom", ct(PatientID=id_)) for id_ in ("QA", "QA-0815", "TB2 QA", "catphan604")],
    *[(f"described {text}", "qa_phantom", ct(**{keyword: text})) for keyword, text in
      (("StudyDescription", "Cheese slices"), ("SeriesDescription", "QUASAR 4D"), ("SeriesDescription", "DailyQA"),
       ("ProtocolName", "10.2 Daily CT QA"))],
    ("plan on a phantom", "qa_phantom", of_class(uid.RTPlanStorage, PatientID="PHANTOM_EXAMPLE")),
    *[(f"patient {name}", "planning_ct", ct(PatientName=name)) for name in
      ("Quang^An", "Qadir^Ali", "Aqua^Lina", "Cheeseman^John", "Brandon^Fay", "Alderson^Ada", "Octavius^Otto")],
    *[(f"patient with id {id_}", "planning_ct", ct(PatientID=id_)) for id_ in ("QAR-1234", "AQA77", "12QA34")],
    ("repeat CT in proton therapy", "planning_ct", ct(description="Weekly QA CT", StudyDescription="QACT")),
]  # fmt: skip
OBJECTS = [
    ("RT Structure Set", "structure_set", of_class(uid.RTStructureSetStorage)),
    ("RT Plan", "plan", of_class(uid.RTPlanStorage)),
    ("RT Ion Plan", "plan", of_class(uid.RTIonPlanStorage)),
    ("RT Dose", "dose", of_class(uid.RTDoseStorage)),
    ("Spatial Registration", "registration", of_class(uid.SpatialRegistrationStorage)),
    ("Deformable Registration", "registration", of_class(uid.DeformableSpatialRegistrationStorage)),
    ("XVI couch correction", UNKNOWN_ROLE, of_class(uid.RawDataStorage, Modality="REG", Manufacturer="ELEKTA")),
    ("Beams Treatment Record", "treatment_record", of_class(uid.RTBeamsTreatmentRecordStorage)),
    ("Brachy Treatment Record", "treatment_record", of_class(uid.RTBrachyTreatmentRecordStorage)),
    ("Ion Treatment Record", "treatment_record", of_class(uid.RTIonBeamsTreatmentRecordStorage)),
    ("Treatment Summary", "treatment_record", of_class(uid.RTTreatmentSummaryRecordStorage)),
    ("portal image at 6 MV", "rt_image", of_class(uid.RTImageStorage, KVP="6000")),
    ("screen capture at a CT", UNKNOWN_ROLE, of_class(uid.SecondaryCaptureImageStorage, Modality="CT")),
    ("Segmentation", "segmentation", of_class(uid.SegmentationStorage)),
    ("Label Map Segmentation", "segmentation", of_class(LABEL_MAP_SEGMENTATION_STORAGE)),
    ("Surface Segmentation", UNKNOWN_ROLE, of_class(uid.SurfaceSegmentationStorage)),
    ("MR", "mr", mr(ImageType=["DERIVED", "PRIMARY", "AXIAL"])),
    ("enhanced MR", "mr", of_class(uid.EnhancedMRImageStorage)),
    ("MR localizer", "localizer", mr(SeriesDescription="FAST LOCALIZER")),
    ("PET", "pet", of_class(uid.PositronEmissionTomographyImageStorage, ImageType=["DERIVED", "SECONDARY"])),
    ("enhanced PET", "pet", of_class(uid.EnhancedPETImageStorage)),
]  # fmt: skip
IMAGES_OF_THE_DAY = [
    ("DICOM-CT-PD: rows", "projections", ct(_7029_1010="64")),
    ("DICOM-CT-PD: angle", "projections", ct(_7031_1001="0.5", ImageType="")),
    ("DICOM-CT-PD: a whole view", "projections", projection_series(1)[0]),
    ("DICOM-CT-PD: a view of a sender that knows no VR", "projections", as_unknown(projection_series(1))[0]),
    ("DICOM-CT-PD: focal spot", "projections", ct("SIEMENS", _7033_100E="FFSNONE")),
    ("scout", "localizer", ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    ("scout by its name", "localizer", ct(description="Topogram 0.6")),
    ("TomoTherapy at 3.5 MV", "mvct", tomotherapy(KVP="3500")),
    ("TomoTherapy without KVP", "mvct", tomotherapy(KVP="")),
    ("TomoTherapy by its model", "mvct", ct("", "TomoHDA", KVP=None)),
    ("Radixact MVCT", "mvct", radixact(KVP="3500")),
    ("Radixact without KVP", "mvct", radixact(KVP=None)),
    ("MVCT by its name", "mvct", ct("Unheard of", "", "MVCT of the day", KVP="")),
    ("CTrue", "mvct", ct("Unheard of", "", "CTrue Image Set")),
    ("megavoltage cone beam", "mvct", varian("Halcyon - PVA", KVP="6000")),
    ("Radixact ClearRT", "cbct", radixact(KVP="100")),
    ("ClearRT by its name", "cbct", ct("Accuray Incorporated", "", "ClearRT Pelvis")),
    ("planning CT from TomoTherapy", "planning_ct", tomotherapy(KVP="120")),
    *[(f"Varian {model}", "cbct", varian(model, KVP="125")) for model in
      ("OBI Cone-beam CT", "Acuity Cone-beam CT", "Patient Verification", "Halcyon - PVA", "RDS - PVA", "TrueBeam",
       "ProBeam 360", "On-Board Imager")],
    *[(f"Varian {model}", "planning_ct", varian(model)) for model in ("ARIA RadOnc", "Ethos")],
    ("Elekta XVI", "cbct", ct("ELEKTA", "XVI")),
    ("XVI by its name", "cbct", ct("Elekta", "", "VolumeView")),
    ("CT from Monaco", "planning_ct", ct("ELEKTA", "Monaco")),
    ("Brainlab ExacTrac", "cbct", ct("Brainlab AG", "ExacTrac Vero")),
    ("CT from Brainlab", "planning_ct", ct("Brainlab", "Elements")),
    ("cone beam by its name", "cbct", ct("medPhoton", "ImagingRing", "CBCT Pelvis")),
    ("cone beam by its protocol", "cbct", ct(ProtocolName="Cone Beam head")),
]  # fmt: skip
SCANNERS = [
    *[(model, "planning_ct", head(ManufacturerModelName=model)) for model in
      ("Brilliance Big Bore", "SOMATOM Confidence", "SOMATOM go.Sim", "Sensation Open", "LightSpeed RT16",
       "Discovery RT", "Aquilion/LB")],
    ("head and neck", "planning_ct", head(StudyDescription="CT HEAD AND NECK")),
    ("planning of the brain", "planning_ct", head(SeriesDescription="Brain planning 1 mm")),
    ("brain with contrast", "planning_ct", head(ContrastBolusAgent="Iohexol")),
    ("head without words", "planning_ct", head(StudyDescription="194")),
    ("words without head", "planning_ct", head(BodyPartExamined="")),
    ("diagnostic brain", "head_ct", head()),
    ("diagnostic brain in German", "head_ct", head(StudyDescription="Schädel nativ", BodyPartExamined="SKULL")),
    ("any CT", "planning_ct", ct()),
    ("enhanced CT", "planning_ct", of_class(uid.EnhancedCTImageStorage)),
    ("right ankle", "planning_ct", ct(description="RT ANKLE")),
]  # fmt: skip
CASES = [*MADE_AFTERWARDS, *PHANTOMS, *OBJECTS, *IMAGES_OF_THE_DAY, *SCANNERS]


@pytest.mark.parametrize(("role", "header"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_a_machine_or_object_gets_its_role(role: str, header: Dataset) -> None:
    assert role_of(header, SHIPPED) == role


def test_every_shipped_rule_decides_a_case() -> None:
    deciding = {next((n for n, rule in enumerate(SHIPPED) if rule.matches(header)), None) for _, _, header in CASES}
    untested = [SHIPPED[n] for n in range(len(SHIPPED)) if n not in deciding]
    assert untested == []


def test_a_result_of_a_pipeline_is_never_taken_as_input(tmp_path: Path) -> None:
    paths = write(ct_series(), tmp_path)
    unmarked = inputs(paths, Labelling("PRODUCT", not_for_treatment=False))
    (series,) = CopySeries(name="copy_series").run(unmarked).series
    assert {role_of(image, SHIPPED) for image in series} == {"derived"}


# The rule language.


def rule(text: str) -> RoleRule:
    return RoleRule.model_validate(yaml.safe_load(text))


LANGUAGE = [
    ("all: {Modality: CT}", {"Modality": "CT"}, True),
    ("all: {Modality: CT}", {"Modality": "MR"}, False),
    ("all: {Modality: CT}", {}, False),
    ("all: {Modality: ct}", {"Modality": "CT"}, True),
    ("all: {Modality: [MR, CT]}", {"Modality": "CT"}, True),
    ("all: {KVP: 120}", {"KVP": "120"}, True),
    ("all: {Modality: C*}", {"Modality": "CT"}, False),
    ("all: {ImageType: SECONDARY}", {"ImageType": AFTERWARDS}, True),
    ("all: {ImageType: [MIP, AXIAL]}", {"ImageType": AFTERWARDS}, True),
    ("all: {ImageType: {glob: second*}}", {"ImageType": AFTERWARDS}, True),
    ("all: {ImageType: MIP}", {"ImageType": AFTERWARDS}, False),
    ("all: {SeriesDescription: {glob: '*cbct*'}}", {"SeriesDescription": "Daily CBCT 2"}, True),
    ("all: {SeriesDescription: {glob: 'cbct*'}}", {"SeriesDescription": "Daily CBCT 2"}, False),
    ("all: {SeriesDescription: {glob: ['mvct', 'd?ily*']}}", {"SeriesDescription": "Daily CBCT 2"}, True),
    ("all: {PatientID: {glob: 'QA[-_]*'}}", {"PatientID": "qa_1"}, True),
    ("all: {PatientID: {glob: 'QA[-_]*'}}", {"PatientID": "QAR1"}, False),
    ("all: {PatientName: {glob: 'qa^*'}}", {"PatientName": "QA^TB2"}, True),
    ("all: {KVP: {min: 1000}}", {"KVP": "3500"}, True),
    ("all: {KVP: {min: 40, max: 200}}", {"KVP": "40"}, True),
    ("all: {KVP: {min: 40, max: 200}}", {"KVP": "200.0"}, True),
    ("all: {KVP: {min: 40, max: 200}}", {"KVP": "200.5"}, False),
    ("all: {KVP: {max: 200}}", {}, False),
    ("all: {SeriesDescription: {max: 200}}", {"SeriesDescription": "many"}, False),
    ("all: {KVP: {absent: true}}", {}, True),
    ("all: {KVP: {absent: true}}", {"KVP": ""}, True),
    ("all: {KVP: {absent: true}}", {"KVP": "120"}, False),
    ("all: {KVP: {absent: false}}", {"KVP": "120"}, True),
    ("all: {KVP: {absent: false}}", {"KVP": ""}, False),
    ("all: {'70311001': {absent: false}}", {"_7031_1001": "0.5"}, True),
    ("all: {'7033100e': {glob: FFS*}}", {"_7033_100E": "FFSNONE"}, True),
    ("all: {'70311001': {absent: false}}", {"_7031_1002": "0.5"}, False),
    ("any: {Modality: CT, KVP: 120}", {"Modality": "MR", "KVP": "120"}, True),
    ("any: {Modality: CT, KVP: 120}", {"Modality": "MR", "KVP": "80"}, False),
    ("{all: {Modality: CT}, any: {KVP: 120, PatientID: X}}", {"Modality": "CT", "KVP": "120"}, True),
    ("{all: {Modality: CT}, any: {KVP: 120, PatientID: X}}", {"Modality": "MR", "KVP": "120"}, False),
    ("{all: {Modality: CT}, any: {KVP: 120, PatientID: X}}", {"Modality": "CT", "KVP": "80"}, False),
    ("all: {Modality: CT, KVP: 120}", {"Modality": "CT", "KVP": "80"}, False),
]


@pytest.mark.parametrize(("conditions", "elements", "fits"), LANGUAGE)
def test_a_condition_means_what_the_comment_in_roles_yaml_says(
    conditions: str, elements: Mapping[str, Any], fits: bool
) -> None:
    document = {"role": "some", **yaml.safe_load(conditions)}
    header = of_class(uid.CTImageStorage, **elements)
    assert RoleRule.model_validate(document).matches(header) is fits


def test_the_first_rule_that_fits_names_the_role() -> None:
    rules = [rule("{role: first, all: {KVP: 120}}"), rule("{role: second, any: {Modality: CT}}")]
    assert role_of(ct(KVP="120"), rules) == "first"
    assert role_of(ct(KVP="80"), rules) == "second"
    assert role_of(mr(), rules) == UNKNOWN_ROLE


def test_the_elements_that_the_rules_look_at_are_known_before_reading() -> None:
    rules = [rule("{role: one, all: {KVP: 120}, any: {'70311001': {absent: false}}}")]
    assert tags_of(rules) == [0x00180060, 0x70311001]


WRONG = [
    ("{role: some, all: {Modalty: CT}}", "Modalty is neither a DICOM keyword nor eight hexadecimal digits"),
    ("{role: some, all: {'7031100': {absent: false}}}", "7031100 is neither"),
    ("{role: some, all: {70311001: {absent: false}}}", "valid string"),
    ("{role: some}", "a rule without a condition would match everything"),
    ("{role: some, all: {}}", "a rule without a condition would match everything"),
    ("{all: {Modality: CT}}", "Field required"),
    ("{role: Some Role, all: {Modality: CT}}", "match pattern"),
    ("{role: some, all: {Modality: CT}, none: {KVP: 120}}", "Extra inputs are not permitted"),
    ("{role: some, all: [Modality, CT]}", "valid dictionary"),
    ("{role: some, all: {Modality: {regex: CT}}}", "Extra inputs are not permitted"),
    ("{role: some, all: {Modality: {glob: CT*, min: 3}}}", "Extra inputs are not permitted"),
    ("{role: some, all: {Modality: {glob: []}}}", "at least 1 item"),
    ("{role: some, all: {KVP: {min: many}}}", "valid number"),
    ("{role: some, all: {KVP: {absent: perhaps}}}", "valid boolean"),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
def test_a_wrong_rule_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        rule(text)


def test_a_wrong_rule_names_file_and_key_at_start(tmp_path: Path) -> None:
    (tmp_path / "roles.yaml").write_text("- {role: fine, all: {KVP: 120}}\n- {role: cbct, all: {Modalty: CT}}\n")
    with pytest.raises(ConfigError, match=r"roles\.yaml.*1.*Modalty is neither"):
        load_config(tmp_path)


# Real data.

PYDICOM_FILES = [
    ("CT_small.dcm", "planning_ct"),
    ("693_J2KI.dcm", "planning_ct"),
    ("J2K_pixelrep_mismatch.dcm", "planning_ct"),
    ("dicomdirtests/77654033/CT2/17106", "head_ct"),
    ("dicomdirtests/98892001/CT2N/6293", "localizer"),
    ("dicomdirtests/98892003/MR1/15820", "localizer"),
    ("MR_small.dcm", "mr"),
    ("rtplan.dcm", "plan"),
    ("rtdose.dcm", "dose"),
    ("liver_1frame.dcm", "segmentation"),
]
STS = "sts_dicom/ibsi_validation/dicom"
REAL_FILES = [
    (f"{STS}/STS_002/CT/image/000000.dcm", "planning_ct"),
    (f"{STS}/STS_002/PET/image/000000.dcm", "pet"),
    (f"{STS}/STS_002/MR_T1/image/000000.dcm", "mr"),
    (f"{STS}/STS_002/CT/mask/RS.dcm", "structure_set"),
    (f"{STS}/STS_003/CT/image/000000.dcm", "planning_ct"),
    (f"{STS}/STS_003/PET/image/000000.dcm", "pet"),
    (f"{STS}/STS_003/MR_T1/image/000000.dcm", "mr"),
    ("rt_small/dicompyler-core/ct.0.dcm", "planning_ct"),
    ("rt_small/dicompyler-core/rtplan.dcm", "plan"),
    ("rt_small/dicompyler-core/rtss.dcm", "structure_set"),
    ("rt_small/dvha-mlca/tests/testdata/rtplan.dcm", "plan"),
    ("rt_small/mirp_pancreas_rtstruct/RTSTRUCT.dcm", "structure_set"),
    ("rt_small/rt-utils/tests/mock_data/ct_1.dcm", "qa_phantom"),
    ("rt_small/rt-utils/tests/mock_data/rt.dcm", "qa_phantom"),
    ("rt_small/rt-utils/tests/one_slice_data/0.dcm", "derived"),
]
REAL_ARCHIVES = [
    ("obi_cbct_catphan/obi_cbct_catphan.tar.xz", {"cbct", "structure_set"}),
    ("real_ct_dicom/tcga_thca_neck_CT.tar.xz", {"planning_ct"}),
    ("real_ct_dicom/crlm_1004_abdomen_CT.tar.xz", {"planning_ct"}),
]


def real(path: str) -> Path:
    if not (DATA / path).is_file():
        pytest.skip(f"real data {path} are not below RTNODE_DATA ({DATA})")
    return DATA / path


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("name", "role"), PYDICOM_FILES)
def test_a_sample_of_pydicom_gets_its_role(name: str, role: str) -> None:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    assert role_of(dcmread(path, specific_tags=tags_of(SHIPPED), stop_before_pixels=True), SHIPPED) == role


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(("path", "role"), REAL_FILES)
def test_a_real_file_gets_its_role(path: str, role: str) -> None:
    assert role_of(dcmread(real(path), specific_tags=tags_of(SHIPPED), stop_before_pixels=True), SHIPPED) == role


@pytest.mark.parametrize(("path", "roles"), REAL_ARCHIVES)
def test_all_instances_of_a_real_series_get_its_role(path: str, roles: set[str]) -> None:
    found = set()
    with tarfile.open(real(path)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None and member.name.endswith(".dcm"):
                found.add(role_of(dcmread(content, stop_before_pixels=True), SHIPPED))
    assert found == roles


def test_a_private_element_is_found_in_implicit_vr_too(tmp_path: Path) -> None:
    projection = ct(_7031_1001="0.5", SOPInstanceUID="1.2.3")
    projection.file_meta = FileMetaDataset()
    projection.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    projection.save_as(tmp_path / "projection.dcm", enforce_file_format=True)
    read = dcmread(tmp_path / "projection.dcm", specific_tags=tags_of(SHIPPED))
    assert role_of(read, SHIPPED) == "projections"

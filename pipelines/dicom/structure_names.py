"""Names of structures as AAPM TG-263 forms them: which ROI names are names of anatomy and targets, and no free text.

The list holds the organs that departments draw most, not all of the report; targets follow a rule.

References
----------
Mayo et al., Int J Radiat Oncol Biol Phys 2018, doi 10.1016/j.ijrobp.2017.12.013
"""

import re
from functools import cache

_SINGLE = """
A_Aorta A_LAD A_Pulmonary Bag_Bowel Bag_Ostomy Bladder Bone_Hyoid Bone_Mandible Bone_Pelvic BoneMarrow Bones Bowel
Bowel_Large Bowel_Small BrachialPlexs Brain Brainstem Breasts Bronchus Canal_Anal Carina CaudaEquina Cavity_Nasal
Cavity_Oral Cerebellum Cerebrum Cervix Chestwall Colon Colon_Ascending Colon_Descending Colon_Sigmoid Colon_Transverse
CribriformPlate Cricoid Duodenum Esophagus External Eyes Femurs Gallbladder Genitals Glnd_Sublingual Glnd_Submands
Glnd_Thymus Glnd_Thyroid Glottis GreatVes Heart Hippocampi Ileum Jejunum Jejunum_Ileum Kidneys Larynx Larynx_SG Lips
Liver Lung_LLL Lung_LUL Lung_RLL Lung_RML Lung_RUL Lungs Mediastinum Musc_Constrict Musc_Constrict_I Musc_Constrict_M
Musc_Constrict_S Nasopharynx Nose OpticChiasm Oropharynx Ovaries Palate_Hard Palate_Soft Pancreas Parametrium Parotids
PenileBulb Penis Pericardium Perineum Peritoneum Pharynx Pituitary Pons Prostate ProstateBed PubicSymphys Rectum Sacrum
Scalp Scrotum SeminalVes SeminalVes_Dist SeminalVes_Prox Skin Skull Spc_Bowel Spc_Bowel_Small SpinalCanal SpinalCord
Spleen Stomach Testes Tongue Tongue_Base Trachea Urethra Uterus UteroCervix V_Portal V_Pulmonary V_Venacava_I
V_Venacava_S Vagina VocalCords Vulva
"""
_OF_BOTH_SIDES = """
A_Carotid Atrium Bone_Ilium Bone_Ischium BrachialPlex Breast Chestwall Clavicle Cochlea Cornea Ear_External
Ear_Internal Ear_Middle Eye Femur Femur_Head Femur_Neck Glnd_Adrenal Glnd_Lacrimal Glnd_Submand Hippocampus Humerus
Humerus_Head Joint_TM Kidney Kidney_Cortex Lens Lobe_Frontal Lobe_Occipital Lobe_Parietal Lobe_Temporal Lung
Musc_Masseter OpticNrv Ovary Parotid Retina Scapula Testis Ureter Ventricle
"""

_TARGET = re.compile(
    r"(GTV|CTV|ITV|IGTV|ICTV|PTV!?)"
    r"(n|p|sb|par|v|vas)?"
    r"\d{0,2}"
    r"(_(High|Low|Mid(\d\d)?))?"
    r"(_(\d{3,4}(x\d\d?)?|\d\d?(\.\d|p\d)?Gy))?"
    r"(-\d\d)?"
)
"""Kind, classifier, number, level or dose (cGy with or without fractions, or Gy), millimetres cropped from the skin."""
_PLANNING_ORGAN_AT_RISK = re.compile(r"_PRV(\d\d)?$")
_VERTEBRA = re.compile(r"VB(_(C[1-7]|T([1-9]|1[0-2])|L[1-5]|S[1-5]?))?")


def standard_name(roi_name: str) -> str | None:
    """The TG-263 name that an ROI Name is, upper and lower case of organs set right; None where it is none.

    Custom qualifiers (behind ^) make it none: they are free text.
    """
    name = roi_name.strip()
    if _TARGET.fullmatch(name) or _VERTEBRA.fullmatch(name):
        return name
    # ~ is a part of an organ only, PRV its planning organ at risk volume.
    partial = "~" if name.startswith("~") else ""
    margin = _PLANNING_ORGAN_AT_RISK.search(name)
    ending = margin.group() if margin else ""
    organ = _organs().get(name.removeprefix("~").removesuffix(ending).lower())
    return None if organ is None else f"{partial}{organ}{ending}"


@cache
def _organs() -> dict[str, str]:
    """TG-263 names by themselves in lower case, in which they stay unique."""
    sided = [f"{name}{side}" for name in _OF_BOTH_SIDES.split() for side in ("", "_L", "_R")]
    return {name.lower(): name for name in (*_SINGLE.split(), *sided)}

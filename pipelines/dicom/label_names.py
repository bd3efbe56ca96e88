"""TG-263 names of the labels that published segmentation models use: `kidney_left`, `Spinal Cord`, `lung_r`.

References
----------
Mayo et al., Int J Radiat Oncol Biol Phys 2018, doi 10.1016/j.ijrobp.2017.12.013
"""

import re

from pipelines.dicom.structure_names import standard_name

_SIDES = {"left": "_L", "l": "_L", "lt": "_L", "right": "_R", "r": "_R", "rt": "_R"}
_BASES = {
    "adrenal": "Glnd_Adrenal",
    "adrenal_gland": "Glnd_Adrenal",
    "anal_canal": "Canal_Anal",
    "aorta": "A_Aorta",
    "brain_stem": "Brainstem",
    "carotid_artery": "A_Carotid",
    "chest_wall": "Chestwall",
    "eyeball": "Eye",
    "femoral_head": "Femur_Head",
    "gall_bladder": "Gallbladder",
    "inferior_vena_cava": "V_Venacava_I",
    "lacrimal_gland": "Glnd_Lacrimal",
    "mandible": "Bone_Mandible",
    "oesophagus": "Esophagus",
    "optic_chiasm": "OpticChiasm",
    "optic_nerve": "OpticNrv",
    "oral_cavity": "Cavity_Oral",
    "parotid_gland": "Parotid",
    "pituitary_gland": "Pituitary",
    "seminal_vesicle": "SeminalVes",
    "seminal_vesicles": "SeminalVes",
    "small_bowel": "Bowel_Small",
    "spinal_canal": "SpinalCanal",
    "spinal_cord": "SpinalCord",
    "submandibular": "Glnd_Submand",
    "submandibular_gland": "Glnd_Submand",
    "superior_vena_cava": "V_Venacava_S",
    "thyroid": "Glnd_Thyroid",
    "thyroid_gland": "Glnd_Thyroid",
    "urinary_bladder": "Bladder",
}
"""By the label in lower case without its side, words joined by _."""


def tg263_name(label: str) -> str:
    """TG-263 name of a label; one that is not known stays as it is, also where only its side makes no name."""
    words = [word for word in re.split(r"[\s_\-.,]+", label.strip().lower()) if word]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    base = "_".join(word for word in words if word not in _SIDES)
    known = _BASES.get(base, base)
    if len(sides) > 1:
        return standard_name(label) or label
    return standard_name(label) or standard_name(known + "".join(sides)) or label

"""What the node negotiates: SOP classes and transfer syntaxes. CONFORMANCE.md is printed from these tables."""

from pydicom import uid
from pydicom.uid import UID

LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Not yet in pydicom's dictionary; highdicom writes it."""

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT_PUSH = UID("1.2.840.10008.1.20.1")
STORAGE_COMMITMENT_PUSH_INSTANCE = UID("1.2.840.10008.1.20.1.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")

STORAGE_SOP_CLASSES: dict[str, tuple[UID, ...]] = {
    "Images": (
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.MRSpectroscopyStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.NuclearMedicineImageStorage,
        uid.UltrasoundImageStorage,
        uid.UltrasoundMultiFrameImageStorage,
        uid.EnhancedUSVolumeStorage,
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.XRayAngiographicImageStorage,
        uid.EnhancedXAImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.EnhancedXRFImageStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.ParametricMapStorage,
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    ),
    "Radiotherapy": (
        uid.RTImageStorage,
        uid.RTDoseStorage,
        uid.RTStructureSetStorage,
        uid.RTPlanStorage,
        uid.RTIonPlanStorage,
        uid.RTBeamsTreatmentRecordStorage,
        uid.RTIonBeamsTreatmentRecordStorage,
        uid.RTBrachyTreatmentRecordStorage,
        uid.RTTreatmentSummaryRecordStorage,
        uid.RTBeamsDeliveryInstructionStorage,
        uid.RTPhysicianIntentStorage,
        uid.RTSegmentAnnotationStorage,
        uid.RTRadiationSetStorage,
        uid.CArmPhotonElectronRadiationStorage,
        uid.TomotherapeuticRadiationStorage,
        uid.RoboticArmRadiationStorage,
        uid.RTRadiationRecordSetStorage,
        uid.RTRadiationSalvageRecordStorage,
        uid.TomotherapeuticRadiationRecordStorage,
        uid.CArmPhotonElectronRadiationRecordStorage,
        uid.RoboticRadiationRecordStorage,
    ),
    "Registrations, segmentations and surfaces": (
        uid.SpatialRegistrationStorage,
        uid.DeformableSpatialRegistrationStorage,
        uid.SpatialFiducialsStorage,
        uid.SegmentationStorage,
        LABEL_MAP_SEGMENTATION_STORAGE,
        uid.SurfaceSegmentationStorage,
        uid.RealWorldValueMappingStorage,
    ),
    "Reports, presentations and documents": (
        uid.BasicTextSRStorage,
        uid.EnhancedSRStorage,
        uid.ComprehensiveSRStorage,
        uid.Comprehensive3DSRStorage,
        uid.ExtensibleSRStorage,
        uid.XRayRadiationDoseSRStorage,
        uid.KeyObjectSelectionDocumentStorage,
        uid.GrayscaleSoftcopyPresentationStateStorage,
        uid.ColorSoftcopyPresentationStateStorage,
        uid.PseudoColorSoftcopyPresentationStateStorage,
        uid.BlendingSoftcopyPresentationStateStorage,
        uid.EncapsulatedPDFStorage,
        uid.EncapsulatedCDAStorage,
        uid.EncapsulatedSTLStorage,
    ),
    "Raw data": (uid.RawDataStorage,),
}
"""Accepted as SCP, by subject; instances are stored as they were sent."""

TRANSFER_SYNTAXES: tuple[UID, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
)
"""Accepted for every storage SOP class."""

OFFERED_TRANSFER_SYNTAXES: tuple[UID, ...] = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
"""Offered as SCU for what the node itself has made."""


def accepted_sop_classes(configured: tuple[str, ...] = ()) -> tuple[UID, ...]:
    """Every SOP class that is stored: the table's, and what the site adds by UID."""
    known = [sop_class for group in STORAGE_SOP_CLASSES.values() for sop_class in group]
    return (*known, *(UID(one) for one in configured if one not in known))

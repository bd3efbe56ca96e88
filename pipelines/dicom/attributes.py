"""Which attributes of an image are read, and which of them a derived image takes over: explicit lists, by module.

What is not listed never enters the program: no private element, no attribute that someone may have put a name into.
"""

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
"""PS3.3 C.7.1.1; who the patient is. A malformed one is never dropped: two patients could look like one."""

STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
"""PS3.3 C.7.2.1 General Study, C.7.2.2 Patient Study."""

SERIES = ("PatientPosition", "Laterality", "BodyPartExamined", "ProtocolName", "SeriesDate", "SeriesTime")
"""PS3.3 C.7.3.1; what stays true of a series made from another."""

UNPAIRED_BODY_PARTS = frozenset(
    "ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS COCCYX COLON "
    "CSPINE CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART JAW LARYNX LIVER LSPINE LSSPINE "
    "MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE PANCREAS PELVIS PENIS PHARYNX "
    "PROSTATE RECTUM SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE TRACHEA TSPINE "
    "UTERUS VAGINA VULVA WHOLEBODY".split()
)
"""Values of Body Part Examined with which Laterality has to be absent (PS3.3 C.7.3.1; PS3.16 annex L)."""

FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
"""PS3.3 C.7.4.1."""

EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
"""PS3.3 C.7.5.1; a derived image names it as its acquisition equipment."""

IMAGE = (
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentDate",
    "ContentTime",
    "TimezoneOffsetFromUTC",
    "BurnedInAnnotation",
)
"""PS3.3 C.7.6.1 General Image, C.12.1 SOP Common; when and how the source was acquired."""

PLANE = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SliceLocation",
    "SpacingBetweenSlices",
)
"""PS3.3 C.7.6.2 Image Plane."""

CT_ACQUISITION = (
    "KVP",
    "ScanOptions",
    "DataCollectionDiameter",
    "ReconstructionDiameter",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "GantryDetectorTilt",
    "TableHeight",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "GeneratorPower",
    "FocalSpots",
    "ConvolutionKernel",
)
"""PS3.3 C.8.2.1 CT Image; how the source was exposed."""

LOSSY_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
"""PS3.3 C.7.6.1.1.5; once an image has lost something, everything made from it says so."""

WINDOW = ("WindowCenter", "WindowWidth")
"""PS3.3 C.11.2 VOI LUT; in HU, so it fits whatever keeps HU."""

COPIED_FROM_SOURCE = (
    PATIENT + STUDY + SERIES + FRAME_OF_REFERENCE + IMAGE + PLANE + CT_ACQUISITION + LOSSY_COMPRESSION + WINDOW
)
"""What a derived CT image takes over from its source slice."""

PIXEL = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "Units",
)
"""PS3.3 C.7.6.3 Image Pixel, C.7.5.1.1.2 padding, C.11.1 Modality LUT, C.8.9.1 PET units."""

IDENTITY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "Modality",
    "ImageType",
)

CONTRAST = ("ContrastBolusAgent",)
"""PS3.3 C.7.6.4; only whether there was one counts, and it is never copied."""

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""PS3.3 C.7.6.16; read to make a header for each frame, never copied."""

IMAGE_HEADER = IDENTITY + COPIED_FROM_SOURCE + EQUIPMENT + PIXEL + CONTRAST + FUNCTIONAL_GROUPS
"""Everything that is read of an image beside its pixels."""

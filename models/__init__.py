"""Models handle arrays: networks, projectors, features and their training. No DICOM here."""

"""DICOM objects to arrays in mm, HU and Gy, and back."""

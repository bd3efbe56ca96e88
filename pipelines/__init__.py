"""Pipelines handle a study: DICOM in, new DICOM out, with the findings that judge it."""

"""A DICOM node that predicts the marked nodules of studies that archives route to it."""

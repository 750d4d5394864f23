"""DICOM archives as sources of series and destinations of results."""

"""SOP classes and transfer syntaxes that are received from archives."""

from ggn_tf.cases.dicom.folder import ENHANCED
from ggn_tf.cases.dicom.segmentation import SEGMENTATIONS
from ggn_tf.pacs.points import REPORTS

CTS = ("1.2.840.10008.5.1.4.1.1.2", *ENHANCED)
MARKERS = (*SEGMENTATIONS, *REPORTS)
PLAIN = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
BIG_ENDIAN = "1.2.840.10008.1.2.2"
# JPEG, JPEG-LS, JPEG 2000 and RLE, which GDCM and pydicom decode; those without loss first. No deflated data sets.
_COMPRESSED = ("4.70", "4.57", "4.80", "4.90", "5", "4.50", "4.51", "4.81", "4.91")
SYNTAXES = (*PLAIN, BIG_ENDIAN, *(f"1.2.840.10008.1.2.{end}" for end in _COMPRESSED))

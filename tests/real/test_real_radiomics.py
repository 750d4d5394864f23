import pytest

from ggn_tf.cases.patch_location import NoduleTarget
from ggn_tf.cases.patches import CutOptions, cut_patch_from
from ggn_tf.cases.volumes import open_volume
from ggn_tf.protocol import PatchProtocol
from tests.support.whole_volumes import read_mask

pytestmark = pytest.mark.real


def test_a_thorax_measures_as_by_pyradiomics_own_extractor(real_data):
    pytest.importorskip("radiomics", reason="pyradiomics is not installed; scripts/radiomics.sh builds it")
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    folder = real_data / "lidc_0063"
    ct, mask = folder / "dicom", folder / "LIDC-IDRI-0063_R_4_mask.nii.gz"
    ours = cut_patch_from(ct, NoduleTarget(mask), PatchProtocol(), CutOptions(radiomics=True)).radiomics
    volume = open_volume(ct)
    extractor = RadiomicsFeatureExtractor(binWidth=25, additionalInfo=False)
    theirs = extractor.execute(volume.read(), read_mask(mask, volume.grid))
    expected = {name.removeprefix("original_"): float(value) for name, value in theirs.items()}
    assert len(expected) == 107
    assert ours == pytest.approx(expected, rel=1e-9)

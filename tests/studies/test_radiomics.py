from pathlib import Path

from ggn_tf.dataset.records import Dataset
from ggn_tf.studies.item import Radiomics, WorkFolder
from ggn_tf.tasks import AIS_MIA


def test_an_unreadable_fit_is_repeated(dataset: Dataset, tmp_path: Path):
    item, folder = Radiomics("radiomics-AIS_MIA-split1-repeat1", AIS_MIA, 1, 0), WorkFolder(tmp_path, dataset, "")
    for path in (folder.predictions(item.name), folder.fitted(item.name)):
        path.parent.mkdir(parents=True)
        path.write_text("of another scikit-learn", encoding="utf-8")
    assert not item.is_done(folder)

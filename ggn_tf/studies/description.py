"""What a study compared and on which data: `study.json`, and the facts on its page and its card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggn_tf.dataset.records import Dataset
from ggn_tf.json_records import to_json
from ggn_tf.runs.package_versions import package_versions
from ggn_tf.studies.grid import StudyDesign


@dataclass(frozen=True)
class StudyDescription:
    """A study for a reader.

    Attributes:
        design: What was compared.
        dataset: Name of the dataset's folder, without the path, which may contain a user's name.
        dataset_fingerprint: Fingerprint of the dataset's content.
        versions: Versions of the packages, by name.
    """

    design: StudyDesign
    dataset: str
    dataset_fingerprint: str
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The content of `study.json`."""
        return {
            **to_json(self.design),
            "dataset": self.dataset,
            "dataset_fingerprint": self.dataset_fingerprint,
            "versions": dict(self.versions),
        }

    def data_facts(self) -> list[tuple[str, str]]:
        """The data: names and values."""
        return [("Dataset", self.dataset), ("Dataset fingerprint", self.dataset_fingerprint)]

    def design_facts(self) -> list[tuple[str, str]]:
        """What was compared: names and values."""
        design = self.design
        return [
            ("Tasks", "; ".join(map(str, design.tasks))),
            ("Models", ", ".join(design.models)),
            ("Splits", ", ".join(map(str, design.splits))),
            ("Repeats", str(design.repeats)),
            ("Weights λ of the joint loss", ", ".join(f"{weight:g}" for weight in design.joint_weights)),
            ("Seed of the first repeat", str(design.seed)),
            ("Weights selected on", design.select_on),
            ("Precision", design.precision),
            ("Versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
        ]


def describe_study(design: StudyDesign, dataset: Dataset) -> StudyDescription:
    """Describe a study with the packages that are installed."""
    return StudyDescription(design, dataset.folder.resolve().name, dataset.fingerprint, package_versions())

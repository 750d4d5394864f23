"""Changes of a dataset's description, with the digest that belongs to what it then contains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ggn_tf.dataset.dataset_json import DESCRIPTION, DIGEST, description_digest


def edit_description(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change `dataset.json` as a person would who computes its digest again."""
    path = folder / DESCRIPTION
    stored = json.loads(path.read_text(encoding="utf-8"))
    edit(stored)
    path.write_text(json.dumps({**stored, DIGEST: description_digest(stored)}), encoding="utf-8")

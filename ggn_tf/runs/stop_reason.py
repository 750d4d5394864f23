"""Why a stage of training ended: a code for programs beside a text for people."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ggn_tf.protocol import StageProtocol


class StopReason(StrEnum):
    """Why a stage ended; the value is the code in the ledger."""

    ALL_EPOCHS = "all_epochs"
    NO_BETTER_SCORE = "no_better_score"

    def text(self, numbers: StageProtocol) -> str:
        """The reason for people, with the number that ended the stage.

        Args:
            numbers: The stage's.
        """
        if self is StopReason.ALL_EPOCHS:
            return f"all {numbers.max_epochs} epochs done"
        return f"no better score for {numbers.patience} epochs"


# Ledgers of ggn-tf 0.1 contain only these sentences.
_SENTENCES = {
    r"all \d+ epochs done": StopReason.ALL_EPOCHS,
    r"no better score for \d+ epochs": StopReason.NO_BETTER_SCORE,
}


def stop_reason_of(entry: Mapping[str, Any]) -> StopReason | None:
    """Read why a stage ended.

    Args:
        entry: The stage's entry in the ledger, of any version of ggn-tf.

    Returns:
        None where the entry gives no reason that this version knows.
    """
    code, sentence = entry.get("ended_code"), str(entry.get("ended", ""))
    if code is not None:
        return StopReason(code) if code in set(StopReason) else None
    return next((reason for pattern, reason in _SENTENCES.items() if re.fullmatch(pattern, sentence)), None)

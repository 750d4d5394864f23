"""What an export says about its prediction sets and its typicality."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UncertaintyContract:
    """How the outputs `in_set` and `typicality` were fitted: on held-out nodules, those outside the training sets.

    All members have one split. The thresholds are from its validation set, which also selected the weights.

    Attributes:
        coverage: Share of prediction sets that contain the true class, for nodules like the held-out ones.
        patients: Held-out patients with a nodule of each class.
        patients_needed: The fewest with which a set can exclude a class; below, every set contains it.
        least_probabilities: Lowest probability with which a set contains each class.
        held_out_nodules: Number of held-out nodules among whose distances `typicality` is a rank, of each member.
    """

    coverage: float
    patients: tuple[int, ...]
    patients_needed: int
    least_probabilities: tuple[float, ...]
    held_out_nodules: tuple[int, ...]

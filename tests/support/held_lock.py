"""For another process, which need not import TensorFlow."""

from multiprocessing.synchronize import Event
from pathlib import Path

from ggn_tf.runs.lock import lock_run


def hold(folder: Path, held: Event, release: Event) -> None:
    """Hold the lock of a run until `release`, at most half a minute."""
    with lock_run(folder):
        held.set()
        release.wait(30)

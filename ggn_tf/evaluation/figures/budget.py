"""The class score with the reference mask against the predicted mask."""

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.evaluation.figures.style import FAINT, WIDTH_INCHES, new_figure


def draw_budget(predicted: np.ndarray, reference: np.ndarray, dice: np.ndarray, title: str) -> Figure:
    """Draw a mark a nodule; the colour is the Dice of the predicted mask.

    Args:
        predicted: The true class's probability with the predicted mask [N].
        reference: With the reference mask [N].
        dice: Of the predicted mask [N].
        title: What it shows.
    """
    figure, axes = new_figure(WIDTH_INCHES, WIDTH_INCHES - 0.3)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (1, 3)))
    points = axes.scatter(
        predicted, reference, c=dice, cmap="viridis", vmin=0, vmax=1, s=24, edgecolors="white", linewidths=0.4
    )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes.grid(visible=True)
    axes.set_xlabel("True class's probability, predicted mask")
    axes.set_ylabel("True class's probability, reference mask")
    axes.set_title(title, loc="left")
    figure.colorbar(points, ax=axes, label="Dice of the predicted mask", shrink=0.75)
    return figure

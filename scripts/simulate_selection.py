"""How much selection on the test set and the best of several trainings inflate a score whose true value is known.

python scripts/simulate_selection.py [--studies 2000]

Scores of the nodules are normal in both classes. Their noise has three parts: of the nodule, which all trainings share;
of the training; and of the epoch, which resembles that of the epoch before. All trainings and epochs have the same true
accuracy and AUC, so everything above them is inflation. docs/statistics.md contains the table.
"""

from statistics import NormalDist

import click
import numpy as np

EPOCHS, TRAININGS, AUC, POSITIVE = 120, 5, 0.80, 0.4
# Shares of the variance that trainings and epochs have; how much an epoch resembles the one before it.
NOISE = ((0.02, 0.02), (0.10, 0.05), (0.25, 0.10))
PERSISTENCE = 0.8
DISTANCE = 2**0.5 * NormalDist().inv_cdf(AUC)
TRUE = np.array([NormalDist().cdf(DISTANCE / 2), AUC])


@click.command()
@click.option("--studies", default=2000, show_default=True, help="Simulated studies per row.")
def main(studies: int) -> None:
    click.echo(
        "| test nodules | sd of trainings | last epoch, best of 5 | best epoch, mean of 5 | best epoch, best of 5 |"
    )
    click.echo("|---|---|---|---|---|")
    for nodules in (123, 225):
        for training, epoch in NOISE:
            last, best = simulate(nodules, training, epoch, studies)
            spread = last.std(axis=1, ddof=1).mean(axis=0)
            gains = (best_training(last), best.mean(axis=1), best_training(best))
            cells = [", ".join(f"{gain:+.1f}" for gain in 100 * (scores.mean(axis=0) - TRUE)) for scores in gains]
            click.echo(f"| {nodules} | {spread[0]:.3f}, {spread[1]:.3f} | {' | '.join(cells)} |")


def simulate(nodules: int, training: float, epoch: float, studies: int) -> np.ndarray:
    """Accuracy and AUC of the last epoch and of the best one, [2, studies, trainings, 2]."""
    generator = np.random.default_rng(0)
    return np.stack([simulate_study(generator, nodules, training, epoch) for _ in range(studies)], axis=1)


def simulate_study(generator: np.random.Generator, nodules: int, training: float, epoch: float) -> np.ndarray:
    """As `simulate`, of one study: [2, trainings, 2]."""
    label = np.arange(nodules) < round(POSITIVE * nodules)
    shared = (1 - training - epoch) ** 0.5 * generator.standard_normal(nodules)
    own = training**0.5 * generator.standard_normal((TRAININGS, 1, nodules))
    score = DISTANCE * label + shared + own + epoch**0.5 * drifting_noise(generator, nodules)
    accuracy = ((score > DISTANCE / 2) == label).mean(axis=2)
    chosen = np.stack([np.full(TRAININGS, EPOCHS - 1), accuracy.argmax(axis=1)])
    trainings = np.arange(TRAININGS)
    return np.stack([accuracy[trainings, chosen], auc(score[trainings, chosen], label)], axis=-1)


def drifting_noise(generator: np.random.Generator, nodules: int) -> np.ndarray:
    """Noise of variance 1, [trainings, epochs, nodules], in which neighbouring epochs resemble each other."""
    noise = generator.standard_normal((TRAININGS, EPOCHS, nodules))
    for epoch in range(1, EPOCHS):
        noise[:, epoch] = PERSISTENCE * noise[:, epoch - 1] + (1 - PERSISTENCE**2) ** 0.5 * noise[:, epoch]
    return noise


def auc(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """AUC [...] of scores without ties [..., nodules]."""
    rank = score.argsort(axis=-1).argsort(axis=-1) + 1.0
    positive = label.sum()
    return (rank[..., label].sum(axis=-1) - positive * (positive + 1) / 2) / (positive * (len(label) - positive))


def best_training(scores: np.ndarray) -> np.ndarray:
    """Accuracy and AUC [studies, 2] of the training with the highest accuracy, of scores [studies, trainings, 2]."""
    return scores[np.arange(len(scores)), scores[:, :, 0].argmax(axis=1)]


if __name__ == "__main__":
    main()

"""The anatomy of a piece of synthetic lung: ground-glass nodules, vessels, chest wall.

Positions are mm from the middle of the piece, in the order z, y, x.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NoduleType:
    """The appearance of a pathology's nodules; neighbouring types overlap on purpose.

    Attributes:
        diameter_mm: Median and relative spread of the log-normal diameter.
        ground_glass_hu: Mean and standard deviation of the part that is not solid.
        solid_probability: Fraction with a solid core.
        solid_share: Mean and standard deviation of the core's diameter, relative to the nodule's.
    """

    diameter_mm: tuple[float, float]
    ground_glass_hu: tuple[float, float]
    solid_probability: float
    solid_share: tuple[float, float]


# After Travis et al. 2011 (reference 2 of the paper): AAH small and faint, AIS pure ground glass, MIA with a
# small solid core, IAC with a larger one.
NODULE_TYPES = {
    "AAH": NoduleType((6.0, 0.18), (-700.0, 35.0), 0.03, (0.20, 0.05)),
    "AIS": NoduleType((8.5, 0.24), (-635.0, 48.0), 0.28, (0.30, 0.09)),
    "MIA": NoduleType((10.0, 0.24), (-605.0, 52.0), 0.80, (0.39, 0.13)),
    "IAC": NoduleType((11.8, 0.25), (-570.0, 58.0), 0.93, (0.51, 0.17)),
}


@dataclass(frozen=True)
class Scanner:
    """How a scanner samples and blurs.

    Attributes:
        size_zyx: The number of voxels of the piece of lung.
        blur_mm: Standard deviation of its reconstruction kernel, in the plane.
        noise_hu: Standard deviation of its noise.
        turned: Whether its rows and columns start at the patient's left and back.
    """

    name: str
    spacing_mm_zyx: tuple[float, float, float]
    size_zyx: tuple[int, int, int]
    blur_mm: float
    noise_hu: float
    turned: bool = False

    @property
    def half_mm(self) -> Floats:
        """Half the piece's edge lengths."""
        return (np.asarray(self.size_zyx) - 1) * self.spacing_mm_zyx / 2


@dataclass(frozen=True)
class Blob:
    """A lumpy ellipsoid: a nodule, or a solid part of one."""

    center_mm: Floats
    radius_mm: float
    stretch: Floats
    waves: Floats
    phases: Floats

    def level(self, offsets: Sequence[Floats]) -> Floats:
        """The distance from the centre in units of the surface's distance: below 1 is inside."""
        stacked = np.stack(np.broadcast_arrays(*offsets), axis=-1) @ self.stretch
        distance = np.linalg.norm(stacked, axis=-1)
        heading = stacked / np.maximum(distance, 1e-6)[..., None]
        lumps = 1 + 0.06 * np.cos(heading @ self.waves + self.phases).sum(axis=-1)
        surface: Floats = distance / (self.radius_mm * lumps)
        return surface


@dataclass(frozen=True)
class Nodule:
    """A drawn nodule."""

    label: str
    body: Blob
    cores: tuple[Blob, ...]
    ground_glass_hu: float
    solid_hu: float


@dataclass(frozen=True)
class Tube:
    """A vessel or a rib: balls along a curve."""

    centers_mm: Floats
    radii_mm: Floats


@dataclass(frozen=True)
class Wall:
    """The chest wall: everything beyond a bent plane."""

    normal: Floats
    distance_mm: float
    bend: float

    def depth_mm(self, offsets: Sequence[Floats]) -> Floats:
        """The depth of points in the wall; negative in the lung."""
        along = sum((offset * part for offset, part in zip(offsets, self.normal, strict=True)), np.zeros(()))
        squares = sum((offset**2 for offset in offsets), np.zeros(()))
        return np.asarray(along - self.distance_mm + self.bend * (squares - along**2))


@dataclass(frozen=True)
class Chest:
    """A drawn piece of lung."""

    scanner: Scanner
    nodules: tuple[Nodule, ...]
    vessels: tuple[Tube, ...]
    wall: Wall | None
    ribs: tuple[Tube, ...]
    lung_hu: float


def draw_chest(labels: Sequence[str], scanner: Scanner, generator: np.random.Generator) -> Chest:
    """Draw a piece of lung with one nodule per label; only the nodules depend on the labels."""
    wall = _draw_wall(scanner, generator) if generator.random() < 0.55 else None
    nodules: list[Nodule] = []
    for label in labels:
        nodules.append(_draw_nodule(label, scanner, wall, nodules, generator))
    crossing = [_draw_crossing(nodule.body, scanner, generator) for nodule in nodules if generator.random() < 0.8]
    passing = [
        _draw_tube(generator.uniform(-scanner.half_mm, scanner.half_mm), scanner, generator)
        for _ in range(int(generator.integers(8, 15)))
    ]
    return Chest(
        scanner=scanner,
        nodules=tuple(nodules),
        vessels=(*crossing, *passing),
        wall=wall,
        ribs=() if wall is None else (_draw_rib(wall, scanner, generator),),
        lung_hu=float(generator.normal(-850, 20)),
    )


def _draw_nodule(
    label: str, scanner: Scanner, wall: Wall | None, others: Sequence[Nodule], generator: np.random.Generator
) -> Nodule:
    kind = NODULE_TYPES[label]
    median_mm, spread = kind.diameter_mm
    radius_mm = float(np.clip(median_mm * np.exp(spread * generator.normal()), 4.0, 21.0)) / 2
    center = _draw_place(radius_mm, scanner, wall, others, generator)
    cores: list[Blob] = []
    if generator.random() < kind.solid_probability:
        mean, deviation = kind.solid_share
        share = float(np.clip(generator.normal(mean, deviation), 0.12, 0.9))
        parts = int(generator.integers(1, 4))
        for _ in range(parts):
            shift = generator.normal(size=3) * radius_mm * 0.35 * (1 - share)
            cores.append(_draw_blob(center + shift, radius_mm * share * parts ** (-1 / 3), generator))
    return Nodule(
        label=label,
        body=_draw_blob(center, radius_mm, generator),
        cores=tuple(cores),
        ground_glass_hu=float(generator.normal(*kind.ground_glass_hu)),
        solid_hu=float(generator.normal(-40, 40)),
    )


def _draw_place(
    radius_mm: float, scanner: Scanner, wall: Wall | None, others: Sequence[Nodule], generator: np.random.Generator
) -> Floats:
    """A place in the lung, away from the other nodules; every second one beside the wall touches it."""
    room = np.maximum(scanner.half_mm - radius_mm - 3, 1.0)
    touching = wall is not None and generator.random() < 0.5
    best, best_score = np.zeros(3), -np.inf
    for _ in range(60):
        place = generator.uniform(-room, room)
        free = min((_gap_mm(place, radius_mm, other.body) for other in others), default=99.0)
        depth = -99.0 if wall is None else float(wall.depth_mm(tuple(place)))
        # A nodule may be up to a third of its radius in the wall's shadow, not deeper.
        score = min(free, 4.0) - 10 * max(0.0, depth + 0.6 * radius_mm)
        if touching:
            score -= abs(depth + 0.8 * radius_mm)
        if score > best_score:
            best, best_score = place, score
    return best


def _gap_mm(place: Floats, radius_mm: float, other: Blob) -> float:
    return float(np.linalg.norm(place - other.center_mm)) - radius_mm - other.radius_mm


def _draw_blob(center_mm: Floats, radius_mm: float, generator: np.random.Generator) -> Blob:
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    axes = np.exp(generator.normal(scale=0.12, size=3))
    axes /= np.prod(axes) ** (1 / 3)
    waves = generator.normal(scale=2.5, size=(3, 6))
    return Blob(center_mm, radius_mm, rotation @ np.diag(1 / axes), waves, generator.uniform(0, 2 * np.pi, 6))


def _draw_crossing(body: Blob, scanner: Scanner, generator: np.random.Generator) -> Tube:
    """A vessel through a nodule or past it."""
    shift = generator.normal(size=3)
    shift *= generator.uniform(0.2, 1.6) * (body.radius_mm + 1.5) / np.linalg.norm(shift)
    return _draw_tube(body.center_mm + shift, scanner, generator)


def _draw_tube(through_mm: Floats, scanner: Scanner, generator: np.random.Generator) -> Tube:
    heading, bend = generator.normal(size=(2, 3))
    heading /= np.linalg.norm(heading)
    bend *= 0.006 / np.linalg.norm(bend)
    reach = float(np.linalg.norm(scanner.half_mm))
    radius_mm = float(generator.uniform(0.7, 2.0))
    steps = np.arange(-reach, reach, 0.85 * radius_mm)
    centers = through_mm + steps[:, None] * heading + steps[:, None] ** 2 * bend
    return Tube(centers, radius_mm * np.linspace(1.25, 0.75, len(steps)))


def _draw_wall(scanner: Scanner, generator: np.random.Generator) -> Wall:
    angle = generator.uniform(0, np.pi)
    normal = np.array([generator.normal(scale=0.1), np.sin(angle), np.cos(angle)])
    normal /= np.linalg.norm(normal)
    return Wall(normal, float(scanner.half_mm[1:].min() * generator.uniform(0.45, 0.8)), 0.004)


def _draw_rib(wall: Wall, scanner: Scanner, generator: np.random.Generator) -> Tube:
    reach = float(np.linalg.norm(scanner.half_mm))
    along = np.cross(wall.normal, [1.0, 0.0, 0.0]) + np.array([generator.normal(scale=0.3), 0, 0])
    steps = np.arange(-reach, reach, 2.5)
    start = (wall.distance_mm + 6.0) * wall.normal + np.array([generator.uniform(-15, 15), 0, 0])
    bend = -wall.bend * wall.normal
    return Tube(start + steps[:, None] * along + steps[:, None] ** 2 * bend, np.full(len(steps), 4.0))

"""A drawn chest as a CT in Hounsfield units."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from ggn_tf.cases.dicom.slices import HIGHEST_HU
from ggn_tf.cases.phantom.anatomy import Chest, Floats, Nodule, Scanner, Tube
from ggn_tf.protocol import AIR_HU

Array = npt.NDArray[np.float32]
Window = tuple[slice, ...]
Places = tuple[Floats, ...]

AIR_IN_LUNG_HU = -850.0
VESSEL_HU = 20.0
WALL_HU = 45.0
RIB_HU = 350.0


def render_chest(
    chest: Chest, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int16], list[npt.NDArray[np.uint8]]]:
    """Render a piece of lung with the resolution and noise of its scanner.

    Returns:
        The CT, [z, y, x] in HU, and one mask per nodule. As in the paper's data (section 3.1), vessels and wall are
        not part of the masks.
    """
    scanner = chest.scanner
    places = _places(scanner)
    texture = _smooth_noise(scanner, (1.6, 1.6, 1.6), generator)
    # Blood sinks to the back (towards larger y), where the lung is denser.
    ct = (chest.lung_hu + 22 * texture + 0.5 * places[1][:, None]).astype(np.float32)
    levels = [_paint_nodule(ct, nodule, texture, places) for nodule in chest.nodules]
    solid = np.zeros(scanner.size_zyx, dtype=bool)
    _paint_tubes(ct, solid, chest.vessels, VESSEL_HU, places)
    if chest.wall is not None:
        inside = chest.wall.depth_mm(np.ix_(*places)) > 0
        ct[inside] = WALL_HU + 12 * texture[inside]
        _paint_tubes(ct, solid, chest.ribs, RIB_HU, places)
        solid |= inside
    masks = []
    for window, level in levels:
        mask = np.zeros(scanner.size_zyx, dtype=np.uint8)
        mask[window] = (level < 1) & ~solid[window]
        masks.append(mask)
    depth_mm, *_ = scanner.spacing_mm_zyx
    sharpness_mm = (0.4 * depth_mm, scanner.blur_mm, scanner.blur_mm)
    noise = _smooth_noise(scanner, (0.3 * depth_mm, 0.8 * scanner.blur_mm, 0.8 * scanner.blur_mm), generator)
    seen = _smooth(ct, scanner, sharpness_mm) + scanner.noise_hu * noise
    return np.clip(np.rint(seen), AIR_HU, HIGHEST_HU).astype(np.int16), masks


def _places(scanner: Scanner) -> Places:
    """The voxels' positions along z, y and x, in mm from the middle."""
    pairs = zip(scanner.size_zyx, scanner.spacing_mm_zyx, strict=True)
    return tuple((np.arange(size, dtype=np.float64) - (size - 1) / 2) * step for size, step in pairs)


def _window(center_mm: Floats, reach_mm: float, places: Places) -> tuple[Window, Places]:
    """The voxels within reach of a point, and their offsets from it along z, y and x."""
    pairs = list(zip(places, center_mm.tolist(), strict=True))
    window = tuple(slice(*axis.searchsorted((middle - reach_mm, middle + reach_mm))) for axis, middle in pairs)
    offsets = [axis[part] - middle for (axis, middle), part in zip(pairs, window, strict=True)]
    return window, (offsets[0][:, None, None], offsets[1][:, None], offsets[2])


def _paint_nodule(ct: Array, nodule: Nodule, texture: Array, places: Places) -> tuple[Window, Floats]:
    body = nodule.body
    window, offsets = _window(body.center_mm, 1.9 * body.radius_mm + 2, places)
    level = body.level(offsets)
    glass = nodule.ground_glass_hu + 40 * texture[window]
    _blend(ct, window, glass, (1 - level) * body.radius_mm / 1.2 + 0.5)
    for core in nodule.cores:
        shifted = [offset + part for offset, part in zip(offsets, body.center_mm - core.center_mm, strict=True)]
        inside = np.minimum((1 - core.level(shifted)) * core.radius_mm / 1.2 + 0.5, (1 - level) * body.radius_mm + 0.5)
        _blend(ct, window, np.full_like(glass, nodule.solid_hu), inside)
    return window, level


def _blend(ct: Array, window: Window, values: Array, weight: Floats) -> None:
    share = np.clip(weight, 0, 1).astype(np.float32)
    ct[window] = ct[window] * (1 - share) + values * share


def _paint_tubes(
    ct: Array, solid: npt.NDArray[np.bool_], tubes: Sequence[Tube], value_hu: float, places: Places
) -> None:
    for tube in tubes:
        for window, inside in _balls(tube, places):
            share = np.clip(inside / 0.6 + 0.5, 0, 1).astype(np.float32)
            np.maximum(ct[window], AIR_IN_LUNG_HU + (value_hu - AIR_IN_LUNG_HU) * share, out=ct[window])
            solid[window] |= inside > 0


def _balls(tube: Tube, places: Places) -> Iterator[tuple[Window, Floats]]:
    """For each ball in the piece, its window and the depth of the window's voxels in it."""
    near = np.all(np.abs(tube.centers_mm) < np.array([axis[-1] for axis in places]) + 4, axis=1)
    for center, radius_mm in zip(tube.centers_mm[near], tube.radii_mm[near], strict=True):
        window, offsets = _window(center, radius_mm + 0.5, places)
        yield window, radius_mm - np.sqrt(sum(offset**2 for offset in offsets))


def _smooth_noise(scanner: Scanner, sigma_mm_zyx: tuple[float, float, float], generator: np.random.Generator) -> Array:
    """Noise of variance 1 with a correlation length."""
    noise = _smooth(generator.standard_normal(scanner.size_zyx, dtype=np.float32), scanner, sigma_mm_zyx)
    scaled: Array = noise / noise.std()
    return scaled


def _smooth(values: Array, scanner: Scanner, sigma_mm_zyx: tuple[float, float, float]) -> Array:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(scanner.spacing_mm_zyx[::-1])
    smoothed: Array = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, sigma_mm_zyx[::-1]))
    return smoothed

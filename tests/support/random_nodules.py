"""Random nodules, and their outlines as programs draw them."""

import numpy as np
from contourpy import contour_generator
from scipy.ndimage import binary_dilation, binary_fill_holes, gaussian_filter, label

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
# The eight neighbours, clockwise from the left one.
_AROUND = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]


def random_nodule(generator, size_zyx, spacing_mm_zyx):
    """[z, y, x] uint8: up to three rough balls next to each other, some with a hole, two voxels from the edge."""
    points = np.stack(np.indices(size_zyx), axis=-1) * spacing_mm_zyx
    middle = (np.array(size_zyx) - 1) / 2 * spacing_mm_zyx + generator.uniform(-2, 2, 3)
    rough = gaussian_filter(generator.normal(size=size_zyx), 1.5)
    rough *= generator.uniform(0, 1.5) / np.abs(rough).max()
    nodule = np.zeros(size_zyx, dtype=bool)
    radius = 0.0
    for _ in range(generator.integers(1, 4)):
        direction = generator.normal(size=3)
        middle = middle + direction / np.linalg.norm(direction) * (radius + generator.uniform(0, 2)) * (radius > 0)
        radius = generator.uniform(1.5, 5)
        nodule |= np.linalg.norm(points - middle, axis=-1) + rough <= radius
    if generator.random() < 0.4:
        nodule &= np.linalg.norm(points - middle, axis=-1) > radius * generator.uniform(0.2, 0.6)
    inner = np.zeros(size_zyx, dtype=bool)
    inner[2:-2, 2:-2, 2:-2] = True
    nodule &= inner
    nodule[tuple(size // 2 for size in size_zyx)] = True
    return nodule.astype(np.uint8)


def outlines_between_voxels(mask_yx):
    """Outlines half-way between the mask's voxels and others, [N, 2] columns and rows, as plastimatch draws them."""
    return [points[:-1] for points in contour_generator(z=np.asarray(mask_yx, float)).lines(0.5)]


def outlines_through_voxels(mask_yx):
    """Outlines through the centres of rim voxels, [N, 2] columns and rows, as OpenCV and rt-utils draw them."""
    inside = np.asarray(mask_yx) > 0
    outlines = []
    components, count = label(inside, np.ones((3, 3)))
    for number in range(1, count + 1):
        component = components == number
        outlines.append(_rim(component))
        holes, hole_count = label(binary_fill_holes(component) & ~component, _CROSS)
        outlines += [_rim(binary_dilation(holes == hole, _CROSS)) for hole in range(1, hole_count + 1)]
    return outlines


def _rim(component):
    """The outer border of a component by Moore's tracing, from its first voxel until that is left as at the start."""
    padded = np.pad(component, 1)
    current = tuple(np.argwhere(padded)[0].tolist())
    border, empty, first_step = [current], 0, None
    while True:
        found = [(empty + turn) % 8 for turn in range(1, 9) if padded[_neighbour(current, (empty + turn) % 8)]]
        if not found or first_step == (current, found[0]):
            break
        first_step = first_step or (current, found[0])
        beside, current = _neighbour(current, found[0] - 1), _neighbour(current, found[0])
        empty = _AROUND.index((beside[0] - current[0], beside[1] - current[1]))
        border.append(current)
    points = np.array(border[:-1] if len(border) > 1 else border) - 1
    return points[:, ::-1].astype(float)


def _neighbour(pixel, direction):
    row, column = _AROUND[direction]
    return pixel[0] + row, pixel[1] + column

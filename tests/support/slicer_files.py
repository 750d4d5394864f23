"""Segmentations of 3D Slicer."""

import gzip

import numpy as np


def write_slicer(path, grid, layers, segments):
    """A .seg.nrrd as 3D Slicer writes it; `segments` holds name, layer and label value, None for none."""
    axes = np.reshape(grid.direction, (3, 3)) * grid.spacing_mm_xyz
    directions = " ".join(f"({','.join(repr(float(part)) for part in axis)})" for axis in axes.T)
    array = np.stack(layers, axis=-1) if len(layers) > 1 else layers[0]
    many = len(layers) > 1
    header = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {3 + many}",
        "space: left-posterior-superior",
        f"sizes: {f'{len(layers)} ' * many}{' '.join(map(str, grid.size_xyz))}",
        f"space directions: {'none ' * many}{directions}",
        f"kinds: {'list ' * many}domain domain domain",
        "encoding: gzip",
        f"space origin: ({','.join(map(repr, grid.origin_mm_lps))})",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for number, (name, layer, value) in enumerate(segments):
        header += [f"Segment{number}_ID:=Segment_{number}", f"Segment{number}_Name:={name}"]
        if layer is not None:
            header += [f"Segment{number}_Layer:={layer}", f"Segment{number}_LabelValue:={value}"]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + gzip.compress(array.astype(np.uint8).tobytes()))
    return path

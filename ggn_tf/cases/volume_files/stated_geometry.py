"""What the header of a NRRD or MetaImage file states about its voxels, where ITK assumes what is missing.

ITK takes 1 mm for a spacing that is not stated, millimetres for every unit, and stored values for intensities.
"""

import math
import re
from pathlib import Path

from ggn_tf.cases.volume_files.detached import META_SUFFIXES, MOST_HEADER_BYTES, NRRD
from ggn_tf.errors import VolumeError

DIRECTIONS, POSITION = "the directions of its axes", "the position of its first voxel"
_META_DIRECTIONS, _META_POSITIONS = {"transformmatrix", "orientation", "rotation"}, {"offset", "position", "origin"}
_SIGN = re.compile("(:=|[:=])")
# The anatomical spaces of NRRD; any other, such as scanner-xyz, does not say which axis runs to the left.
_SPACES = re.compile(r"((right|left)-anterior-superior|left-posterior-superior)(-time)?|(ras|las|lps)t?", re.IGNORECASE)
TRUE = ("true", "t", "1")
"""What a field of MetaImage says for true, in small letters."""
_MILLIMETRES = ("", "mm", "millimeter", "millimetre", "???", "?")
_QUOTED = re.compile(r'"([^"]*)"')
# Parts of the names of integer types, and their bits.
_TYPE_BITS = (("8", 8), ("char", 8), ("16", 16), ("short", 16), ("64", 64), ("long", 64), ("32", 32), ("int", 32))
_SLOPE, _OFFSET = "elementtointensityfunctionslope", "elementtointensityfunctionoffset"


def refuse_unstated(path: Path) -> None:
    """Raise VolumeError where the spacing is not stated, or spacing or values are in other units than ITK assumes.

    Only NRRD and MetaImage files are checked.
    """
    if path.suffix.lower() in META_SUFFIXES:
        _refuse_meta(path, header_fields(path)[0])
    elif _is_nrrd(path):
        _refuse_nrrd(path, header_fields(path)[0])


def unstated_geometry(path: Path) -> tuple[str, ...]:
    """What a file does not state, of `DIRECTIONS` and `POSITION`; nothing of other files than NRRD and MetaImage."""
    if path.suffix.lower() in META_SUFFIXES:
        fields = header_fields(path)[0]
        directed, placed = bool(_META_DIRECTIONS & fields.keys()), bool(_META_POSITIONS & fields.keys())
    elif _is_nrrd(path):
        fields = header_fields(path)[0]
        directed = _SPACES.fullmatch(fields.get("space", "")) is not None
        placed = bool(_numbers(fields.get("spaceorigin", "")))
    else:
        return ()
    return (*(() if directed else (DIRECTIONS,)), *(() if placed else (POSITION,)))


def _is_nrrd(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(NRRD)) == NRRD


def header_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a NRRD or MetaImage header, and the position of the first byte after it.

    Their names are in small letters without spaces. Key/value pairs of NRRD (`:=`) are none.
    """
    nrrd, fields = path.suffix.lower() not in META_SUFFIXES, {}
    with path.open("rb") as file:
        while file.tell() < MOST_HEADER_BYTES and (line := file.readline(MOST_HEADER_BYTES)):
            name, *stated = _SIGN.split(line.decode("latin-1"), maxsplit=1)
            key = name.strip().lower().replace(" ", "") if stated else ""
            if key and stated[0] != ":=":
                fields[key] = stated[1].strip()
            # The voxels follow.
            if (nrrd and not line.strip()) or key == "elementdatafile":
                break
        return fields, file.tell()


def _refuse_nrrd(path: Path, fields: dict[str, str]) -> None:
    directions, spacings = (_numbers(fields.get(key, "")) for key in ("spacedirections", "spacings"))
    if len(directions) < 9 and len([step for step in spacings if step > 0]) < 3:
        raise _unstated(path, "neither space directions nor spacings")
    for key in ("space units", "units"):
        units = {unit.strip() for unit in _QUOTED.findall(fields.get(key.replace(" ", ""), ""))}
        _refuse_units(path, key, units)
    # What quantization mapped to the ends of the stored values; ITK returns these as they are.
    ends = zip(("old min", "old max"), ends_of(fields.get("type", "").lower()), strict=True)
    stated = [(key, fields.get(key.replace(" ", ""), "nan"), end) for key, end in ends]
    _refuse_scaled(path, ", ".join(f"{key} {value}" for key, value, end in stated if not _maps_to(value, end)))


def ends_of(kind: str) -> tuple[float, float]:
    """The smallest and the largest value of a type of NRRD; not a number for types of fractions."""
    bits = next((bits for name, bits in _TYPE_BITS if name in kind), None)
    if bits is None or "float" in kind:
        return math.nan, math.nan
    return (0.0, 2.0**bits - 1) if kind.startswith("u") else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)


def _maps_to(value: str, end: float) -> bool:
    """Whether what quantization mapped to an end of the stored values is not known, or is this end."""
    try:
        return math.isnan(float(value)) or float(value) == end
    except ValueError:
        return False


def _refuse_meta(path: Path, fields: dict[str, str]) -> None:
    stated = next((fields[key] for key in ("elementspacing", "elementsize") if key in fields), "")
    steps = _numbers(stated)
    if len(steps) < 2 or min(steps) <= 0:
        raise _unstated(path, f"ElementSpacing {stated}" if stated else "no ElementSpacing")
    _refuse_units(path, "DistanceUnits", {fields.get("distanceunits", "")})
    if fields.get("binarydata", "true").lower() not in TRUE:
        # ITK reads a part of such a file as if it were binary.
        raise VolumeError(
            "The voxels of the file are written as text.",
            case=path,
            found=f"BinaryData = {fields['binarydata']}",
            expected="binary voxels",
            remedy="Save the volume again in binary form.",
        )
    slope, offset = _numbers(fields.get(_SLOPE, "1")), _numbers(fields.get(_OFFSET, "0"))
    if (slope, offset) != ([1.0], [0.0]):
        scale = f"slope {fields.get(_SLOPE, '1')}, offset {fields.get(_OFFSET, '0')}"
        _refuse_scaled(path, f"ElementToIntensityFunction with {scale}")


def _refuse_scaled(path: Path, found: str) -> None:
    if found:
        raise VolumeError(
            "The values of the file are not those that its header describes.",
            case=path,
            found=found,
            expected="stored values that are the values themselves, without a scale in the header",
            remedy="Apply the scale to the voxels and remove it from the header, or convert the original series again.",
        )


def _numbers(text: str) -> list[float]:
    """The finite numbers of a field."""
    values = []
    for part in re.split(r"[\s,()]+", text):
        try:
            values.append(float(part))
        except ValueError:
            continue
    return [value for value in values if math.isfinite(value)]


def _refuse_units(path: Path, key: str, units: set[str]) -> None:
    others = sorted(unit for unit in units if unit.lower() not in _MILLIMETRES)
    if others:
        raise VolumeError(
            "The spacing of the file is not in millimetres.",
            case=path,
            found=f"{key} {', '.join(others)}",
            expected="mm",
            remedy="Write spacing and origin in millimetres, or convert the original series again.",
        )


def _unstated(path: Path, found: str) -> VolumeError:
    return VolumeError(
        "The header does not state the distance of voxels.",
        case=path,
        found=found,
        expected="a positive spacing of every axis; without it, the size of a nodule is unknown",
        remedy="Convert the original series again with a program that writes the spacing.",
    )

"""The fields of a PredictRequest, counted before protobuf makes an object of each: of two bytes, a hundred."""

# Packed numbers are one field: our own requests have some twenty. The others are for clients that do not pack.
_MOST_FIELDS, _MOST_MESSAGES = 100_000, 2_000
_VARINT, _FIXED_64, _MESSAGE, _FIXED_32 = 0, 1, 2, 5
# Both `inputs` of the request, `value` of its entries, and `tensor_shape` of a tensor have this number.
_INNER, _DEPTH_OF_TENSOR = 2, 2
# `resource_handle_val` and `variant_val` of a tensor, which no request can use.
_UNUSABLE = (14, 15)


def check_fields(message: bytes) -> None:
    """Raise ValueError for a message with too many fields, or such as no request needs.

    What ends within a field passes, because protobuf cannot parse it.
    """
    try:
        _check_fields(message)
    except IndexError:
        return


def _check_fields(message: bytes) -> None:
    ends, position, fields, messages = [len(message)], 0, 0, 0
    while True:
        while ends and position >= ends[-1]:
            ends.pop()
        if not ends:
            return
        tag, position = _varint(message, position)
        number, kind, depth = tag >> 3, tag & 7, len(ends) - 1
        fields, messages = fields + 1, messages + (kind == _MESSAGE)
        if fields > _MOST_FIELDS or messages > _MOST_MESSAGES:
            raise ValueError("too many fields")
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in (_FIXED_32, _FIXED_64):
            position += 4 if kind == _FIXED_32 else 8
        elif kind != _MESSAGE or (depth == _DEPTH_OF_TENSOR and number in _UNUSABLE):
            raise ValueError(f"a field {number} that no request needs")
        else:
            length, position = _varint(message, position)
            if number == _INNER and depth <= _DEPTH_OF_TENSOR:
                ends.append(position + length)
            else:
                position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise IndexError("a number of more than ten bytes")

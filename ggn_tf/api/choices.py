"""Arguments that take one of a few names."""

from collections.abc import Collection

from ggn_tf.errors import GgnError


def check_choices(argument: str, values: Collection[str], allowed: Collection[str]) -> None:
    """Refuse a value that an argument does not have.

    Raises:
        GgnError: A value is not allowed.
    """
    unknown = [value for value in values if value not in allowed]
    if unknown:
        raise GgnError(
            f"There is no {argument.replace('_', ' ')} of this name.",
            found=", ".join(map(repr, unknown)),
            expected=" or ".join(allowed),
            remedy="Choose one of these.",
            arguments=(argument,),
        )

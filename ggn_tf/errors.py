"""The one exception tree: every error that a user can cause says case, found, expected and remedy."""


class GgnError(Exception):
    """An error in the input, the data or a file that the user can do something about.

    The command line prints it as one block without a traceback and exits with 1.

    Args:
        what: What is wrong, one sentence.
        case: The case, file or folder that it concerns.
        found: What was found there.
        expected: What was expected instead.
        remedy: What to do.
    """

    def __init__(
        self,
        what: str,
        *,
        case: object | None = None,
        found: object | None = None,
        expected: object | None = None,
        remedy: str | None = None,
    ) -> None:
        """Keep the parts apart, so that a table of rejected cases can show them in columns."""
        self.what = what
        self.case = None if case is None else str(case)
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)
        self.remedy = remedy
        super().__init__(what, case, found, expected, remedy)

    def __str__(self) -> str:
        """The block that a person reads: a line a part, parts that are not known left out."""
        parts = (("case", self.case), ("found", self.found), ("expected", self.expected), ("remedy", self.remedy))
        return "\n".join([self.what, *(f"  {name + ':':<10}{text}" for name, text in parts if text is not None)])

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process boundary with every part: a worker's error reaches the user whole."""
        return _rebuild, (type(self), self.what, self.case, self.found, self.expected, self.remedy)


def _rebuild(
    kind: type[GgnError], what: str, case: str | None, found: str | None, expected: str | None, remedy: str | None
) -> GgnError:
    return kind(what, case=case, found=found, expected=expected, remedy=remedy)


class TableError(GgnError):
    """The case table cannot be read as a table of cases."""


class VolumeError(GgnError):
    """A CT volume cannot be read or cannot be trusted."""


class MaskError(GgnError):
    """A nodule mask cannot be read, is empty, or does not lie on its CT."""


class LocationError(GgnError):
    """The places of nodules cannot be read, or none of them lies where it could."""


class TaskError(GgnError):
    """A task does not parse, or names labels that the data do not hold."""


class ProtocolError(GgnError):
    """A number of the protocol is out of its range, or a stored protocol is not one of ours."""


class DatasetError(GgnError):
    """A dataset folder is missing, damaged, or was made by another protocol."""


class RadiomicsError(GgnError):
    """Radiomic features cannot be measured, or a stored classifier of them cannot be trusted or does not fit."""


class SplitError(GgnError):
    """A split is missing, does not match its dataset, or puts a patient in two sets."""


class RunError(GgnError):
    """A run folder is missing, damaged, in use, or belongs to other settings."""


class ExportError(GgnError):
    """An export cannot be written or is not one of ours."""


class ServingError(GgnError):
    """A model server cannot be started, cannot be reached, or answers something else than its contract."""

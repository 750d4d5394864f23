"""The exception tree: every error that a user can cause names the case, what was found and expected, and a remedy."""

from collections.abc import Callable, Sequence

from ggn_tf.shown_text import printable

NameArgument = Callable[[str], str | None]
"""The name under which the reader of a message knows an argument of the API; None if it does not exist there."""


_LONGEST_PART = 4000


def api_argument(name: str) -> str:
    """The argument under its own name, as Python users know it."""
    return f"argument {name}"


class GgnError(Exception):
    """An error in the input, the data or a file that the user can correct.

    The command line prints it as one block without a traceback and exits with 1.

    Args:
        what: What is wrong, one sentence.
        case: The case, file or folder concerned.
        found: What was found there.
        expected: What was expected instead.
        remedy: What to do, one or more sentences.
        arguments: Names of the API arguments that the remedy needs, for example `align_masks`. The command line prints
            them as its own options.
    """

    def __init__(
        self,
        what: str,
        *,
        case: object | None = None,
        found: object | None = None,
        expected: object | None = None,
        remedy: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Keep the parts separate, so that a table of rejected cases can show them in columns."""
        self.what = what
        self.case = None if case is None else _shown(case)
        self.found = None if found is None else _shown(found)
        self.expected = None if expected is None else _shown(expected)
        self.remedy = remedy
        self.arguments = tuple(arguments)
        super().__init__(what, case, found, expected, remedy, arguments)

    def __str__(self) -> str:
        """The block with the API's argument names."""
        return self.block()

    def block(self, name_argument: NameArgument = api_argument) -> str:
        """The block that a person reads: one line per part, without the parts that are unknown."""
        what, *rest = ((name, text) for name, text in self.parts(name_argument).items() if text is not None)
        # The second line of a quoted text does not look like a part.
        lines = (f"  {name + ':':<10}{text}".replace("\n", "\n" + " " * 12) for name, text in rest)
        return "\n".join([what[1], *lines])

    def parts(self, name_argument: NameArgument = api_argument) -> dict[str, str | None]:
        """The texts by name: `what`, `case`, `found`, `expected`, `remedy`; None where unknown."""
        return {
            "what": self.what,
            "case": self.case,
            "found": self.found,
            "expected": self.expected,
            "remedy": with_arguments(self.remedy, self.arguments, name_argument),
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Cross a process boundary with every part, so that a worker's error reaches the user whole."""
        return _rebuild, (type(self), self.what, self.case, self.found, self.expected, self.remedy, self.arguments)


def with_arguments(
    text: str | None, arguments: Sequence[str], name_argument: NameArgument = api_argument
) -> str | None:
    """A remedy followed by the arguments that it needs, in parentheses."""
    names = [name for name in map(name_argument, arguments) if name is not None]
    return text if text is None or not names else f"{text} ({', '.join(names)})"


def _shown(part: object) -> str:
    """A part's text, which may quote a header, a file name or a server: printable, and no longer than a page."""
    text = printable(str(part))
    return text if len(text) <= _LONGEST_PART else f"{text[:_LONGEST_PART]}... ({len(text)} characters)"


class GgnWarning(UserWarning):
    """What a user should know while the work continues. The command line prints it as a note on stderr."""


def _rebuild(
    kind: type[GgnError],
    what: str,
    case: str | None,
    found: str | None,
    expected: str | None,
    remedy: str | None,
    arguments: Sequence[str],
) -> GgnError:
    return kind(what, case=case, found=found, expected=expected, remedy=remedy, arguments=arguments)


class TableError(GgnError):
    """The case table cannot be read as a table of cases."""


class VolumeError(GgnError):
    """A CT volume cannot be read or cannot be trusted."""


class MaskError(GgnError):
    """A nodule mask cannot be read, is empty, or is not on its CT's grid."""


class LocationError(GgnError):
    """The locations of nodules cannot be read, or are outside the CT."""


class TaskError(GgnError):
    """A task does not parse, or names labels that do not occur in the data."""


class RecordError(GgnError):
    """A stored JSON record is not one of ours; `case` is the path of the wrong field."""


class DatasetError(GgnError):
    """A dataset folder is missing, damaged, or was made by another protocol."""


class RejectedCasesError(DatasetError):
    """Cases of a table cannot be used, and they were not to be left out.

    Attributes:
        rejected: Why each of them cannot be used.
    """

    rejected: tuple[GgnError, ...] = ()


class RadiomicsError(GgnError):
    """Radiomic features cannot be measured, or a stored classifier of them cannot be trusted or does not fit."""


class SplitError(GgnError):
    """A split is missing, does not match its dataset, or puts a patient in two sets."""


class RunError(GgnError):
    """A run folder is missing, damaged, in use, or belongs to other settings."""


class FollowUpError(GgnError):
    """Two scans cannot be compared: of other patients or in the wrong order, or their registration failed."""


class ExportError(GgnError):
    """An export cannot be written or is not one of ours."""


class ServingError(GgnError):
    """A model server cannot be started or reached, or its answer does not follow the contract."""


class PacsError(GgnError):
    """A DICOM archive cannot be reached or used, or does not do what was requested."""


class ArchiveError(PacsError):
    """A request to a DICOM archive failed; its case is the archive's address."""


class PredictionsError(GgnError):
    """A file is not a predictions table, or lacks what a statistic needs."""

"""One family of errors. Each class is a condition; `exit_code` is what the command line answers with.

Rules: a message reads *where: got, expected; what to do*. A gate that says no is not an error but a verdict (exit 1).
"""

from typing import ClassVar

INTERRUPTED = 130  # what a shell calls a program that was interrupted


class SealrunError(Exception):
    """Something stops Sealrun from reaching a verdict."""

    exit_code: ClassVar[int] = 4


class UsageError(SealrunError):
    """The command line, a variable or a configuration file is wrong; the user can mend it."""

    exit_code = 2


class InputMissing(SealrunError):
    """An input does not exist yet; the message names the session or command that makes it."""

    exit_code = 3


class ToolFailed(SealrunError):
    """A program is missing, crashed, hung, said nothing, or said something that cannot be understood."""

    exit_code = 4


class VerificationFailed(SealrunError):
    """A bundle, envelope, statement or file is not what its signature or digest says."""

    exit_code = 5

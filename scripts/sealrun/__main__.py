"""`python -m sealrun COMMAND`: what the nox sessions and invoke tasks run.

Rules: human text to standard error, machine output to standard output; every error of ours ends in its own exit code.
"""

import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress

from sealrun import commands, masking, network, result, settings
from sealrun.errors import INTERRUPTED, SealrunError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    command = commands.find(name)
    if command is None:
        return _unknown(name)
    options = command.parse(arguments)
    masking.cover_terminal()
    try:
        settings.network_allowed()  # a value that is neither on nor off is refused whatever the command
        network.is_command(getattr(options, "tree", None) or options.root, [name, *arguments])
        code: int = command.run(options)
    except KeyboardInterrupt:
        print("sealrun: interrupted; the next run begins where this one has left no statement", file=sys.stderr)
        return INTERRUPTED
    except SealrunError as error:
        return _failed(options, error)
    except OSError as error:
        return _failed(options, UsageError(f"{error.filename or 'a file'}: {error.strerror or error}; mend that and run again"))
    except Exception as error:  # noqa: BLE001 - the very top
        traceback.print_exc()
        return _failed(options, SealrunError(f"{type(error).__name__}: {error}; this is a bug of Sealrun, please report it"))
    return code


def _unknown(name: str) -> int:
    """Say which commands there are: what was asked for, or what was meant."""
    asked = name in ("-h", "--help")
    known = [command for known in commands.names() if (command := commands.find(known))]
    lines = [f"  {command.name:<16} {command.summary}" for command in known]
    head = "usage: python -m sealrun COMMAND [OPTION...]" if asked else f"sealrun: got {name!r}, expected one of these commands"
    print("\n".join([head, *lines]), file=sys.stdout if asked else sys.stderr)
    return result.EXIT_PASSED if asked else UsageError.exit_code


def _failed(options: Namespace, error: SealrunError) -> int:
    from sealrun import console

    console.complain(error)
    with suppress(OSError):  # the place for the result may be what is wrong
        result.emit(result.failure(options.command, error), getattr(options, "json", None))
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

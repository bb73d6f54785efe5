"""`release`: the whole pipeline."""

import argparse

from sealrun.command import Command, release_options


def _arguments(parser: argparse.ArgumentParser) -> None:
    release_options(parser)
    parser.add_argument("--jobs", default="auto", help="stages side by side: a number or auto")


def _run(options: argparse.Namespace) -> int:
    from sealrun import release, result
    from sealrun.errors import UsageError
    from sealrun.stage import context_of

    context = context_of(options.root, options.config, options.out, cache=options.cache)
    if not (options.jobs == "auto" or (options.jobs.isascii() and options.jobs.isdigit() and int(options.jobs) > 0)):
        raise UsageError(f"--jobs: got {options.jobs!r}, expected auto or a number from 1")
    passed_on = [
        f"--out={context.out.parent}",
        *([f"--config={options.config.resolve()}"] if options.config else []),
        *([f"--cache={options.cache.resolve()}"] if options.cache else []),
    ]
    found = release.release(context, passed_on, jobs=options.jobs, fresh=options.fresh)
    result.emit(found, options.json)
    return found.exit_code


COMMANDS = (
    Command(name="release", summary="Run every stage and make the signed evidence bundle", arguments=_arguments, run=_run),
)

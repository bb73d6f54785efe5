"""`install NAME...`: the environments of stages, or one environment by its own name; opens the network."""

import argparse
from pathlib import Path

from sealrun.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", help="stages, or environments")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="the repository whose own stage it is")
    parser.add_argument("--load", type=Path, metavar="FILE", help="a module of that repository that declares the stage")
    parser.add_argument("--config", type=Path, help="release file, which decides what certify and verify need")


def _run(options: argparse.Namespace) -> int:
    from sealrun import pipeline

    if options.load:
        pipeline.load(options.load)
    for name in options.names:
        pipeline.install(options.root.resolve(), name, options.config, options.tree)
    return 0


COMMANDS = (
    Command(
        name="install",
        summary="Install the environments of stages, or one by its own name",
        arguments=_arguments,
        run=_run,
    ),
)

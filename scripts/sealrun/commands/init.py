"""`init`: a release.toml for somebody's own model; asks for what is not given."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command

_QUESTIONS = {
    "baseline": "folder of the model before the change",
    "candidate": "folder of the model to be released",
    "data": "evaluation text, a JSONL file",
    "name": "name of the release",
}


def _arguments(parser: argparse.ArgumentParser) -> None:
    for name, question in _QUESTIONS.items():
        parser.add_argument(f"--{name}", help=question)
    parser.add_argument("--out", type=Path, help="where to write (default: release.toml in the folder common to the three)")


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, scaffold

    given = {name: getattr(options, name) or _ask(name) for name in _QUESTIONS}
    written = scaffold.init(
        baseline=Path(given["baseline"]), candidate=Path(given["candidate"]), data=Path(given["data"]),
        name=given["name"], out=options.out,
    )  # fmt: skip
    print(f"written: {written}", file=sys.stderr)
    print(f"next     {console.command(options.root, 'release', '--config', str(written))}", file=sys.stderr)
    return 0


def _ask(name: str) -> str:
    from sealrun.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(f"init: --{name} is missing ({_QUESTIONS[name]}); give it, or run init in a terminal to be asked")
    print(f"{_QUESTIONS[name]}: ", end="", file=sys.stderr, flush=True)
    return input().strip()


COMMANDS = (
    Command(
        name="init",
        summary="Write a release.toml for your own model; asks for what is not given",
        arguments=_arguments,
        run=_run,
    ),
)

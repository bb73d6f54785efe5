"""A command of `python -m sealrun`: declared once, and from that both a command line and an invoke task.

Rules: every command takes `--root` (the checkout) and `--anchor` (the folder its user stands in, which nox has left); paths
that a user writes are meant from that folder.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHECKOUT = ("root", "anchor")


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a command is called (`promote`, `keys.revoke`), what it is for, what it takes, and what it does.

    `arguments` adds options to a parser; `run` returns the exit code.
    """

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of this command's arguments."""
        parser = argparse.ArgumentParser(prog=f"sealrun {self.name}", description=self.summary, allow_abbrev=False)
        self.arguments(parser)
        parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
        parser.add_argument("--anchor", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
        return parser

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the options in *argv*. Wrong ones end the program with 2."""
        options = self.parser().parse_intermixed_args(argv)
        options.command = self.name
        return _anchored(options)


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument("--config", type=Path, help="release file (default: ./release.toml, else the shipped example)")


def json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json [FILE]`."""
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON (default: standard output)"
    )


def trust_options(parser: argparse.ArgumentParser) -> None:
    """Add whom to trust."""
    parser.add_argument("--trust", type=Path, help="public key file, or folder of them (default: policy/trust)")
    parser.add_argument("--fingerprint", help="fingerprint of the one key to trust, sha256:...")
    parser.add_argument("--revoked", type=Path, metavar="PLACE", help="a revocation, or a folder of *.revocation.json")


def trust_of(options: argparse.Namespace) -> Path | None:
    """Return where the keys to trust are: those named, else the checkout's own; None where there are none, or a fingerprint
    is named."""
    own: Path = options.root / "policy" / "trust"
    named: Path | None = options.trust
    return named or (own if not options.fingerprint and any(own.glob("*.pub")) else None)


def ledger_option(parser: argparse.ArgumentParser) -> None:
    """Add where the ledger is, and whom to trust in it."""
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger (default: ledger/ in the checkout)")
    parser.add_argument("--trust", type=Path, help="public key file, or folder of them (default: policy/trust)")


def release_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes that runs stages."""
    config_option(parser)
    parser.add_argument("--out", type=Path, help="output folder (default: build in the checkout)")
    json_option(parser)
    parser.add_argument("--fresh", action="store_true", help="ignore earlier tool output, the cache's too")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="share tool output there with other jobs (SEALRUN_CACHE)")


def _anchored(options: argparse.Namespace) -> argparse.Namespace:
    """Make the paths among *options* absolute; those of a list, which are shown, only where the user stands elsewhere."""
    for name, value in vars(options).items():
        if name in _CHECKOUT:
            continue
        if isinstance(value, Path):
            setattr(options, name, options.anchor / value)
        elif isinstance(value, list) and options.anchor != Path.cwd():
            setattr(options, name, [options.anchor / item if isinstance(item, Path) else item for item in value])
    if getattr(options, "json", None) not in (None, "-"):
        options.json = str(options.anchor / options.json)
    return options

"""`advisories`: import an advisory snapshot."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", metavar="FILE_OR_URL",
        help="OSV's zip for PyPI, a folder of records in JSON or YAML, or an https address (default: OSV's public export)",
    )  # fmt: skip
    parser.add_argument("--sha256", default="", metavar="DIGEST", help="refuse a source with another digest")
    parser.add_argument("--origin", default="", help="where the snapshot comes from (default: its file name or address)")
    parser.add_argument("--licence", default="unknown", help="the licence of the records")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="import them for this repository instead of our own checkout")
    parser.add_argument(
        "--embed", action="store_true", help="write the facts about the packages of our own locks into policy/advisories"
    )


def _run(options: argparse.Namespace) -> int:
    from sealrun import advisories
    from sealrun.advisories import download
    from sealrun.errors import UsageError
    from sealrun.policy.repository import load_repository

    root = (options.tree or options.root).resolve()
    named = load_repository(root).advisories
    source = options.source or (named.source if named else download.ORIGIN)
    if not download.is_url(source):
        source = str((options.anchor if options.source else root) / source)
    sha256 = options.sha256 or (named.sha256 if named else "")
    if options.embed and (options.sha256 or download.is_url(source)):
        raise UsageError("advisories: --embed takes a file or folder by --from alone; import the address without it first")
    made = (
        advisories.embed(root, Path(source), origin=options.origin, licence=options.licence) if options.embed
        else advisories.refresh(root, source, sha256=sha256, origin=options.origin, licence=options.licence)
    )  # fmt: skip
    print(f"advisories as of {made.as_of}: {made.records} records, sha256 {made.sha256}", file=sys.stderr)
    for record in made.rejected[:_SHOWN]:
        print(f"  rejected {record.name}: {record.reason}", file=sys.stderr)
    print(f"  {len(made.rejected)} rejected, {made.facts} facts", file=sys.stderr)
    return 0


_SHOWN = 10
COMMANDS = (
    Command(name="advisories", summary="Import an advisory snapshot, for every audit of this checkout", arguments=_arguments,
            run=_run),
)  # fmt: skip

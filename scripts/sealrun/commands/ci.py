"""`ci.*`: the pipeline as a matrix of jobs, its parts joined, and the kit for a machine without a network."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command, config_option, json_option, trust_of, trust_options

_DAY = 24 * 3600


def _matrix_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tag", default="release", help="release (default) or supply-chain")
    parser.add_argument("--python", action="append", metavar="VERSION", help="a Python to run on; repeatable (default: this)")
    parser.add_argument("--shards", action="append", default=[], metavar="STAGE=N", help="split this stage; repeatable")
    parser.add_argument(
        "--github", action="store_true", help="print lines for a job's outputs: waveN=MATRIX, the bundle's wave aside"
    )
    parser.add_argument("--gitlab", action="store_true", help="print the pipeline that ci/release.gitlab-ci.yml starts")
    json_option(parser)


def _matrix(options: argparse.Namespace) -> int:
    import platform

    from sealrun import clock, digest, files, settings
    from sealrun.ci import matrix

    pythons = options.python or [".".join(platform.python_version_tuple()[:2])]
    split = dict(map(_shards, options.shards))
    made = matrix.matrix(matrix.listed(options.root.resolve(), options.tag), options.tag, pythons, split)
    if options.json and options.json != "-":
        files.write_json(Path(options.json), made)
    elif options.json:
        sys.stdout.write(files.readable_json(made).decode())
    if options.gitlab:
        day = settings.variable("SOURCE_DATE_EPOCH") or str(int(clock.now().timestamp()) // _DAY * _DAY)
        sys.stdout.write(files.readable_json(matrix.gitlab_pipeline(made, day)).decode())
    for number, shown in enumerate(made.github if options.github else ()):
        if {job.stage for job in made.waves[number]} != {"bundle"}:
            print(f"wave{number}={digest.canonical_json(shown).decode().rstrip()}")
    for number, wave in enumerate(made.waves):
        jobs = ", ".join(f"{job.stage} {job.shard}".strip() + (f" on {job.python}" if len(pythons) > 1 else "") for job in wave)
        print(f"wave {number}: {jobs}", file=sys.stderr)
    return 0


def _shards(said: str) -> tuple[str, int]:
    """Return the stage and the number that `STAGE=N` says. Raises UsageError."""
    from sealrun.errors import UsageError

    name, _, number = said.partition("=")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"--shards: got {said!r}, expected STAGE=N, such as secrets=4")
    return name, int(number)


def _join_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", type=Path, help="folders that the jobs left, in any order")
    parser.add_argument("--out", type=Path, help="output folder (default: build in the checkout)")
    parser.add_argument("--tag", default="release", help="release (default): all stages that the bundle needs; supply-chain")
    parser.add_argument("--for", dest="wanted", metavar="STAGE", help="only what this stage needs of earlier ones")
    parser.add_argument("--shard", default="", metavar="K/N", help="with --for: that shard; all/N: take all N shards")
    config_option(parser)


def _join(options: argparse.Namespace) -> int:
    from sealrun.ci import join, matrix
    from sealrun.errors import UsageError
    from sealrun.evidence import shards
    from sealrun.stage import context_of

    shard = shards.parse(options.shard) if options.shard else None
    if shard and not options.wanted:
        raise UsageError("--shard: says nothing without a stage; add --for STAGE")
    split, of = (options.wanted, shard.of) if shard and not shard.number else ("", 0)
    if options.wanted:
        expected = matrix.required(options.wanted)
    else:
        expected = [name for name in matrix.listed(options.root.resolve(), options.tag) if name != "bundle"]
    context = context_of(options.root, options.config, options.out)
    joined = join.join(context, options.parts, expected, split=split, of=of)
    print(f"joined {', '.join(joined) or 'nothing'} in {context.out}", file=sys.stderr)
    if options.tag == "release" and not options.wanted:
        print("next     .venv/bin/nox -s bundle --no-dependencies", file=sys.stderr)
    return 0


def _kit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kit", type=Path, metavar="OUT", help="the new folder; with --check, the kit")
    parser.add_argument("--check", action="store_true", help="check a kit instead: its signature and every file")
    parser.add_argument("--platform", action="append", default=[], metavar="TAG", help="wheels for this platform; repeatable")
    parser.add_argument("--python", default="3.12", metavar="VERSION", help="with --platform: for this Python (default: 3.12)")
    parser.add_argument("--environment", action="append", default=[], metavar="NAME", help="one more environment; repeatable")
    trust_options(parser)
    config_option(parser)


def _kit(options: argparse.Namespace) -> int:
    from sealrun import clock
    from sealrun.ci import kit
    from sealrun.evidence import trust
    from sealrun.stage import context_of

    if options.check:
        trusted = trust.load(trust_of(options), options.fingerprint, options.revoked)
        found = kit.check(options.kit, trusted, clock.now().date().isoformat())
        print(f"kit of commit {found.commit}: every file is as it was signed", file=sys.stderr)
        return 0
    context = context_of(options.root, options.config)
    made = kit.make(context, options.kit, more=options.environment, python=options.python, platforms=options.platform)
    print(f"kit of commit {made.commit} with {', '.join(made.environments)}: {options.kit}", file=sys.stderr)
    print(f"next     git clone {options.kit / kit.REPOSITORY} sealrun, on the other machine; docs/ci.md", file=sys.stderr)
    return 0


def _summary_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", type=Path, help="what --json wrote")


def _summary(options: argparse.Namespace) -> int:
    from sealrun import files, result
    from sealrun.ci import summary

    found = [files.decode(files.read_bytes(path, "result"), result.Result, str(path)) for path in options.results]
    print(summary.of_results(found), end="")
    return 0


def _changes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, help="an SBOM of Sealrun's")
    parser.add_argument("after", type=Path, help="a later one")


def _changes(options: argparse.Namespace) -> int:
    from sealrun import files
    from sealrun.ci import summary
    from sealrun.reports import cyclonedx

    before, after = (
        cyclonedx.parse_document(files.read_bytes(path, "SBOM"), str(path)) for path in (options.before, options.after)
    )
    print(summary.of_changes(before, after), end="")
    return 0


def _fleet_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("releases", nargs="+", metavar="PATTERN", help="release files: 'releases/*.toml'")
    parser.add_argument("--on", default="local", metavar="PLACE", help="local (default), or dask[+tls]://HOST:PORT")
    parser.add_argument("--workers", type=int, default=0, help="with local: releases side by side (default: processors)")
    parser.add_argument("--retries", type=int, default=2, help="how often the work of a lost worker is begun again")
    parser.add_argument("--place", default="", metavar="URL", help="with dask: where files travel, for fsspec")
    parser.add_argument("--out", type=Path, help="output folder (default: build in the checkout)")
    parser.add_argument("--fresh", action="store_true", help="ignore earlier tool output")
    json_option(parser)


def _fleet(options: argparse.Namespace) -> int:
    import gc

    from sealrun import console, files
    from sealrun.ci import fleet
    from sealrun.errors import UsageError

    gc.enable()
    for name, least in (("workers", 0), ("retries", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name}: got {getattr(options, name)}, expected a number from {least}")
    terms = fleet.Terms(
        on=options.on, workers=options.workers, retries=options.retries, place=options.place, fresh=options.fresh
    )
    patterns = [pattern if pattern.startswith("/") else str(options.anchor / pattern) for pattern in options.releases]
    with console.live() as live:
        made = fleet.run(
            options.root.resolve(), patterns, options.out, terms, lambda members: live.update(console.fleet_table(members))
        )
    console.fleet_ended(made, (options.out or options.root / "build") / fleet.FOLDER / "summary.html")
    if options.json and options.json != "-":
        files.write_json(Path(options.json), made)
    elif options.json:
        sys.stdout.write(files.readable_json(made).decode())
    return made.exit_code


COMMANDS = (
    Command(
        name="ci.fleet",
        summary="Make many releases, here or on the workers of a Dask scheduler, and one summary",
        arguments=_fleet_arguments,
        run=_fleet,
    ),
    Command(
        name="ci.summary",
        summary="Print results of --json as Markdown, for a job's summary",
        arguments=_summary_arguments,
        run=_summary,
    ),
    Command(
        name="ci.changes",
        summary="Print what changed between two SBOMs as Markdown, for a pull request",
        arguments=_changes_arguments,
        run=_changes,
    ),
    Command(
        name="ci.kit",
        summary="Make or check the kit for a machine without a network: wheels, advisories, the repository, signed",
        arguments=_kit_arguments,
        run=_kit,
    ),
    Command(
        name="ci.matrix",
        summary="Print the pipeline as jobs for GitHub's and GitLab's matrices: waves, inputs, outputs",
        arguments=_matrix_arguments,
        run=_matrix,
    ),
    Command(
        name="ci.join",
        summary="Join what the jobs of a matrix left, after checking all of it",
        arguments=_join_arguments,
        run=_join,
    ),
)

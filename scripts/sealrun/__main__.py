"""`python -m sealrun`: what the nox sessions run. People use `invoke` and `nox`; both end here.

Rules: human text to standard error, machine output to standard output; every error of ours ends in its own exit code.
"""

import argparse
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from sealrun import clock, console, files, masking, pipeline, result, sandbox, settings, venvs
from sealrun.errors import SealrunError, UsageError
from sealrun.outcome import Verdict
from sealrun.policy.load import load_plan
from sealrun.stage import Context


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parse(argv)
    masking.cover_terminal()
    try:
        settings.network_allowed()  # a value that is neither on nor off is refused whatever the command
        code: int = options.run(options)
    except KeyboardInterrupt:
        print("sealrun: interrupted; the next run begins where this one has left no statement", file=sys.stderr)
        return pipeline.INTERRUPTED
    except SealrunError as error:
        return _failed(options, error)
    except OSError as error:
        return _failed(options, UsageError(f"{error.filename or 'a file'}: {error.strerror or error}; mend that and run again"))
    except Exception as error:  # noqa: BLE001 - the very top
        traceback.print_exc()
        return _failed(options, SealrunError(f"{type(error).__name__}: {error}; this is a bug of Sealrun, please report it"))
    return code


def _failed(options: argparse.Namespace, error: SealrunError) -> int:
    console.complain(error)
    with suppress(OSError):  # the place for the result may be what is wrong
        result.emit(result.failure(options.command, error), getattr(options, "json", None))
    return error.exit_code


def context_of(
    root: Path, config: Path | None, out: Path | None = None, targets: tuple[Path, ...] = (), since: str = ""
) -> Context:
    """Return the context for the release file *config*, with outputs below *out* (default: `build` of *root*).

    Raises UsageError or InputMissing.
    """
    root = root.resolve()
    plan = load_plan(root, config, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))
    name = "supply-chain" if targets or since else plan.title
    below = files.output_folder(root / (out or "build"))
    if (below / name).is_symlink():
        raise UsageError(f"--out: {below / name} is a link; remove it, or choose another folder")
    return Context(plan=plan, root=root, out=below / name, targets=targets, since=since)


def run_stage(options: argparse.Namespace) -> int:
    """Run one stage and say what it found."""
    sandbox.end_with_parent()
    if options.targets and not pipeline.stage_named(options.stage).takes_targets:
        taking = ", ".join(name for name, stage in pipeline.stages().items() if stage.takes_targets)
        raise UsageError(f"{options.stage}: judges a release, got {options.targets[0]}; files and folders are for {taking}")
    context = context_of(options.root, options.config, options.out, tuple(options.targets), options.since)
    statement = pipeline.execute(pipeline.stage_named(options.stage), context, fresh=options.fresh)
    predicate = statement.predicate
    console.stage_summary(predicate, pipeline.progress_of(context, options.stage))
    code = predicate.error_code or (result.EXIT_PASSED if predicate.verdict is Verdict.PASSED else result.EXIT_FAILED)
    result.emit(
        result.Result(
            command=options.stage, verdict=predicate.verdict, exit_code=code, controls=predicate.outcomes,
            findings=predicate.findings, error=predicate.error,
        ),
        options.json,
    )  # fmt: skip
    return result.EXIT_PASSED if options.continue_on_failure and code == result.EXIT_FAILED else code


def run_release(options: argparse.Namespace) -> int:
    """Run the whole pipeline."""
    from sealrun import release

    context = context_of(options.root, options.config, options.out)
    if not (options.jobs == "auto" or (options.jobs.isascii() and options.jobs.isdigit() and int(options.jobs) > 0)):
        raise UsageError(f"--jobs: got {options.jobs!r}, expected auto or a number from 1")
    passed_on = [f"--out={context.out.parent}", *([f"--config={options.config.resolve()}"] if options.config else [])]
    found = release.release(context, passed_on, jobs=options.jobs, fresh=options.fresh)
    result.emit(found, options.json)
    return found.exit_code


def run_verify(options: argparse.Namespace) -> int:
    """Verify a bundle for somebody who did not make it."""
    from sealrun.evidence import verify

    own = options.root / "policy" / "trust"
    trust = options.trust or (own if not options.fingerprint and any(own.glob("*.pub")) else None)
    found = verify.verify(options.bundle, trust=trust, fingerprint=options.fingerprint, delivery=options.files)
    console.verified(found)
    code = result.EXIT_PASSED if found.verdict is Verdict.PASSED else result.EXIT_FAILED
    result.emit(
        result.Result(
            command="verify", verdict=found.verdict, exit_code=code, controls=found.controls, findings=found.findings,
            bundle=options.bundle.name, digest=f"sha256:{found.sha256}",
        ),
        options.json,
    )  # fmt: skip
    return code


def run_doctor(options: argparse.Namespace) -> int:
    """Say what this machine offers, and what production would miss."""
    from sealrun import doctor

    found = doctor.doctor(options.root.resolve())
    for check in found.checks:
        mark = "ok     " if check.good else "MISSING" if check.needed else "no     "
        print(
            f"{mark} {check.name}: {check.seen}" + (f"\n          do: {check.remedy}" if check.remedy else ""), file=sys.stderr
        )
    print(f"production: {'ready' if found.production else 'not ready'}", file=sys.stderr)
    if options.json == "-":
        sys.stdout.write(files.readable_json(found).decode())
    elif options.json:
        files.write_bytes(Path(options.json), files.readable_json(found))
    return result.EXIT_PASSED if found.production else result.EXIT_FAILED


def run_init(options: argparse.Namespace) -> int:
    """Write a release.toml for somebody's own model."""
    from sealrun import scaffold

    given = {name: getattr(options, name) or _ask(name) for name in ("baseline", "candidate", "data", "name")}
    written = scaffold.init(
        baseline=Path(given["baseline"]), candidate=Path(given["candidate"]), data=Path(given["data"]),
        name=given["name"], out=options.out,
    )  # fmt: skip
    print(f"written: {written}", file=sys.stderr)
    print(f"next     {console.command(options.root, 'release', '--config', str(written))}", file=sys.stderr)
    return 0


def _ask(name: str) -> str:
    questions = {
        "baseline": "folder of the model before the change",
        "candidate": "folder of the model to be released",
        "data": "evaluation text, a JSONL file",
        "name": "name of the release",
    }
    if not sys.stdin.isatty():
        raise UsageError(f"init: --{name} is missing ({questions[name]}); give it, or run init in a terminal to be asked")
    print(f"{questions[name]}: ", end="", file=sys.stderr, flush=True)
    return input().strip()


def run_locks(options: argparse.Namespace) -> int:
    """Compile the locks, to write them or to name what drifted."""
    from sealrun import locks

    root = options.root.resolve()
    if options.check:
        drifted = locks.drift(root, options.names)
        for difference in drifted.values():
            print(difference, file=sys.stderr)
        print(f"drifted: {', '.join(drifted) or 'none'}", file=sys.stderr)
        return result.EXIT_FAILED if drifted else result.EXIT_PASSED
    changed = locks.write(root, options.names, upgrade=options.upgrade, cooldown_days=options.cooldown)
    print(f"written: {', '.join(changed) or 'none, all are current'}", file=sys.stderr)
    return 0


def run_sbom(options: argparse.Namespace) -> int:
    """Write the one SBOM over every locked environment."""
    from sealrun.stages import sbom

    context = context_of(options.root, None)
    for name in (*sbom.STAGE.requires, "sbom"):
        install(argparse.Namespace(root=options.root, names=[name]))
        predicate = pipeline.execute(pipeline.stage_named(name), context).predicate
        if predicate.verdict is not Verdict.PASSED:
            console.stage_summary(predicate, pipeline.progress_of(context, name))
            return predicate.error_code or result.EXIT_FAILED
    sbom.publish(context, options.target)
    print(f"written: {options.target}", file=sys.stderr)
    return 0


def run_advisories(options: argparse.Namespace) -> int:
    """Import an advisory snapshot into policy/advisories."""
    from sealrun import advisories

    made = advisories.run(
        options.root.resolve(), options.source, origin=options.origin, licence=options.licence, locks=options.locks
    )
    print(f"advisories as of {made.as_of}: {made.records} records, {len(made.rejected)} rejected", file=sys.stderr)
    return 0


def run_fetch(options: argparse.Namespace) -> int:
    """Fetch models and data from a hub and pin them."""
    from sealrun import fetch

    plan = load_plan(options.root.resolve(), options.config, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))
    if options.role or options.repository or options.revision or options.files:
        named = [name.strip() for name in (options.files or "").split(",") if name.strip()]
        orders = [fetch.order(options.role or "", options.repository or "", options.revision or "", named)]
    else:
        orders = fetch.orders_of(plan)
    changed = fetch.fetch(options.root.resolve(), plan, orders)
    print("\n".join([*map(str, changed), f"fetched and pinned in {plan.file}"]), file=sys.stderr)
    return 0


def run_pin(options: argparse.Namespace) -> int:
    """Show how the pins differ from the files, and write them."""
    from sealrun import pin

    plan = load_plan(options.root.resolve(), options.config, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))
    changed = pin.changes(plan) if options.check else pin.repin(plan)
    print("\n".join(map(str, changed)) or "every pin is what lies there", file=sys.stderr)
    return result.EXIT_FAILED if options.check and changed else result.EXIT_PASSED


def install(options: argparse.Namespace) -> int:
    """Install the environments of the stages named, or an environment by its own name."""
    for name in options.names:
        known = pipeline.stages().get(name)
        bare = venvs.Environment(name=name, smoke=("python", "-c", "pass"))
        for environment in known.environments if known else (bare,):
            venvs.install(options.root.resolve(), environment)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options; targets may stand between and after them, which argparse alone does not take."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest and (options.command != "stage" or any(argument.startswith("-") for argument in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.targets = [*options.targets, *map(Path, rest)]
    return _anchored(options)


def _anchored(options: argparse.Namespace) -> argparse.Namespace:
    """Make paths absolute that were meant from the folder the user stands in: nox has left it."""
    anchor = getattr(options, "anchor", Path.cwd())
    for name in ("config", "out", "source", "target"):
        if isinstance(value := getattr(options, name, None), Path):
            setattr(options, name, anchor / value)
    if anchor != Path.cwd():
        for name in ("targets", "locks"):
            setattr(options, name, [anchor / path for path in getattr(options, name, ())])
    if getattr(options, "json", None) not in (None, "-"):
        options.json = str(anchor / options.json)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sealrun", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    stage = commands.add_parser("stage", help="run one stage of the pipeline")
    stage.add_argument("stage")
    stage.add_argument("targets", nargs="*", type=Path, help="judge these instead of the release's own")
    stage.add_argument("--since", default="", metavar="REV", help="secrets: leave out the history that REV reaches")
    _common(stage)
    stage.add_argument(
        "--continue-on-failure",
        action="store_true",
        help="end with 0 when a gate said no, so that later stages report too",
    )
    stage.set_defaults(run=run_stage)

    release = commands.add_parser("release", help="run every stage and make the signed evidence bundle")
    _common(release)
    release.add_argument("--jobs", default="auto", help="stages side by side: a number or auto")
    release.set_defaults(run=run_release)

    verify = commands.add_parser("verify", help="check an evidence bundle")
    verify.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    verify.add_argument("--trust", type=Path, help="public key file, or folder of them (default: policy/trust)")
    verify.add_argument("--fingerprint", help="fingerprint of the one key to trust, sha256:...")
    verify.add_argument("--files", type=Path, metavar="DIR", help="the delivered candidate, to be bound byte for byte")
    verify.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    verify.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON")
    verify.set_defaults(run=run_verify)

    init = commands.add_parser("init", help="write a release.toml")
    for name in ("baseline", "candidate", "data", "name"):
        init.add_argument(f"--{name}")
    init.add_argument("--out", type=Path)
    init.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    init.set_defaults(run=run_init)

    sbom = commands.add_parser("sbom", help="write one SBOM over every locked environment")
    sbom.add_argument("target", type=Path, metavar="OUT")
    sbom.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    sbom.set_defaults(run=run_sbom)

    advisories = commands.add_parser("advisories", help="import an advisory snapshot into policy/advisories")
    advisories.add_argument("locks", nargs="*", type=Path, help="keep advisories for the packages of these locks too")
    advisories.add_argument(
        "--from", dest="source", type=Path, required=True, help="OSV's zip for PyPI, or a folder of records"
    )
    advisories.add_argument("--origin", help="where the snapshot comes from (default: its file name)")
    advisories.add_argument("--licence", default="unknown", help="the licence of the records")
    advisories.add_argument("--from-folder", dest="anchor", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    advisories.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    advisories.set_defaults(run=run_advisories)

    locks = commands.add_parser("locks", help="compile the locks (needs the network)")
    locks.add_argument("names", nargs="*", help="environments (default: all)")
    mode = locks.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="compile again and name what would change")
    mode.add_argument("--write", action="store_true", help="compile and replace what changed")
    mode.add_argument("--upgrade", action="store_true", help="like --write, with the newest versions past the cooldown")
    locks.add_argument("--cooldown", type=int, default=7, metavar="DAYS", help="age a release must have (default: 7)")
    locks.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    locks.set_defaults(run=run_locks)

    fetch = commands.add_parser("fetch", help="fetch models and data from a hub and pin them (needs the network)")
    fetch.add_argument("--role", help="baseline, candidate or data (default: all that release.toml gives a repository)")
    fetch.add_argument("--repository", help="OWNER/NAME, one that policy trusts")
    fetch.add_argument("--revision", help="the full 40-hex revision")
    fetch.add_argument("--files", help="the files to fetch, separated by commas")
    pin = commands.add_parser("pin", help="show how the pins differ from the files, and write them")
    pin.add_argument("--check", action="store_true", help="show only; end with 1 when a pin differs")
    for parsed, run in ((fetch, run_fetch), (pin, run_pin)):
        parsed.add_argument("--config", type=Path, help="release file (default: ./release.toml, else the shipped example)")
        parsed.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
        parsed.set_defaults(run=run)

    examine = commands.add_parser("doctor", help="say what this machine offers, and what production would miss")
    examine.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    examine.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON")
    examine.set_defaults(run=run_doctor)

    installs = commands.add_parser("install", help="install the environments of stages, or one by its own name")
    installs.add_argument("names", nargs="+")
    installs.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    installs.set_defaults(run=install)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="release file (default: ./release.toml, else the shipped example)")
    parser.add_argument("--out", type=Path, help="output folder (default: build in the checkout)")
    parser.add_argument("--from", dest="anchor", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON")
    parser.add_argument("--fresh", action="store_true", help="ignore earlier tool output")


if __name__ == "__main__":
    sys.exit(main())

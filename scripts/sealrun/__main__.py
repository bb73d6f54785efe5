"""`python -m sealrun`: what the nox sessions run. People use `invoke` and `nox`; both end here.

Rules: human text to standard error, machine output to standard output; every error of ours ends in its own exit code.
"""

import argparse
import sys
from pathlib import Path

from sealrun import clock, console, pipeline, result, settings, venvs
from sealrun.errors import SealrunError, UsageError
from sealrun.outcome import Verdict
from sealrun.policy.load import load_plan
from sealrun.stage import Context


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
    except SealrunError as error:
        console.complain(error)
        result.emit(result.failure(options.command, error), getattr(options, "json", None))
        return error.exit_code
    return code


def context_of(root: Path, config: Path | None, out: Path, targets: tuple[Path, ...] = ()) -> Context:
    """Return the context for the release file *config*, with outputs below *out*. Raises UsageError or InputMissing."""
    root = root.resolve()
    plan = load_plan(root, config, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))
    name = "supply-chain" if targets else plan.title
    return Context(plan=plan, root=root, out=(out if out.is_absolute() else root / out) / name, targets=targets)


def run_stage(options: argparse.Namespace) -> int:
    """Run one stage and say what it found."""
    context = context_of(options.root, options.config, options.out, tuple(options.targets))
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


def run_init(options: argparse.Namespace) -> int:
    """Write a release.toml for somebody's own model."""
    from sealrun import scaffold

    given = {name: getattr(options, name) or _ask(name) for name in ("baseline", "candidate", "data", "name")}
    written = scaffold.init(
        baseline=Path(given["baseline"]), candidate=Path(given["candidate"]), data=Path(given["data"]),
        name=given["name"], out=options.out,
    )  # fmt: skip
    print(f"written: {written}\nnext: invoke release --config {written}", file=sys.stderr)
    return 0


def _ask(name: str) -> str:
    questions = {
        "baseline": "folder of the model before the change",
        "candidate": "folder of the model to be released",
        "data": "evaluation text, a JSONL file",
        "name": "name of the release",
    }
    if not sys.stdin.isatty():
        raise UsageError(
            f"init: --{name} is missing ({questions[name]}); give it, or run init in a terminal to be asked"
        )
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

    context = context_of(options.root, None, Path("build"))
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


def install(options: argparse.Namespace) -> int:
    """Install the environments of the stages named, or an environment by its own name."""
    for name in options.names:
        known = pipeline.stages().get(name)
        bare = venvs.Environment(name=name, smoke=("python", "-c", "pass"))
        for environment in known.environments if known else (bare,):
            venvs.install(options.root.resolve(), environment)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sealrun", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    stage = commands.add_parser("stage", help="run one stage of the pipeline")
    stage.add_argument("stage")
    stage.add_argument("targets", nargs="*", type=Path, help="judge these instead of the release's own")
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
    advisories.add_argument("--from", dest="source", type=Path, required=True, help="OSV's zip for PyPI, or a folder of records")
    advisories.add_argument("--origin", help="where the snapshot comes from (default: its file name)")
    advisories.add_argument("--licence", default="unknown", help="the licence of the records")
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

    installs = commands.add_parser("install", help="install the environments of stages, or one by its own name")
    installs.add_argument("names", nargs="+")
    installs.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    installs.set_defaults(run=install)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="release file (default: ./release.toml, else the shipped example)")
    parser.add_argument("--out", type=Path, default=Path("build"), help="output folder (default: build)")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON")
    parser.add_argument("--fresh", action="store_true", help="ignore earlier tool output")


if __name__ == "__main__":
    sys.exit(main())

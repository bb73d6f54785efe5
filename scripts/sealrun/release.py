"""`invoke release`: every stage, one bundle, one verdict.

Rules: what is still fresh is judged again here, in milliseconds; anything stale goes through nox, so a release runs the same
sessions as a CI matrix; the first error decides the exit code, else a gate that said no; facts that change from run to run go
to `run.json`, never into the evidence.
"""

import gc
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from sealrun import clock, console, digest, files, network, pipeline, result, sandbox, settings, venvs
from sealrun.errors import InputMissing, ToolFailed
from sealrun.evidence import signers
from sealrun.evidence import statement as statements
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stage import Context

_LOOK_SECONDS = 0.1
_NOX_SECONDS = 24 * 3600.0
_GRACE_SECONDS = 5.0
_QUOTED_LINES = 5
_STATES = {"passed": "green", "failed": "bold red", "error": "bold red", "running": "cyan", "waiting": "dim"}


def release(context: Context, options: Sequence[str], *, jobs: str, fresh: bool) -> result.Result:
    """Run what is stale of the pipeline, and return the verdict on all of it; *options* are passed on to the sessions.

    Raises InputMissing or ToolFailed when a stage left no statement at all.
    """
    started, began = clock.now(), clock.seconds()
    context.out.mkdir(parents=True, exist_ok=True)
    with files.exclusive(context.out / ".lock"):
        try:
            if fresh or not all(pipeline.rejudge(stage, context) for stage in pipeline.stages().values()):
                _run_sessions(context, [*options, *(["--fresh"] if fresh else [])], jobs)
        finally:
            found = _result(context)
            _write_run(context, started.isoformat(timespec="seconds"), began, found)
    _show(context, found)
    return found


def _run_sessions(context: Context, options: Sequence[str], jobs: str) -> None:
    """Start nox for all stages and show how they go. A stage that fails does not stop those after it."""
    gc.enable()
    pipeline.forget(context)
    for name in (
        *(f"{context.plan.title}{suffix}" for suffix in (".evidence.tar", ".intoto.jsonl", ".model.sig")),
        "report.html",
    ):
        (context.out / name).unlink(missing_ok=True)  # nobody may ship what an earlier run made
    logs = files.empty_folder(context.out / "logs" / "nox")
    noxfile = context.root / "noxfile.py"
    command = sandbox.Command(
        name="nox",
        argv=(
            settings.interpreter(), "-m", "nox", "--noxfile", str(noxfile), "--tags", "release", "--parallel", jobs,
            "--no-color", "--", "--continue-on-failure", *options,
        ),
        cwd=context.root, environment=settings.own_environment(), logs=logs, network=sandbox.Network.OPENED,
        timeout=_NOX_SECONDS, success=tuple(range(256)),
    )  # fmt: skip
    running = sandbox.start(command)
    try:
        with Live(console=console.stderr(), refresh_per_second=10, transient=True) as live:
            while not running.ended(within=_LOOK_SECONDS):
                live.update(_stage_table(context))
    except BaseException:
        running.interrupt()
        running.end(within=_GRACE_SECONDS)
        raise
    running.wait()
    console.stderr().print(_stage_table(context))


def _stage_table(context: Context) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, stage in pipeline.stages().items():
        known = pipeline.progress_of(context, name)
        seconds = f"{known.seconds:.1f} s" if known.seconds else ""
        note = "reused" if known.reused else stage.summary if known.state == "running" else ""
        table.add_row(name, Text(known.state, style=_STATES[known.state]), seconds, Text(note, style="dim"))
    return table


def _result(context: Context) -> result.Result:
    """Return the verdict on all statements. Raises InputMissing when a stage never got to leave one."""
    found: list[statements.StageStatement] = []
    errors: list[tuple[int, str]] = []
    for name in pipeline.stages():
        progress, path = pipeline.progress_of(context, name), context.statement_path(name)
        if progress.state in ("waiting", "running"):
            errors.append((ToolFailed.exit_code, f"{name}: did not end{_last_words(context)}"))
        elif path.is_file():
            statement = statements.load(path)
            found.append(statement)
            if statement.predicate.error:
                errors.append((statement.predicate.error_code, f"{name}: {statement.predicate.error}"))
        elif progress.exit_code:
            errors.append((progress.exit_code, f"{name}: {progress.reason}"))
        else:
            errors.append((ToolFailed.exit_code, f"{name}: left no statement{_last_words(context)}"))
    outcomes = tuple(outcome for statement in found for outcome in statement.predicate.outcomes)
    failed = any(outcome.outcome is OutcomeKind.FAILED for outcome in outcomes)
    bundle = context.out / f"{context.plan.title}.evidence.tar"
    return result.Result(
        command="release",
        verdict=Verdict.ERROR if errors else Verdict.FAILED if failed else Verdict.PASSED,
        exit_code=errors[0][0] if errors else int(failed),
        controls=outcomes,
        findings=tuple(finding for statement in found for finding in statement.predicate.findings),
        error="\n".join(text for _, text in errors),
        bundle="" if errors else str(bundle),
        digest="" if errors else f"sha256:{_digest_of(bundle)}",
    )


def _last_words(context: Context) -> str:
    """Return where nox's own output is, and its last lines."""
    log = context.out / "logs" / "nox" / "nox.stderr"
    lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
    return f"; see {log.parent}" + "".join(f"\n    {line}" for line in lines[-_QUOTED_LINES:])


def _digest_of(bundle: Path) -> str:
    """Return the digest of the bundle just made. Raises InputMissing when there is none."""
    if not bundle.is_file():
        raise InputMissing(f"{bundle}: not made; run `nox -s bundle`")
    return digest.of_file(bundle)


def _fingerprint() -> str:
    return signers.release_public().fingerprint


def _show(context: Context, found: result.Result) -> None:
    out = console.stderr()
    out.print(console.checklist_table(context.plan.checklist, found.controls))
    out.print()
    _show_reuse(context)
    console.failures(found.controls)
    if found.error:
        out.print(Text(found.error, style="red"))
        return
    word = "passed" if found.verdict is Verdict.PASSED else "FAILED"
    out.print(Text(f"{context.plan.title}: {word}", style="bold green" if word == "passed" else "bold red"))
    out.print(Text(f"bundle   {found.bundle}\n         {found.digest}\nreport   {context.out / 'report.html'}"))
    out.print(Text(f"next     {console.command(context.root, 'verify', found.bundle, '--fingerprint', _fingerprint())}"))


def _show_reuse(context: Context) -> None:
    """Say which stages used earlier tool output, and why the others did not."""
    ended = [pipeline.progress_of(context, name) for name in pipeline.stages()]
    for reused, reason in dict.fromkeys(
        (each.reused, each.reason) for each in ended if each.state not in ("waiting", "running")
    ):
        names = ", ".join(each.stage for each in ended if (each.reused, each.reason) == (reused, reason))
        console.stderr().print(Text(f"{'reused' if reused else 'run':<8} {names}: {console.plain(reason)}", style="dim"))


def _write_run(context: Context, started: str, began: float, found: result.Result) -> None:
    stages = [pipeline.progress_of(context, name) for name in pipeline.stages()]
    files.write_json(
        context.out / "run.json",
        {
            "schema": "urn:sealrun:run:v1",
            "started": started,
            "began": round(began, 3),
            "seconds": round(clock.seconds() - began, 3),
            "verdict": found.verdict,
            "stages": stages,
            "host": {"kernel": platform.release(), "machine": platform.machine(), "system": platform.system()},
            "python": sys.version.split()[0],
            "surroundings": settings.host_facts(),
            "environments": venvs.installed(context.root),
            "network_opened": network.opened_since(context.root, started),
        },
    )

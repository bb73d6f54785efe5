"""`invoke ci.fleet`: many releases, side by side here or on the workers of a Dask scheduler, and one summary.

Rules: each release is a process of its own, started as if alone, so its bytes are those of a single run; one that fails, or is
no release at all, never stops the others; a worker that ended without a result is lost, and what it had is tried again; what
comes back is believed by digest alone; all are judged for one day. Releases that write to one place share the baseline's
records (`scoring`).

Leaves in OUT/fleet/: `summary.json`, `summary.html`, a result for each release, and what each printed.
"""

import ipaddress
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct, structs

from sealrun import clock, digest, files, network, pipeline, result, sandbox, settings, venvs
from sealrun.errors import InputMissing, SealrunError, ToolFailed, UsageError
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.reports import fleet
from sealrun.reports.fleet import Fleet, Member
from sealrun.stage import INSIDE, Context, context_of

LOCAL = "local"
FOLDER = "fleet"
ENVIRONMENT = venvs.Environment(name="fleet", smoke=("python", "-c", "import distributed, fsspec"))
_SCRIPT = "run_fleet.py"
_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 5.0
_MOST_SECONDS = 7 * 24 * 3600.0
_EXIT_CODES = tuple(range(256))

type Show = Callable[[Sequence[Member]], None]


class Terms(Struct, frozen=True, kw_only=True):
    """How a fleet is run: where, by how many workers here, how often a lost one is made good, and by which place inputs and
    outputs travel where the workers do not see this machine's folders."""

    on: str = LOCAL
    workers: int = 0
    retries: int = 2
    place: str = ""
    fresh: bool = False


class _Returned(Struct, frozen=True, kw_only=True):
    """What the Dask script leaves of a release."""

    where: str = ""
    seconds: float = 0.0
    attempts: int = 1
    error: str = ""
    exit_code: int = 0


def run(root: Path, patterns: Sequence[str], out: Path | None, terms: Terms, show: Show) -> Fleet:
    """Release everything that *patterns* name, below *out*, and leave the summary. *show* is told how they go.

    Raises UsageError or InputMissing when there is nothing to begin with, ToolFailed when the scheduler cannot be used.
    """
    began, day = clock.seconds(), settings.variable("SOURCE_DATE_EPOCH") or str(int(clock.now().timestamp()))
    scheduler = _scheduler(terms.on)
    below = files.output_folder(root / (out or "build"))
    below.mkdir(exist_ok=True)
    folder = below / FOLDER
    folder.mkdir(exist_ok=True)
    with files.exclusive(folder / ".lock"):
        contexts, unfit = _planned(root, _matched(patterns), below)
        variables = {**settings.own_environment(), "SOURCE_DATE_EPOCH": day}
        for old in ("results", "logs"):
            files.empty_folder(folder / old)
        if scheduler:
            done = _on_dask(root, contexts, folder, scheduler, terms, variables, show)
        else:
            done = _here(root, contexts, folder, terms, variables, show)
        members = tuple(sorted((*done, *unfit), key=lambda member: (member.config, member.title)))
        made = _summary(terms.on, day, clock.seconds() - began, members)
        files.write_json(folder / "summary.json", made)
        files.write_bytes(folder / "summary.html", fleet.render(made))
    return made


def _scheduler(on: str) -> str:
    """Return the address of the scheduler that *on* names, empty for this machine. Raises UsageError."""
    if on == LOCAL:
        return ""
    parts = urlsplit(on)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("dask", "dask+tls") or not host or not port or parts.path or parts.query:
        raise UsageError(f"--on: got {on!r}, expected local, dask://HOST:PORT or dask+tls://HOST:PORT")
    if not _is_loopback(host) and not network.may_open(f"the scheduler {host}"):
        raise UsageError(f"--on: {host} is across the network; run the command again with INVARLOCK_ALLOW_NETWORK=1")
    return f"{'tls' if parts.scheme == 'dask+tls' else 'tcp'}://{parts.netloc.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _matched(patterns: Sequence[str]) -> list[Path]:
    """Return the files that *patterns* name, each once, sorted. Raises InputMissing for a pattern that names none."""
    found: set[Path] = set()
    for pattern in patterns:
        anchor, rest = (Path("/"), pattern[1:]) if pattern.startswith("/") else (Path(), pattern)
        matched = [path.resolve() for path in anchor.glob(rest) if path.is_file()] if rest else []
        if not matched:
            raise InputMissing(f"ci.fleet: {pattern} names no file; correct the pattern, or run `invoke init` to write one")
        found.update(matched)
    return sorted(found)


def _planned(root: Path, configs: Sequence[Path], below: Path) -> tuple[dict[str, Context], list[Member]]:
    """Return the context of each release by its title, and those that cannot be released: broken, or two of one title."""
    contexts: dict[str, Context] = {}
    unfit: list[Member] = []
    twins: set[str] = set()
    for config in configs:
        try:
            context = context_of(root, config, below)
        except SealrunError as error:
            unfit.append(_unfit(config.stem, config, error))
            continue
        title = context.plan.title
        if title in contexts:
            twins.add(title)
            first = contexts[title].plan.file
            unfit.append(_unfit(title, config, UsageError(f"{config}: is {title}, and so is {first}; rename one of them")))
        else:
            contexts[title] = context
    for title in sorted(twins):
        config = contexts.pop(title).plan.file
        unfit.append(_unfit(title, config, UsageError(f"{config}: another file is {title} as well; rename one of them")))
    return contexts, unfit


def _unfit(title: str, config: Path, error: SealrunError) -> Member:
    return Member(title=title, config=str(config), state="error", exit_code=error.exit_code, error=str(error))


def _arguments(context: Context, result_file: Path, jobs: str, terms: Terms) -> tuple[str, ...]:
    """Return the command line of a release, as `python -m sealrun` and `invoke` take it."""
    fresh = ("--fresh",) if terms.fresh else ()
    where = (f"--config={context.plan.file}", f"--out={context.out.parent}", f"--json={result_file}", f"--jobs={jobs}")
    return ("release", *where, *fresh)


# Here -----------------------------------------------------------------------------------------------------------------


def _here(
    root: Path, contexts: Mapping[str, Context], folder: Path, terms: Terms, variables: Mapping[str, str], show: Show
) -> list[Member]:
    """Run the releases as processes of this machine, `workers` at a time."""
    workers = terms.workers or max(1, min(settings.processors(), len(contexts)))
    jobs = str(max(1, settings.processors() // workers))
    members = {title: Member(title=title, config=str(context.plan.file)) for title, context in contexts.items()}
    waiting, running = deque(contexts), dict[str, sandbox.Running]()

    def begin(title: str) -> None:
        argv = _arguments(contexts[title], folder / "results" / f"{title}.json", jobs, terms)
        running[title] = sandbox.start(_program(root, folder, title, (settings.interpreter(), "-P", "-m", "sealrun", *argv,
                                                                      f"--root={root}"), variables))  # fmt: skip
        attempts = members[title].attempts + 1
        members[title] = structs.replace(
            members[title], state="running", attempts=attempts, where=f"process {running[title].pid}"
        )

    with _interrupting(running):
        while waiting or running:
            while waiting and len(running) < workers:
                begin(waiting.popleft())
            for title, process in list(running.items()):
                if process.ended(within=_LOOK_SECONDS / len(running)):
                    del running[title]
                    seconds, lost = clock.seconds() - process.started, _end(process)
                    again = _is_lost(folder, title) and members[title].attempts <= terms.retries
                    members[title] = (
                        structs.replace(members[title], state="waiting", note="worker lost, tried again")
                        if again
                        else _ended(members[title], contexts[title], folder, seconds, lost)
                    )
                    waiting.extend([title] if again else [])
            show([_watched(member, contexts[member.title]) for member in members.values()])
    return list(members.values())


def _program(root: Path, folder: Path, name: str, argv: tuple[str, ...], variables: Mapping[str, str]) -> sandbox.Command:
    return sandbox.Command(
        name=name, argv=argv, cwd=root, environment=variables, logs=folder / "logs", network=sandbox.Network.OPENED,
        timeout=_MOST_SECONDS, success=_EXIT_CODES,
    )  # fmt: skip


@contextmanager
def _interrupting(running: Mapping[str, sandbox.Running]) -> Iterator[None]:
    """Leave no process behind, however this ends."""
    try:
        yield
    finally:
        for process in running.values():
            process.interrupt()
        for process in running.values():
            process.end(within=_GRACE_SECONDS)


def _end(process: sandbox.Running) -> str:
    """Return what went wrong with the process itself, which has ended or is made to."""
    try:
        process.wait()
    except ToolFailed as error:
        return str(error)
    return ""


def _is_lost(folder: Path, title: str) -> bool:
    return not (folder / "results" / f"{title}.json").is_file()


def _watched(member: Member, context: Context) -> Member:
    """Return *member* with the stage that it is at."""
    if member.state != "running":
        return member
    states = [pipeline.progress_of(context, name) for name in pipeline.stages()]
    at = [state.stage for state in states if state.state == "running"]
    done = sum(state.state not in ("running", "waiting") for state in states)
    return structs.replace(member, note=f"{done} of {len(states)} stages" + (f", at {', '.join(at)}" if at else ""))


# On Dask --------------------------------------------------------------------------------------------------------------


def _on_dask(
    root: Path, contexts: Mapping[str, Context], folder: Path, scheduler: str, terms: Terms, variables: Mapping[str, str],
    show: Show,
) -> list[Member]:  # fmt: skip
    """Hand the releases to the workers of *scheduler*, by way of the environment `fleet`. Raises ToolFailed, InputMissing."""
    python = venvs.install(root, ENVIRONMENT).python
    job = folder / "job.json"
    progress = files.empty_folder(folder / "progress")
    passed_on = ("SOURCE_DATE_EPOCH", "INVARLOCK_ALLOW_NETWORK")
    files.write_json(job, {
        "scheduler": scheduler, "place": terms.place, "root": str(root), "out": str(folder.parent), "retries": terms.retries,
        "folder": str(folder), "progress": str(progress),
        "variables": {name: variables[name] for name in passed_on if name in variables},
        "shared": _uncommitted(root, folder.parent),
        "releases": [_described(root, context, folder, terms) for context in contexts.values()],
    })  # fmt: skip
    argv = (str(python), "-I", "-B", str(INSIDE / _SCRIPT), str(job))
    process = sandbox.start(_program(root, folder, "dask", argv, variables))
    with _interrupting({"dask": process}):
        while not process.ended(within=1.0):
            show([_told(context, progress) for context in contexts.values()])
        log = folder / "logs" / "dask.stderr"
        if not (folder / "results" / "done.json").is_file():
            said = log.read_text("utf-8", "replace").strip().splitlines()
            raise ToolFailed(f"ci.fleet: {said[-1] if said else 'the Dask client ended early'}; see {log}")
    members = [_from_dask(context, folder) for context in contexts.values()]
    show(members)
    return members


def _uncommitted(root: Path, out: Path) -> dict[str, str]:
    """Return what git would take of *root* but holds no commit of, by digest: workers need it to judge the same tree. What
    lies below *out* is our own."""
    with files.private_folder() as logs:
        listed = sandbox.run(
            sandbox.Command(
                name="git", argv=(sandbox.program("git"), "-C", str(root), "ls-files", "-z", "--others", "--modified",
                                  "--exclude-standard"),
                cwd=root, environment=settings.judged_environment(logs), logs=logs, writable=(logs,),
            )
        ).stdout.read_bytes()  # fmt: skip
    names = sorted({name.decode() for name in listed.split(b"\0") if name})
    return {name: digest.of_file(root / name) for name in names if (root / name).is_file() and out not in (root / name).parents}


def _described(root: Path, context: Context, folder: Path, terms: Terms) -> dict[str, Any]:
    """Return a release as the workers are told it: its command line, and its files by digest.

    Raises UsageError for a release file outside the checkout.
    """
    plan, base = context.plan, context.plan.base
    if not plan.file.is_relative_to(root):
        raise UsageError(f"{plan.file}: lies outside {root}, where workers do not find it; move it there")
    models = {
        f"{ref.path}/{name}": sha for ref in (plan.release.baseline, plan.release.candidate) for name, sha in ref.files.items()
    }
    named = {**models, plan.release.data.path: plan.release.data.sha256}
    inputs = {(base / name).relative_to(root).as_posix(): sha for name, sha in named.items() if (base / name).is_file()}
    inputs[plan.file.relative_to(root).as_posix()] = plan.release_sha256
    return {"title": plan.title, "config": plan.file.relative_to(root).as_posix(), "inputs": inputs,
            "stages": list(pipeline.stages()), "options": ["--fresh"] if terms.fresh else []}  # fmt: skip


def _told(context: Context, progress: Path) -> Member:
    member, path = Member(title=context.plan.title, config=str(context.plan.file)), progress / f"{context.plan.title}.json"
    if not path.is_file():
        return member
    told = files.decode(files.read_bytes(path, "progress"), dict[str, str], str(path))
    return structs.replace(member, state=told["state"], note=told["note"], where=told["where"])


def _from_dask(context: Context, folder: Path) -> Member:
    title = context.plan.title
    member = Member(title=title, config=str(context.plan.file))
    path = folder / "results" / f"{title}.returned.json"
    if not path.is_file():
        return _ended(member, context, folder, 0.0, "the Dask client left no word of it")
    told = files.decode(files.read_bytes(path, "result"), _Returned, str(path), ToolFailed)
    member = structs.replace(member, attempts=told.attempts, where=told.where)
    if told.error:
        code = told.exit_code or ToolFailed.exit_code
        return structs.replace(member, state="error", exit_code=code, error=told.error, seconds=told.seconds)
    return _ended(member, context, folder, told.seconds, "")


# What came of them ----------------------------------------------------------------------------------------------------


def _ended(member: Member, context: Context, folder: Path, seconds: float, lost: str) -> Member:
    """Return *member* as its result says it ended; its bundle is believed when its bytes are those of the result."""
    member = structs.replace(member, seconds=round(seconds, 1), note="")
    try:
        if _is_lost(folder, member.title):
            raise ToolFailed(lost or f"{member.title}: its process left no result; see {folder / 'logs'}")
        path = folder / "results" / f"{member.title}.json"
        found = files.decode(files.read_bytes(path, "result"), result.Result, str(path), ToolFailed)
        bundle = context.out / f"{member.title}.evidence.tar" if found.bundle else None
        if bundle and f"sha256:{digest.of_file(bundle)}" != found.digest:
            raise ToolFailed(f"{bundle}: differs from the digest that its release named; run it again")
    except (SealrunError, OSError) as error:
        code = error.exit_code if isinstance(error, SealrunError) else ToolFailed.exit_code
        return structs.replace(member, state="error", exit_code=code, error=str(error))
    return structs.replace(
        member, state=found.verdict.value, exit_code=found.exit_code, error=found.error, digest=found.digest,
        bundle=str(bundle or ""),
        failed=tuple(outcome.control for outcome in found.controls if outcome.outcome is OutcomeKind.FAILED),
    )  # fmt: skip


def _summary(on: str, day: str, seconds: float, members: tuple[Member, ...]) -> Fleet:
    errors = [member.exit_code for member in members if member.state == Verdict.ERROR.value]
    failed = any(member.state == Verdict.FAILED.value for member in members)
    return Fleet(
        on=on,
        judged_at=clock.judged_at(day).isoformat(),
        seconds=round(seconds, 1),
        verdict=Verdict.ERROR if errors else Verdict.FAILED if failed else Verdict.PASSED,
        exit_code=errors[0] if errors else int(failed),
        releases=members,
    )

"""A stage: what it is called, what it needs, how it gathers evidence and how that evidence is judged.

Rules: `gather` runs the real tools behind the sandbox and leaves files below its own evidence folder; `judge` is pure: it
reads evidence and the plan, and returns outcomes for exactly the controls that the stage declares; stages never import each
other and hand over by files and statements, whose digests are checked on every hand-over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from msgspec import UNSET

from sealrun import clock, digest, files, sandbox, settings, venvs
from sealrun.errors import InputMissing, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence import statement as statements
from sealrun.outcome import Judgement, Verdict
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan, Posture
from sealrun.policy.repository import load_foreign_plan

INSIDE = Path(__file__).parent / "inside"
_MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a stage works. `root` is the repository that is judged, `out` is `build/NAME-VERSION`, `targets` are explicit
    things to judge instead of the release's own (`nox -s audit -- LOCK...`), `since` the revision whose history needs no
    look (`nox -s secrets -- --since REV`). `home` is Sealrun's checkout where that is another one than `root`; `report_only`
    says that nobody enforces what is judged, and then everything says so. `advisories` is a folder with the facts and the
    snapshot to audit by, where these are not the checkout's own; `cache` is a folder of evidence that jobs share."""

    plan: Plan
    root: Path
    out: Path
    targets: tuple[Path, ...] = ()
    since: str = ""
    home: Path | None = None
    report_only: bool = False
    advisories: Path | None = None
    cache: Path | None = None

    @property
    def tools(self) -> Path:
        """The checkout whose `requirements/` lock the tools' environments, and whose rules the secret scan has."""
        return self.home or self.root

    def keeper(self, environment: str) -> Path:
        """The folder whose `requirements/` lock *environment*: ours, or the judged repository's for what is its own alone."""
        return self.tools if venvs.lock_path(self.tools, environment).is_file() else self.root

    def evidence(self, stage: str) -> Path:
        """The folder that *stage* leaves its evidence in."""
        return self.out / "evidence" / stage

    def logs(self, stage: str) -> Path:
        """The folder for what programs printed; not evidence, since it varies from run to run."""
        return self.out / "logs" / stage

    def statement_path(self, stage: str) -> Path:
        """Where the statement of *stage* lies."""
        return self.out / "statements" / f"{stage}.json"

    def data(self) -> Path:
        """The evaluation data. Raises UsageError or InputMissing."""
        return files.regular_file(self.plan.base, self.plan.release.data.path, "data.path")

    def upstream(self, stage: str) -> statements.StageStatement:
        """Return the statement of *stage* after checking it and every file it names.

        Raises InputMissing (not run, naming the session), ToolFailed (it ended in an error) or VerificationFailed (a file
        differs from its statement, or the statement is of another plan).
        """
        path = self.statement_path(stage)
        if not path.is_file():
            raise InputMissing(f"{stage}: no statement at {path}; run `nox -s {stage}` first")
        statement = statements.load(path)
        if statement.predicate.stage != stage or statement.predicate.plan != self.plan.digest:
            raise VerificationFailed(f"{stage}: the statement {path} is of another plan; run `nox -s {stage}` again")
        if statement.predicate.verdict is Verdict.ERROR:
            raise InputMissing(f"{stage}: ended in an error ({statement.predicate.error}); mend it, run `nox -s {stage}`")
        if statement.predicate.report_only is not UNSET:
            raise InputMissing(f"{stage}: left a report that is not enforced; run `nox -s {stage}` without --report-only")
        check_files(self.evidence(stage), statement)
        return statement


@dataclass(frozen=True, kw_only=True)
class Work:
    """What `gather` works with: its stage and context, the evidence folder to fill, a private temporary folder, and `shown`
    beside that: what a program is shown in there, it can read but not change."""

    stage: "Stage"
    context: Context
    out: Path
    tmp: Path
    shown: Path
    networks: list[sandbox.Network]
    barriers: set[str] = field(default_factory=set)
    spent: dict[str, float] = field(default_factory=dict)  # seconds of each program
    shard: shards.Shard | None = None  # the share to gather, for `split`
    parts: tuple[Path, ...] = ()  # what all shards left, for `gather`

    def start(
        self, name: str, environment: str, argv: Sequence[str], *, success: tuple[int, ...] = (0,),
        loopback: bool = False, variables: Mapping[str, str] | None = None, cwd: Path | None = None,
        seconds: float | None = None, writable: tuple[Path, ...] = (),
    ) -> sandbox.Running:  # fmt: skip
        """Start program *argv[0]* of *environment* sandboxed; it may write to `out`, `tmp` and *writable* alone.

        *name* names its log files; `success` are the exit codes of a tool that worked; `seconds` bounds its wall clock
        (default: the policy's limit for this stage). Raises ToolFailed or InputMissing.
        """
        venv = venvs.existing(self.context.keeper(environment), environment)
        plan, root = self.context.plan, self.context.root
        limits = plan.gates.limits
        return sandbox.start(
            sandbox.Command(
                name=name, argv=(str(venv.program(argv[0])), *argv[1:]), cwd=cwd or self.tmp,
                environment={**settings.judged_environment(self.tmp), **(variables or {})},
                logs=self.context.logs(self.stage.name), writable=(self.out, self.tmp, *writable), loopback=loopback,
                guarded=(root / "policy", root / "requirements", *_named(plan)),
                strict=plan.release.posture is Posture.PRODUCTION, timeout=seconds or limits.seconds(self.stage.name),
                memory=limits.memory_mib * _MIB, output_limit=limits.output_mib * _MIB, processes=limits.processes,
                success=success,
            )
        )  # fmt: skip

    def finish(self, running: sandbox.Running) -> sandbox.Completed:
        """Wait for *running*, look at what it left, and note what its network probe saw. Raises ToolFailed."""
        odd: list[str] = []
        try:
            completed = running.wait()
        finally:
            for folder in running.command.writable:
                odd += files.remove_odd(folder, links_inside=folder == self.tmp)
        if odd:
            raise ToolFailed(f"{running.command.name}: left {odd[0]}, removed; expected folders and plain files alone")
        advisory = not sandbox.barriers.named(completed.barrier).kernel
        self.networks.append(sandbox.Network.OPENED if advisory else completed.network)
        self.barriers.add(completed.barrier)
        self.spent[running.command.name] = round(completed.seconds, 3)
        return completed

    def run(self, name: str, environment: str, argv: Sequence[str], **options: object) -> sandbox.Completed:
        """Start and finish one program; options as for `start`."""
        return self.finish(self.start(name, environment, argv, **options))  # type: ignore[arg-type]

    def inside(self, script: str, *arguments: str) -> tuple[str, ...]:
        """Return the argv that runs our own *script* of `inside/` with an environment's isolated interpreter."""
        return "python", "-I", "-B", str(INSIDE / script), *arguments


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Environments to install, and tools as (distribution, environment) pairs that the statement names with their versions."""

    environments: tuple[venvs.Environment, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pipeline step. `environments` and `tools` are what it always needs, `also` what a plan makes it need in addition.

    `inputs` returns what the stage reads, name to sha256, without running anything; it may raise InputMissing. `seal` is
    what remains to be done once the statement stands: only the bundle has such a thing. `split` gathers one shard
    (`work.shard`), from all of which (`work.parts`) `gather` leaves what it leaves without them.
    """

    name: str
    summary: str
    controls: tuple[str, ...]
    inputs: Callable[[Context], Mapping[str, digest.Sha256]]
    gather: Callable[[Context, Work], None]
    judge: Callable[[Context], Judgement]
    requires: tuple[str, ...] = ()
    environments: tuple[venvs.Environment, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    also: Callable[[Plan], Needs] | None = None
    seal: Callable[[Context, statements.StageStatement], None] | None = None
    takes_targets: bool = False
    split: Callable[[Context, Work], None] | None = None

    def needs(self, plan: Plan) -> Needs:
        """Return all that the stage needs for *plan*."""
        also = self.also(plan) if self.also else Needs()
        return Needs(
            environments=tuple(dict.fromkeys((*self.environments, *also.environments))),
            tools=tuple(dict.fromkeys((*self.tools, *also.tools))),
        )


def plan_of(root: Path, config: Path | None) -> Plan:
    """Return the plan of the release file *config*, judged today or at SOURCE_DATE_EPOCH. Raises UsageError or InputMissing."""
    return load_plan(root, config, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))


def foreign_plan_of(home: Path, tree: Path) -> Plan:
    """Return the plan for judging the repository *tree* by Sealrun's checkout *home*. Raises UsageError or InputMissing."""
    return load_foreign_plan(home, tree, clock.judged_at(settings.variable("SOURCE_DATE_EPOCH")))


def context_of(
    root: Path, config: Path | None, out: Path | None = None, targets: tuple[Path, ...] = (), since: str = "",
    tree: Path | None = None, report_only: bool = False, cache: Path | None = None,
) -> Context:  # fmt: skip
    """Return the context for the release file *config* of the checkout *root*, or for judging the repository *tree*.

    Outputs lie below *out* (default: `build` of what is judged); *cache* as SEALRUN_CACHE. Raises UsageError or InputMissing.
    """
    root, tree = root.resolve(), (tree or root).resolve()
    plan = plan_of(root, config) if tree == root else foreign_plan_of(root, tree)
    name = "supply-chain" if targets or since or tree != root else plan.title
    below = files.output_folder(tree / (out or "build"))
    if (below / name).is_symlink():
        raise UsageError(f"--out: {below / name} is a link; remove it, or choose another folder")
    home = None if tree == root else root
    shared = cache or (root / named if (named := settings.variable("SEALRUN_CACHE")) else None)
    return Context(plan=plan, root=tree, out=below / name, targets=targets, since=since, home=home, report_only=report_only,
                   cache=files.output_folder(shared, "--cache") if shared else None)  # fmt: skip


def _named(plan: Plan) -> list[Path]:
    """Return the release file, and the models and data that it names in its folder."""
    paths = [PurePosixPath(ref.path) for ref in (plan.release.baseline, plan.release.candidate, plan.release.data)]
    return [plan.file, *(plan.base / path for path in paths if not path.is_absolute() and ".." not in path.parts)]


def check_files(folder: Path, statement: statements.StageStatement | shards.ShardStatement) -> None:
    """Raise VerificationFailed unless *folder* holds exactly the subjects of *statement*, byte for byte."""
    wanted = statement.digests()
    found = set(files.walk_files(folder)) if folder.is_dir() else set()
    for name in sorted(found | wanted.keys()):
        if name not in wanted:
            raise VerificationFailed(f"{folder / name}: not named by the statement; remove it or run the stage again")
        if name not in found or digest.of_file(folder / name) != wanted[name]:
            raise VerificationFailed(f"{folder / name}: missing or changed since it was stated; run the stage again")


def read_report[T](path: Path, kind: type[T]) -> T:
    """Return a tool's JSON report as a *kind*. Raises ToolFailed when it is missing, empty or not what was expected."""
    try:
        data = files.read_bytes(path, "report")
    except InputMissing as error:
        raise ToolFailed(f"{path.name}: the tool wrote no report; see its log beside the evidence") from error
    return files.decode(data, kind, path.name, ToolFailed)

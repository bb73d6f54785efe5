"""Run one stage: reuse or gather its evidence, judge it afresh, leave a statement.

Rules: evidence first, then the verdict, also when a tool fails; what may be reused is for `reuse` to say; verdicts are never
reused; the statement is written last, whole or not at all, so a
stage that was killed simply has none. Stages are found by looking: one module in `stages/`, one stage.
"""

import functools
import importlib
import importlib.util
import pkgutil
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from msgspec import UNSET, Struct, structs

import sealrun.stages
from sealrun import __version__, cache, clock, digest, files, masking, reuse, venvs
from sealrun.errors import INTERRUPTED, InputMissing, SealrunError, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence import statement as statements
from sealrun.evidence.shards import Shard
from sealrun.outcome import Judgement, Verdict, verdict
from sealrun.stage import Context, Stage, Work, check_files, context_of

_RAN_NOTHING = "unused"
_LOADED: dict[str, Stage] = {}  # stages of the repository that is judged
_STAMP, _NOT_ENFORCED = "not-enforced.txt", b"A report only (--report-only): no gate was enforced, and no bundle takes it.\n"


class Progress(Struct, frozen=True, kw_only=True):
    """What is known of a stage while and after it runs; kept outside the evidence, for the live view and `run.json`.

    `began` is on the machine's monotonic clock, so only differences mean something; `programs` are the seconds of each."""

    stage: str
    state: str
    began: float = 0.0
    seconds: float = 0.0
    programs: dict[str, float] = {}
    reused: bool = False
    barrier: str = ""
    reason: str = ""
    exit_code: int = 0


def load(module: Path) -> Stage:
    """Return the stage that the file *module* declares as STAGE, and know it from now on. Raises UsageError."""
    spec = importlib.util.spec_from_file_location(f"sealrun_stage_{module.stem}", module)
    if spec is None or spec.loader is None or not module.is_file():
        raise UsageError(f"{module}: no Python module, expected one that declares STAGE; correct the path given to register()")
    declared = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(declared)
    stage = getattr(declared, "STAGE", None)
    if not isinstance(stage, Stage):
        raise UsageError(f"{module}: declares no STAGE, expected a sealrun.stage.Stage; see CONTRIBUTING.md, Add a stage")
    if stage.name in stages():
        raise UsageError(f"{module}: got the stage {stage.name!r}, which Sealrun has itself; call it otherwise")
    _LOADED[stage.name] = stage
    stages.cache_clear()
    return stage


@functools.cache
def stages() -> Mapping[str, Stage]:
    """Return every stage by name, each after those it requires."""
    found = dict(_LOADED) | {
        info.name: importlib.import_module(f"{sealrun.stages.__name__}.{info.name}").STAGE
        for info in pkgutil.iter_modules(sealrun.stages.__path__)
    }
    order = TopologicalSorter({name: stage.requires for name, stage in sorted(found.items())}).static_order()
    return {name: found[name] for name in order if name in found}


def stage_named(name: str) -> Stage:
    """Return the stage *name*. Raises UsageError naming the known ones."""
    if name not in stages():
        raise UsageError(f"stage: got {name!r}, expected one of {', '.join(stages())}")
    return stages()[name]


def install(root: Path, name: str, config: Path | None = None, tree: Path | None = None) -> None:
    """Install what the stage *name* needs for the release file *config*, or the environment of that name. Opens the network.

    An environment that only the repository *tree* locks is its own.

    Raises UsageError, InputMissing or ToolFailed.
    """
    stage = stages().get(name)
    environments: Sequence[venvs.Environment] = (venvs.Environment(name=name, smoke=("python", "-c", "pass")),)
    heavy = True
    if stage and stage.also and tree is None:
        plan = context_of(root, config).plan
        environments, heavy = stage.needs(plan).environments, plan.release.certify.heavy
    elif stage:
        environments = stage.environments
    for environment in environments:
        ours = tree is None or venvs.lock_path(root, environment.name).is_file()
        venvs.install(root if ours else tree or root, environment, heavy=heavy)


def execute(stage: Stage, context: Context, *, fresh: bool = False, shards_of: int = 0) -> statements.StageStatement:
    """Run *stage* and return its statement, which is also on disk. `fresh` ignores earlier tool output; with `shards_of` the
    output is made from that many shards.

    Raises UsageError, InputMissing or VerificationFailed when the stage cannot start; a tool's failure ends in a statement
    with verdict error.
    """
    context.logs(stage.name).parent.mkdir(parents=True, exist_ok=True)
    with files.exclusive(context.logs(stage.name).parent / f"{stage.name}.lock"):
        started = clock.seconds()
        _note(context, Progress(stage=stage.name, state="running", began=started))
        try:
            inputs = reuse.inputs_of(stage, context)
            key = reuse.key_of(stage, context, inputs)
            parts = _parts(stage, context, key, shards_of)
            kept, reason = (None, "asked for") if fresh else reuse.earlier(stage, context, key)
            if kept is None and context.cache and not fresh:
                kept, reason = reuse.shared(stage, context, context.cache, key, reason)
            return _conclude(stage, context, inputs, key, kept, reason, started, parts)
        except SealrunError as error:
            _note(context, Progress(stage=stage.name, state="error", reason=str(error), exit_code=error.exit_code))
            context.statement_path(stage.name).unlink(missing_ok=True)  # an earlier verdict is no longer this tree's
            raise


def execute_shard(stage: Stage, context: Context, shard: Shard) -> shards.ShardStatement:
    """Gather one *shard* of *stage* and return its statement, which is also on disk; nothing is judged.

    Raises UsageError for a stage that is not split, InputMissing when it cannot start, ToolFailed.
    """
    split = _split_of(stage)
    context.logs(stage.name).parent.mkdir(parents=True, exist_ok=True)
    with files.exclusive(context.logs(stage.name).parent / f"{stage.name}.lock"):
        key = reuse.key_of(stage, context, reuse.inputs_of(stage, context))
        folder = files.empty_folder(shards.place(context.out, stage.name, shard))
        network, _, gathered = _run(stage, context, folder / shards.PART, split, {}, shard=shard)
        _refuse_secrets(folder / shards.PART)
        statement = shards.ShardStatement(
            subject=statements.resources(digest.describe_files(folder / shards.PART, gathered)),
            predicate=shards.ShardPredicate(
                stage=stage.name, number=shard.number, of=shard.of, python=platform.python_version(), plan=context.plan.digest,
                reuse_key=key, network=network,  # type: ignore[arg-type]
            ),
        )  # fmt: skip
        files.write_json(folder / shards.STATEMENT, statement)
    return statement


def _split_of(stage: Stage) -> Callable[[Context, Work], None]:
    if stage.split is None:
        able = ", ".join(name for name, each in stages().items() if each.split)
        raise UsageError(f"{stage.name}: is not split into shards, expected one of {able}; leave out --shard")
    return stage.split


def _parts(stage: Stage, context: Context, key: digest.Sha256, of: int) -> tuple[Path, ...]:
    """Return what all *of* shards left, checked. Raises InputMissing for one that is missing, VerificationFailed for one that
    was changed or made from something else."""
    found = []
    for shard in [Shard(number, of) for number in range(1, of + 1)]:
        folder = shards.place(context.out, stage.name, shard)
        if not (folder / shards.STATEMENT).is_file():
            raise InputMissing(f"{stage.name}: shard {shard} is missing; run `nox -s {stage.name} -- --shard {shard}`")
        statement = shards.load(folder)
        if (statement.predicate.reuse_key, statement.predicate.plan) != (key, context.plan.digest):
            raise VerificationFailed(f"{folder}: made from other inputs, locks, tools or plan; run shard {shard} again")
        check_files(folder / shards.PART, statement)
        found.append(folder / shards.PART)
    if found:
        _split_of(stage)
    return tuple(found)


def rejudge(stage: Stage, context: Context) -> statements.StageStatement | None:
    """Return the new statement on evidence that may be used again, or None when the tools would have to run."""
    started = clock.seconds()
    try:
        inputs = reuse.inputs_of(stage, context)
        key = reuse.key_of(stage, context, inputs)
        kept, reason = reuse.earlier(stage, context, key)
        return _conclude(stage, context, inputs, key, kept, reason, started) if kept else None
    except SealrunError:
        return None


def _conclude(
    stage: Stage, context: Context, inputs: Mapping[str, digest.Sha256], key: digest.Sha256,
    kept: reuse.Kept | None, reason: str, started: float, parts: tuple[Path, ...] = (),
) -> statements.StageStatement:  # fmt: skip
    """Gather where nothing can be used again, judge, state, seal. Raises what `seal` raises."""
    network, barrier, failure, judgement = _RAN_NOTHING, "", None, Judgement(outcomes=())
    spent: dict[str, float] = {}
    try:
        if kept is None:
            network, barrier, gathered = _gather(stage, context, spent, parts)
        else:
            network, gathered = kept.network, kept.gathered
        judgement = stage.judge(context)
        if context.report_only:
            judgement = structs.replace(judgement, reports={**judgement.reports, _STAMP: _NOT_ENFORCED})
        _write_reports(context.evidence(stage.name), judgement, gathered)
        _check_controls(stage, judgement)
        if kept is None or kept.shared:  # another machine knows other secrets
            _refuse_secrets(context.evidence(stage.name))
        if kept is None and context.cache:
            cache.put(context.cache, stage.name, key, network, context.evidence(stage.name), gathered)
    except SealrunError as error:
        failure = error
        gathered = ()
    except BaseException as error:
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else SealrunError.exit_code
        _note(context, Progress(stage=stage.name, state="error", reason=type(error).__name__, exit_code=code))
        context.statement_path(stage.name).unlink(missing_ok=True)  # an earlier verdict may not stay behind
        raise
    statement = _masked(_state(stage, context, inputs, key, network, gathered, judgement, failure))
    statements.write(context.statement_path(stage.name), statement)
    if stage.seal and failure is None:
        stage.seal(context, statement)
    _note(
        context,
        Progress(
            stage=stage.name,
            state=statement.predicate.verdict.value,
            began=round(started, 3),
            programs=spent,
            seconds=round(clock.seconds() - started, 3),
            reused=kept is not None,
            barrier=barrier,
            reason=reason,
            exit_code=statement.predicate.error_code,
        ),
    )
    return statement


def progress_path(context: Context, stage: str) -> Path:
    """Where the progress of *stage* is noted."""
    return context.out / "run" / f"{stage}.json"


def _gather(
    stage: Stage, context: Context, spent: dict[str, float], parts: tuple[Path, ...]
) -> tuple[str, str, tuple[str, ...]]:
    """Run the stage's tools, and return as `_run` does; what was seen while *parts* were made counts as well."""
    context.statement_path(stage.name).unlink(missing_ok=True)
    network, barrier, gathered = _run(stage, context, context.evidence(stage.name), stage.gather, spent, parts=parts)
    opened = any(shards.load(part.parent).predicate.network == "opened" for part in parts)
    return "opened" if opened else network, barrier, gathered


def _run(
    stage: Stage, context: Context, folder: Path, gather: Callable[[Context, Work], None], spent: dict[str, float], *,
    shard: Shard | None = None, parts: tuple[Path, ...] = (),
) -> tuple[str, str, tuple[str, ...]]:  # fmt: skip
    """Run the tools that *gather* runs, for *folder*. Returns what the network probes saw, the barrier, and the names of the
    files gathered; what each program took is noted in *spent*."""
    files.empty_folder(context.logs(stage.name))
    out = files.empty_folder(folder)
    with files.private_folder() as home:
        tmp, shown = (files.empty_folder(home / name) for name in ("tmp", "shown"))
        work = Work(stage=stage, context=context, out=out, tmp=tmp, shown=shown, networks=[], spent=spent,
                    shard=shard, parts=parts)  # fmt: skip
        gather(context, work)
    seen = {network.value for network in work.networks}
    network = "opened" if "opened" in seen else "denied" if seen else _RAN_NOTHING
    return network, ", ".join(sorted(work.barriers)), tuple(files.walk_files(out))


def _refuse_secrets(folder: Path) -> None:
    """Remove evidence that holds a known secret, and raise ToolFailed: evidence cannot be masked and stay what it is."""
    for name in files.walk_files(folder):
        if masking.holds_secret(folder / name):
            (folder / name).unlink()
            raise ToolFailed(f"{folder.name}/{name}: holds a secret of this machine, removed; take it out of what is judged")


def _masked(statement: statements.StageStatement) -> statements.StageStatement:
    """Return *statement* with known secrets masked in its texts."""
    plain = files.readable_json(statement).decode()
    masked = masking.mask_text(plain, shapes=False)
    return statement if masked == plain else files.decode(masked.encode(), statements.StageStatement, "masked statement")


def _write_reports(folder: Path, judgement: Judgement, gathered: tuple[str, ...]) -> None:
    """Write the derived reports, and remove derived ones of an earlier judgement."""
    for name in files.walk_files(folder):
        if name not in gathered and name not in judgement.reports:
            (folder / name).unlink()
    for name, data in judgement.reports.items():
        if name in gathered:
            raise ToolFailed(f"{folder / name}: gathered and derived under one name; rename one in the stage")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(folder / name, data)


def _check_controls(stage: Stage, judgement: Judgement) -> None:
    said = [outcome.control for outcome in judgement.outcomes]
    if sorted(said) != sorted(stage.controls):
        raise ToolFailed(f"{stage.name}: judged {sorted(said)}, expected {sorted(stage.controls)}; this is a bug")


def _state(
    stage: Stage, context: Context, inputs: Mapping[str, digest.Sha256], key: digest.Sha256, network: str,
    gathered: tuple[str, ...], judgement: Judgement, failure: SealrunError | None,
) -> statements.StageStatement:  # fmt: skip
    folder = context.evidence(stage.name)
    subjects = digest.describe_files(folder, files.walk_files(folder)) if folder.is_dir() else ()
    return statements.StageStatement(
        subject=statements.resources(subjects),
        predicate=statements.StagePredicate(
            stage=stage.name,
            sealrun=__version__,
            python=platform.python_version(),
            plan=context.plan.digest,
            judged_at=context.plan.judged_at.isoformat(),
            reuse_key=key,
            inputs=tuple(
                statements.Resource(name=name, digest=statements.Sha256Set(sha256=sha256))
                for name, sha256 in sorted(inputs.items())
            ),
            tools=_tools(stage, context),
            network=network,  # type: ignore[arg-type]
            verdict=Verdict.ERROR if failure else verdict(judgement.outcomes),
            outcomes=() if failure else judgement.outcomes,
            findings=() if failure else judgement.findings,
            gathered=gathered,
            error=str(failure or ""),
            error_code=failure.exit_code if failure else 0,
            report_only=True if context.report_only else UNSET,
        ),
    )


def _tools(stage: Stage, context: Context) -> tuple[statements.Tool, ...]:
    return tuple(
        statements.Tool(
            name=distribution,
            version=venvs.locked_version(venvs.lock_path(context.keeper(environment), environment), distribution),
            environment=environment,
            lock=venvs.locate(context.keeper(environment), environment).lock,
        )
        for distribution, environment in stage.needs(context.plan).tools
    )


def _note(context: Context, progress: Progress) -> None:
    path = progress_path(context, progress.stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, files.readable_json(progress), durable=False)  # only for whoever looks on


def forget(context: Context) -> None:
    """Remove what an earlier run noted of its progress."""
    shutil.rmtree(context.out / "run", ignore_errors=True)


def progress_of(context: Context, stage: str) -> Progress:
    """Return what is noted of *stage*; a stage that has not begun is waiting."""
    path = progress_path(context, stage)
    if not path.is_file():
        return Progress(stage=stage, state="waiting")
    return files.decode(files.read_bytes(path, "progress"), Progress, str(path))

"""The pipeline as jobs of a CI: waves of stages that may run side by side, with what each is handed and hands on.

Rules: which sessions there are is nox's own list, which waits for which is what the stages declare: nothing is written down
twice; a job needs the statements and evidence of the stages it names as `inputs`, and leaves those named as `outputs`. A stage
that is split has a job for each shard, and one more that takes them all.

Sources: https://docs.github.com/actions (`matrix.include` by `fromJson`), https://docs.gitlab.com/ci/yaml (`parallel:matrix`).
"""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from sealrun import files, pipeline, sandbox, settings
from sealrun.errors import ToolFailed, UsageError
from sealrun.evidence import shards
from sealrun.evidence.shards import Shard

TAGS = ("release", "supply-chain")


class Session(Struct, frozen=True, kw_only=True):
    """One session as `nox --list --json` has it, as far as it is looked at."""

    name: str


class Job(Struct, frozen=True, kw_only=True):
    """One job: its stage and shard (`2/3`, `all/3` or none), the Python it runs on, the wave it belongs to, the stages it waits
    for, and the paths below `build/NAME-VERSION/` that it takes and leaves."""

    stage: str
    shard: str
    python: str
    wave: int
    requires: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Matrix(Struct, frozen=True, kw_only=True):
    """`invoke ci.matrix --json`. `github` is one matrix for each wave, `gitlab` the list for one `parallel:matrix` each."""

    schema: Literal["urn:sealrun:matrix:v1"] = "urn:sealrun:matrix:v1"
    tag: str
    waves: tuple[tuple[Job, ...], ...]
    github: tuple[Mapping[str, Sequence[Mapping[str, str]]], ...]
    gitlab: tuple[Sequence[Mapping[str, str]], ...]


def listed(root: Path, tag: str) -> tuple[str, ...]:
    """Return the sessions with *tag* in the noxfile of *root*, as nox lists them. Raises UsageError, ToolFailed."""
    if tag not in TAGS:
        raise UsageError(f"--tag: got {tag!r}, expected one of {', '.join(TAGS)}")
    with files.private_folder() as logs:
        done = sandbox.run(
            sandbox.Command(
                name="nox", argv=(settings.interpreter(), "-P", "-m", "nox", "--list", "--json", "--tags", tag), cwd=root,
                logs=logs, environment=settings.own_environment(), network=sandbox.Network.OPENED,
            )
        )  # fmt: skip
        found = files.decode(done.stdout.read_bytes(), tuple[Session, ...], "nox --list --json", ToolFailed)
    return tuple(session.name for session in found)


def matrix(names: Sequence[str], tag: str, pythons: Sequence[str], split: Mapping[str, int] | None = None) -> Matrix:
    """Return the jobs of the stages *names*, those with *tag*, for each of *pythons* (`3.12`); *split* are the stages that are
    split, with the number of their shards. Raises UsageError."""
    waves = tuple(
        tuple(_job(task, number, python) for python in pythons for task in wave)
        for number, wave in enumerate(_waves(names, _split(names, split or {})))
    )
    shown = [[_shown(job) for job in wave] for wave in waves]
    return Matrix(
        tag=tag, waves=waves, github=tuple({"include": wave} for wave in shown),
        gitlab=tuple([{name.upper(): value for name, value in job.items()} for job in wave] for wave in shown),
    )  # fmt: skip


def _shown(job: Job) -> dict[str, str]:
    """Return *job* as the platforms take it: texts alone. `part` names the artifact, `paths` are what goes into it."""
    part = "-".join([job.stage, *([shards.parse(job.shard).folder] if _is_share(job.shard) else [])])
    paths = "\n".join(f"build/*/{path}" for path in job.outputs)
    return {"stage": job.stage, "shard": job.shard, "python": job.python, "part": part, "paths": paths}


def _is_share(shard: str) -> bool:
    return bool(shard and shards.parse(shard).number)


def _split(names: Sequence[str], split: Mapping[str, int]) -> dict[str, int]:
    """Return *split* without stages of one shard. Raises UsageError."""
    able = [name for name in names if pipeline.stage_named(name).split]
    for name, of in split.items():
        if name not in able or not 1 <= of <= shards.MOST:
            raise UsageError(
                f"--shards: got {name}={of}, expected STAGE=N with one of {', '.join(able)}, and N from 1 to {shards.MOST}"
            )
    return {name: of for name, of in split.items() if of > 1}


def gitlab_pipeline(made: Matrix, day: str) -> dict[str, Any]:
    """Return the pipeline of *made* for GitLab, judged on *day* (SOURCE_DATE_EPOCH): a job for each wave, of those in
    ci/jobs.gitlab-ci.yml."""
    stages = [f"wave{number}" for number in range(len(made.waves))]
    jobs = {}
    for name, wave in zip(stages, made.waves, strict=True):
        variables = [{key.upper(): value for key, value in _of_gitlab(job).items()} for job in wave]
        jobs[name] = (
            {"extends": ".sealrun-bundle", "stage": name}
            if {job.stage for job in wave} == {"bundle"}
            else {"extends": ".sealrun-stage", "stage": name, "parallel": {"matrix": variables}}
        )
    return {
        "include": [{"local": "ci/jobs.gitlab-ci.yml"}],
        "stages": stages,
        "variables": {"SOURCE_DATE_EPOCH": day},
    } | jobs


def _of_gitlab(job: Job) -> dict[str, str]:
    """Return what GitLab's job is told of *job*: an empty variable is left out, the paths stand in one line."""
    shown = _shown(job)
    told = {
        "stage": job.stage,
        "shard": job.shard,
        "part": shown["part"],
        "leaves": " ".join(path.rstrip("/") for path in job.outputs),
    }
    return {name: value for name, value in told.items() if value}


def _waves(names: Iterable[str], split: Mapping[str, int]) -> Iterable[list[tuple[str, str]]]:
    """Yield the stages *names*, each with its shard, in waves: each needs only what earlier ones left."""
    last = {name: (name, str(Shard(0, split[name])) if name in split else "") for name in names}
    after: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name in sorted(last):
        needed = {last[required] for required in pipeline.stage_named(name).requires if required in last}
        share = {(name, str(Shard(number, split[name]))): needed for number in range(1, split.get(name, 0) + 1)}
        after |= share | {last[name]: needed | share.keys()}
    order = TopologicalSorter(after)
    order.prepare()
    while order.is_active():
        ready = sorted(order.get_ready())
        yield ready
        order.done(*ready)


def _job(task: tuple[str, str], wave: int, python: str) -> Job:
    name, shard = task
    requires = tuple(required(name))
    inputs = tuple(path for r in requires for path in parts(r))
    share = (f"{shards.FOLDER}/{name}/",)
    if _is_share(shard):
        return Job(stage=name, shard=shard, python=python, wave=wave, requires=requires, inputs=inputs, outputs=share)
    return Job(
        stage=name, shard=shard, python=python, wave=wave, requires=requires, inputs=inputs + (share if shard else ()),
        outputs=parts(name),
    )  # fmt: skip


def required(name: str) -> list[str]:
    """Return the stages that *name* needs evidence of, sorted. Raises UsageError."""
    pipeline.stage_named(name)
    return sorted(_all_required(name))


def parts(stage: str) -> tuple[str, ...]:
    """Return what *stage* leaves for others, relative to `build/NAME-VERSION/`."""
    return f"evidence/{stage}/", f"statements/{stage}.json"


def _all_required(name: str) -> set[str]:
    direct = set(pipeline.stage_named(name).requires)
    return direct.union(*map(_all_required, direct))

"""The pipeline as jobs of a CI: waves of stages that may run side by side, with what each is handed and hands on.

Rules: which sessions there are is nox's own list, which waits for which is what the stages declare: nothing is written down
twice; a job needs the statements and evidence of the stages it names as `inputs`, and leaves those named as `outputs`.

Sources: https://docs.github.com/actions (`matrix.include` by `fromJson`), https://docs.gitlab.com/ci/yaml (`parallel:matrix`).
"""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sealrun import files, pipeline, sandbox, settings
from sealrun.errors import ToolFailed, UsageError

TAGS = ("release", "supply-chain")


class Session(Struct, frozen=True, kw_only=True):
    """One session as `nox --list --json` has it, as far as it is looked at."""

    name: str


class Job(Struct, frozen=True, kw_only=True):
    """One job: its stage, the Python it runs on, the wave it belongs to, the stages it waits for, and the paths below
    `build/NAME-VERSION/` that it takes and leaves."""

    stage: str
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


def matrix(names: Sequence[str], tag: str, pythons: Sequence[str]) -> Matrix:
    """Return the jobs of the stages *names*, those with *tag*, for each of *pythons* (`3.12`)."""
    waves = tuple(
        tuple(_job(name, number, python) for python in pythons for name in wave) for number, wave in enumerate(_waves(names))
    )
    shown = [[{"stage": job.stage, "python": job.python} for job in wave] for wave in waves]
    return Matrix(
        tag=tag, waves=waves, github=tuple({"include": wave} for wave in shown),
        gitlab=tuple([{name.upper(): value for name, value in job.items()} for job in wave] for wave in shown),
    )  # fmt: skip


def _waves(names: Iterable[str]) -> Iterable[list[str]]:
    """Yield the stages *names* in waves: each needs only stages of earlier ones."""
    chosen = set(names)
    order = TopologicalSorter({name: chosen & set(pipeline.stage_named(name).requires) for name in sorted(chosen)})
    order.prepare()
    while order.is_active():
        ready = sorted(order.get_ready())
        yield ready
        order.done(*ready)


def _job(name: str, wave: int, python: str) -> Job:
    requires = tuple(required(name))
    return Job(
        stage=name, python=python, wave=wave, requires=requires, inputs=tuple(path for r in requires for path in parts(r)),
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

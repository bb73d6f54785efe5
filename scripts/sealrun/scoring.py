"""Score the evaluation text with the models of a release, each in the runtime that its file asks for.

Rules: which runtime runs a model is said by release.toml, else told by the name of its file; a model is shown to its runtime
as a folder of exactly the pinned files; records are a function of bytes alone (scorer, lock, model, data, and how they are
scored), so they are kept under the digest of these and used again: many candidates, one baseline; what was scored before a run
was ended is not scored again.
"""

import platform
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct

from sealrun import digest, files, sandbox, settings, venvs
from sealrun.errors import ToolFailed, UsageError
from sealrun.policy.model import ModelRef, Plan
from sealrun.reports import artifacts
from sealrun.reports.records import Case, Records, parse_cases, parse_records, require_cases
from sealrun.stage import INSIDE, Context, Needs, Work

ROLES = ("baseline", "candidate")
_STORE = "records"
_KEPT = "records.jsonl"
_MARK = "complete.json"
_PART = ".part"  # of a shard, behind the role
_KEY_LENGTH = 32


class Runtime(Struct, frozen=True, kw_only=True):
    """What runs a model: the script of `inside/`, its environment, the tools that a statement names, and whether it opens the
    model's folder instead of its file alone."""

    name: str
    script: str
    environment: venvs.Environment
    tools: tuple[str, ...]
    opens_folder: bool = False


_RUNTIMES = {
    "onnx": Runtime(
        name="onnx",
        script="score_onnx.py",
        environment=venvs.Environment(name="runtime-onnx", smoke=("python", "-c", "import onnxruntime, tokenizers")),
        tools=("onnxruntime", "tokenizers"),
    ),
    "transformers": Runtime(
        name="transformers",
        script="score_transformers.py",
        environment=venvs.Environment(name="runtime-transformers", smoke=("python", "-c", "import torch, transformers")),
        tools=("torch", "transformers", "safetensors", "tokenizers"),
        opens_folder=True,
    ),
}
_SUFFIXES = {".onnx": "onnx", ".safetensors": "transformers"}
_SHARED = "scoring.py"  # of all scripts


class _Complete(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Beside stored records once all of them are there and were checked."""

    sha256: digest.Sha256


def runtime_of(plan: Plan, role: str) -> Runtime:
    """Return what runs the model of *role*. Raises UsageError when neither release.toml nor the file's name says."""
    ref = model_of(plan, role)
    told = Path(ref.artifact.removesuffix(".index.json")).suffix
    name = ref.runtime or plan.release.certify.runtime or _SUFFIXES.get(told)
    if name is None:
        known = ", ".join(_RUNTIMES)
        raise UsageError(
            f"{role}: no runtime is known for {ref.artifact}; set {role}.runtime in release.toml to one of {known}"
        )
    return _RUNTIMES[name]


def environments() -> tuple[venvs.Environment, ...]:
    """Return the environments of all runtimes."""
    return tuple(runtime.environment for runtime in _RUNTIMES.values())


def needs(plan: Plan) -> Needs:
    """Return the environments and tools of the runtimes that *plan* uses."""
    used = list({runtime.name: runtime for runtime in (runtime_of(plan, role) for role in ROLES)}.values())
    return Needs(
        environments=tuple(runtime.environment for runtime in used),
        tools=tuple((tool, runtime.environment.name) for runtime in used for tool in runtime.tools),
    )


def model_of(plan: Plan, role: str) -> ModelRef:
    """Return the model of *role*, which is `baseline` or `candidate`."""
    return plan.release.baseline if role == "baseline" else plan.release.candidate


def pinned(context: Context, role: str, name: str) -> Path:
    """Return the file *name* of the model of *role*. Raises UsageError or InputMissing."""
    return files.regular_file(context.plan.base, f"{model_of(context.plan, role).path}/{name}", role)


def cases_of(context: Context) -> tuple[Case, ...]:
    """Return the evaluation data. Raises UsageError."""
    data = context.plan.release.data
    return parse_cases(
        context.data().read_bytes(), data.text_field, data.path, reference_field=data.reference_field, joiner=data.joiner
    )


def score(context: Context, work: Work, cases: tuple[Case, ...]) -> dict[str, Records]:
    """Return the records of both models, scored side by side where no earlier ones are those of the same bytes."""
    folders = {role: _folder(context, role) for role in ROLES}
    with ExitStack() as held:
        for folder in sorted(set(folders.values())):
            held.enter_context(files.exclusive(folder.parent / f".{folder.name}.lock"))
        missing = {folder: role for role, folder in folders.items() if not _is_complete(folder)}
        for folder, role in missing.items():
            for number, part in enumerate(work.parts):
                files.write_bytes(folder / f"{_KEPT}.part-shard-{number}", files.read_bytes(part / f"{role}{_PART}", "shard"))
        running = [start(context, work, role, context.data(), folder / _KEPT) for folder, role in missing.items()]
        for started in running:
            work.finish(started)
        return {role: _checked(folder, cases, role) for role, folder in folders.items()}


def score_shard(context: Context, work: Work) -> None:
    """Score the batches of `work.shard` with both models, and leave them as ROLE.part."""
    assert work.shard is not None
    shard = [work.shard.number, work.shard.of]
    targets = {role: work.tmp / f"{role}.jsonl" for role in ROLES}
    running = [
        start(context, work, role, context.data(), target, shard=shard, part=str(work.out / f"{role}{_PART}"))
        for role, target in targets.items()
    ]
    for started in running:
        work.finish(started)


def start(context: Context, work: Work, role: str, data: Path, target: Path, **more: object) -> sandbox.Running:
    """Start scoring *data* with the model of *role*. Its records are written to *target*, beside what an earlier run left;
    *more* is for the scorer.

    The caller finishes it by `work.finish`. Raises InputMissing or ToolFailed.
    """
    runtime, ref = runtime_of(context.plan, role), model_of(context.plan, role)
    shown = view(context, role, work.shown / role) if runtime.opens_folder else context.plan.base / ref.path
    files.regular_file(context.plan.base, f"{ref.path}/{ref.artifact}", role)
    job = _job(context) | {
        "model": str(shown / ref.artifact),
        "tokenizer": str(files.regular_file(context.plan.base, f"{ref.path}/{ref.tokenizer}", role)),
        "data": str(data),
        "workers": max(1, settings.processors() // len(ROLES)),
        **more,
    }
    described = work.tmp / f"{role}-job.json"
    files.write_json(described, job)
    argv = work.inside(runtime.script, str(described), str(target))
    return work.start(f"score-{role}", runtime.environment.name, argv, writable=(target.parent,))


def view(context: Context, role: str, folder: Path) -> Path:
    """Return the new *folder*, which holds links to the pinned files of *role* and nothing else. Raises UsageError."""
    ref = model_of(context.plan, role)
    for name in ref.files:
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files.regular_file(context.plan.base, f"{ref.path}/{name}", role).resolve())
    return folder


def _job(context: Context) -> dict[str, Any]:
    """Return how models are scored, without what belongs to one machine."""
    data, certify = context.plan.release.data, context.plan.release.certify
    return {
        "text_field": data.text_field,
        "reference_field": data.reference_field,
        "joiner": data.joiner,
        "window": certify.window,
        "batch": certify.batch,
        "device": certify.device,
    }


def _folder(context: Context, role: str) -> Path:
    """Return the folder where records lie that are those of the model of *role*, made when it is not there."""
    runtime, found = runtime_of(context.plan, role), artifacts.load(context.evidence("model"))
    key = digest.of_json(
        [
            [digest.of_file(INSIDE / name) for name in (runtime.script, _SHARED)],
            venvs.locate(context.root, runtime.environment.name).lock,
            platform.python_version(),
            model_of(context.plan, role).artifact,
            model_of(context.plan, role).tokenizer,
            digest.of_manifest(found.model(role)),
            digest.of_file(context.data()),
            _job(context),
        ]
    )
    folder = context.out.parent / _STORE / key[:_KEY_LENGTH]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_complete(folder: Path) -> bool:
    """Return whether the records in *folder* are those that were checked when they were new; others are scored again."""
    kept, mark = folder / _KEPT, folder / _MARK
    if not mark.is_file():
        return False
    complete = files.decode(files.read_bytes(mark, _STORE), _Complete, str(mark), ToolFailed)
    if kept.is_file() and digest.of_file(kept) == complete.sha256:
        return True
    files.empty_folder(folder)
    return False


def _checked(folder: Path, cases: tuple[Case, ...], role: str) -> Records:
    """Return the records in *folder*, and mark them as complete. Raises ToolFailed when they are not those of *cases*."""
    kept = folder / _KEPT
    if not kept.is_file():
        raise ToolFailed(f"score-{role}: it ended well but wrote no records; see its log")
    data = files.read_bytes(kept, _STORE)
    try:
        records = require_cases(parse_records(data, f"{role}.jsonl"), cases, f"{role}.jsonl")
    except ToolFailed:
        files.empty_folder(folder)
        raise
    files.write_json(folder / _MARK, _Complete(sha256=digest.of_bytes(data)))
    return records


def stored(context: Context, role: str) -> bytes:
    """Return the bytes of the records that `score` returned for *role*."""
    return files.read_bytes(_folder(context, role) / _KEPT, _STORE)

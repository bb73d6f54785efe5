"""Join what the jobs of a matrix left, in whatever order they come, into one `build/NAME-VERSION/`.

Rules: each part holds the statement and the evidence of one or more stages; a statement of another plan, a stage that there
is not, a file that no statement names or that differs from it, a stage that two parts hold, and one that is missing are
refused, and the same of shards; nothing is in place before all of it has been checked.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sealrun import files, pipeline
from sealrun.errors import InputMissing, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence import statement as statements
from sealrun.evidence.shards import Shard, ShardStatement
from sealrun.stage import Context, check_files


def join(context: Context, parts: Sequence[Path], expected: Sequence[str], *, split: str = "", of: int = 0) -> tuple[str, ...]:
    """Put the stages *expected* of *parts* in place below the output folder of *context*, with all *of* shards of the stage
    *split*, and return their names.

    What *parts* hold besides is checked and left where it is.

    Raises UsageError (a stage twice), InputMissing (one missing) or VerificationFailed (of another plan, changed, or foreign).
    """
    found: dict[str, Path] = {}
    shares: dict[Path, ShardStatement] = {}
    for part in parts:
        folder = _opened(part, context)
        for name in _stages(folder, context):
            if name in found:
                raise UsageError(f"{folder}: holds the stage {name}, and so does {found[name]}; hand over each stage once")
            found[name] = folder
        shares |= {place: share for place, share in _shards(folder, context) if share.predicate.stage == split}
    pythons = {statements.load(_statement(folder, name)).predicate.python for name, folder in found.items()}
    pythons |= {share.predicate.python for share in shares.values()}
    if len(pythons) > 1:
        raise VerificationFailed(f"ci.join: parts of Python {' and '.join(sorted(pythons))}; a release is made on one Python")
    missing = [name for name in expected if name not in found]
    if missing:
        sessions = ", ".join(f"`nox -s {name}`" for name in missing)
        there = ", ".join(sorted(found)) or "no stage"
        raise InputMissing(f"ci.join: got {there}, missing {', '.join(missing)}; run {sessions}")
    chosen = _complete(split, of, shares) if split else {}
    context.out.mkdir(parents=True, exist_ok=True)
    for name, folder in sorted((name, found[name]) for name in expected):
        _place(context, name, folder)
    for shard, folder in sorted(chosen.items()):
        _place_shard(context, split, shard, folder)
    return (*sorted(expected), *(f"{split} {shard}" for shard in sorted(chosen)))


def _opened(part: Path, context: Context) -> Path:
    """Return the folder of *part* that statements or shards lie in. Raises InputMissing."""
    for place in (part, part / context.out.name):
        if (place / "statements").is_dir() or (place / shards.FOLDER).is_dir():
            return place
    raise InputMissing(f"{part}: holds no statements/, expected what a stage's job left in build/{context.out.name}/")


def _complete(stage: str, of: int, shares: Mapping[Path, ShardStatement]) -> dict[Shard, Path]:
    """Return where each of the *of* shards of *stage* lies. Raises UsageError for one that is there twice, InputMissing for one
    that is not, VerificationFailed for those of another division or made from different things."""
    chosen: dict[Shard, Path] = {}
    for folder, share in sorted(shares.items()):
        if share.shard.of != of:
            raise VerificationFailed(
                f"{folder}: is shard {share.shard}, expected one of {of}; divide {stage} alike in all jobs"
            )
        if share.shard in chosen:
            raise UsageError(f"{folder}: is shard {share.shard}, and so is {chosen[share.shard]}; hand over each shard once")
        chosen[share.shard] = folder
    missing = [str(shard) for shard in (Shard(number, of) for number in range(1, of + 1)) if shard not in chosen]
    if missing:
        commands = ", ".join(f"`nox -s {stage} -- --shard {shard}`" for shard in missing)
        raise InputMissing(f"ci.join: missing shard {' and '.join(missing)} of {stage}; run {commands}")
    if len({share.predicate.reuse_key for share in shares.values()}) > 1:
        raise VerificationFailed(f"ci.join: the shards of {stage} were made from different things; run all on one commit")
    return chosen


def _shards(folder: Path, context: Context) -> Iterator[tuple[Path, ShardStatement]]:
    """Yield each shard in *folder*, checked, with the folder that it lies in."""
    for path in sorted((folder / shards.FOLDER).glob("*/*")) if (folder / shards.FOLDER).is_dir() else ():
        share = shards.load(path)
        if share.predicate.stage not in pipeline.stages() or share.predicate.plan != context.plan.digest:
            raise VerificationFailed(f"{path}: is of another plan; run all jobs on one commit and one day (SOURCE_DATE_EPOCH)")
        check_files(path / shards.PART, share)
        yield path, share


def _stages(folder: Path, context: Context) -> Iterator[str]:
    """Yield each stage that *folder* holds, checked."""
    named = set()
    for file in files.walk_files(folder / "statements") if (folder / "statements").is_dir() else ():
        path = folder / "statements" / file
        statement = statements.load(path)
        name = statement.predicate.stage
        if file != f"{name}.json" or name not in pipeline.stages():
            raise VerificationFailed(f"{path}: states the stage {name!r}, expected a stage of ours under its own name")
        if statement.predicate.plan != context.plan.digest:
            raise VerificationFailed(f"{path}: is of another plan; run all jobs on one commit and one day (SOURCE_DATE_EPOCH)")
        check_files(folder / "evidence" / name, statement)
        named.add(name)
        yield name
    evidence = folder / "evidence"
    left = sorted({path.name for path in evidence.iterdir()} - named) if evidence.is_dir() else []
    if left:
        raise VerificationFailed(f"{evidence / left[0]}: no statement speaks of it; hand over evidence with its statement")


def _statement(folder: Path, name: str) -> Path:
    return folder / "statements" / f"{name}.json"


def _place(context: Context, name: str, folder: Path) -> None:
    """Copy the stage *name*: its evidence, checked again where it lands, then its statement."""
    statement = statements.load(_statement(folder, name))
    target = files.empty_folder(context.evidence(name))
    for resource in statement.subject:
        where = target / files.relative_name(resource.name, f"statements/{name}.json")
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "evidence" / name / resource.name, where, follow_symlinks=False)
    check_files(target, statement)
    statements.write(context.statement_path(name), statement)


def _place_shard(context: Context, stage: str, shard: Shard, folder: Path) -> None:
    """Copy one shard of *stage*, checked again where it lands, then its statement."""
    share = shards.load(folder)
    target = files.empty_folder(shards.place(context.out, stage, shard))
    part = files.empty_folder(target / shards.PART)
    for resource in share.subject:
        where = part / files.relative_name(resource.name, shards.STATEMENT)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / shards.PART / resource.name, where, follow_symlinks=False)
    check_files(part, share)
    files.write_json(target / shards.STATEMENT, share)

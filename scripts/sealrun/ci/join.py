"""Join what the jobs of a matrix left, in whatever order they come, into one `build/NAME-VERSION/`.

Rules: each part holds the statement and the evidence of one or more stages; a statement of another plan, a stage that there
is not, a file that no statement names or that differs from it, a stage that two parts hold, and one that is missing are
refused; nothing is in place before all of it has been checked.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sealrun import files, pipeline
from sealrun.errors import InputMissing, UsageError, VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.stage import Context, check_files


def join(context: Context, parts: Sequence[Path], expected: Sequence[str]) -> tuple[str, ...]:
    """Put the stages *expected* of *parts* in place below the output folder of *context*, and return their names.

    What *parts* hold besides is checked and left where it is.

    Raises UsageError (a stage twice), InputMissing (one missing) or VerificationFailed (of another plan, changed, or foreign).
    """
    found: dict[str, Path] = {}
    for part in parts:
        for name, folder in _stages(part, context):
            if name in found:
                raise UsageError(f"{folder}: holds the stage {name}, and so does {found[name]}; hand over each stage once")
            found[name] = folder
    pythons = {statements.load(_statement(folder, name)).predicate.python for name, folder in found.items()}
    if len(pythons) > 1:
        raise VerificationFailed(f"ci.join: parts of Python {' and '.join(sorted(pythons))}; a release is made on one Python")
    missing = [name for name in expected if name not in found]
    if missing:
        sessions = ", ".join(f"`nox -s {name}`" for name in missing)
        there = ", ".join(sorted(found)) or "no stage"
        raise InputMissing(f"ci.join: got {there}, missing {', '.join(missing)}; run {sessions}")
    context.out.mkdir(parents=True, exist_ok=True)
    for name, folder in sorted((name, found[name]) for name in expected):
        _place(context, name, folder)
    return tuple(sorted(expected))


def _stages(part: Path, context: Context) -> Iterator[tuple[str, Path]]:
    """Yield each stage that *part* holds, checked, with the folder that its statement and evidence lie in."""
    folder = next((place for place in (part, part / context.out.name) if (place / "statements").is_dir()), None)
    if folder is None:
        raise InputMissing(f"{part}: holds no statements/, expected what a stage's job left in build/{context.out.name}/")
    named = set()
    for file in files.walk_files(folder / "statements"):
        path = folder / "statements" / file
        statement = statements.load(path)
        name = statement.predicate.stage
        if file != f"{name}.json" or name not in pipeline.stages():
            raise VerificationFailed(f"{path}: states the stage {name!r}, expected a stage of ours under its own name")
        if statement.predicate.plan != context.plan.digest:
            raise VerificationFailed(f"{path}: is of another plan; run all jobs on one commit and one day (SOURCE_DATE_EPOCH)")
        check_files(folder / "evidence" / name, statement)
        named.add(name)
        yield name, folder
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

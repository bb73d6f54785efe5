"""Whether a stage needs to run its tools: evidence that may be used again, of an earlier run or of another job.

Rules: under the same reuse key alone (inputs, locks, tools, the plan without its day, our own sources, Python), and only when
every byte is still what was stated; where it may not be used, it is said why. Verdicts are not in here.
"""

import functools
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sealrun import cache, digest, files, venvs
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.evidence import statement as statements
from sealrun.outcome import Verdict
from sealrun.stage import Context, Stage, check_files


class Kept(NamedTuple):
    """Evidence that need not be gathered again: what its network probes saw, the names of its files, and whether it comes from
    another job."""

    network: str
    gathered: tuple[str, ...]
    shared: bool = False


def inputs_of(stage: Stage, context: Context) -> dict[str, digest.Sha256]:
    """Return what *stage* reads, name to sha256, with what the stages that it requires left.

    Raises UsageError or InputMissing, and VerificationFailed where that was touched.
    """
    return dict(stage.inputs(context)) | {
        f"evidence/{required}/{name}": sha256
        for required in stage.requires
        for name, sha256 in context.upstream(required).digests().items()
    }


def key_of(stage: Stage, context: Context, inputs: Mapping[str, digest.Sha256]) -> digest.Sha256:
    """Return the key under which tool output may be used again: inputs, locks, tools, and the plan without its day."""
    needs = stage.needs(context.plan)
    locks = {e.name: venvs.locate(context.keeper(e.name), e.name).lock for e in needs.environments}
    return digest.of_json(
        [
            stage.name,
            dict(inputs),
            locks,
            list(needs.tools),
            context.plan.content,
            own_digest(),
            platform.python_version(),
        ]
    )


@functools.cache
def own_digest() -> digest.Sha256:
    """Return the digest of Sealrun's own source files."""
    package = Path(__file__).parent
    # bytecode comes and goes while others start from a new checkout, under names that do not end in .pyc yet
    names = [name for name in files.walk_files(package) if "__pycache__" not in name.split("/")]
    return digest.of_manifest(digest.describe_files(package, names))


def earlier(stage: Stage, context: Context, key: digest.Sha256) -> tuple[Kept | None, str]:
    """Return the earlier evidence that may be used again, or None, and why."""
    path = context.statement_path(stage.name)
    if not path.is_file():
        return None, "no earlier run"
    try:
        statement = statements.load(path)
        if statement.predicate.verdict is Verdict.ERROR:
            return None, "the earlier run ended in an error"
        if statement.predicate.reuse_key != key:
            return None, "an input, lock, tool or the plan changed"
        check_files(context.evidence(stage.name), statement)
    except (VerificationFailed, InputMissing) as error:
        return None, str(error)
    return Kept(statement.predicate.network, statement.predicate.gathered), "same inputs, locks, tools and plan"


def shared(stage: Stage, context: Context, folder: Path, key: digest.Sha256, reason: str) -> tuple[Kept | None, str]:
    """Return the evidence that the cache *folder* has of another job, or None, and why."""
    context.statement_path(stage.name).unlink(missing_ok=True)
    found = cache.take(folder, stage.name, key, files.empty_folder(context.evidence(stage.name)))
    if isinstance(found, str):
        return None, f"{reason}; cache: {found}"
    return Kept(found.network, tuple(entry.path for entry in found.files), shared=True), "taken from the cache"

"""Make a bundle again without its maker's keys: every stage runs afresh, and what only a key can make is taken from the bundle.

Rules: the keys used here stand for the maker's, whose public halves and names the bundle holds; a signed file of the bundle is
taken only where the file made here is the same in everything but the key; where it is not, ours stays and tells the difference.
The advisories are those that the bundle holds: a clone has none, and today's would tell something else.
The signatures of the bundle itself are not made at all: what they would be over is left beside the archive.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sealrun import digest, files, pipeline
from sealrun.errors import VerificationFailed
from sealrun.evidence import bundle, keys, manifest, oms, sign
from sealrun.evidence.statement import StageStatement
from sealrun.reports import snapshot
from sealrun.stage import Context, Stage, Work
from sealrun.stages import bundle as sealing

PAYLOADS = "payloads"  # a folder, one file for each line in order

_KEYS = {"certify": "invarlock-evidence", "verify": "invarlock-verifier"}
_MODELS = "evidence/bundle/models.pub"
_CERTIFICATE, _SIGNATURE, _RECEIPT = (
    f"certify/{manifest.CERTIFICATE}",
    "certify/certificate/manifest.signature.json",
    "verify/receipt.json",
)


def assume_keys(archive: bundle.Archive) -> None:
    """Let the keys of this user's folder, which must be a new one, stand for those that made the bundle."""
    for stage, name in _KEYS.items():
        stated = manifest.decode(archive.read(f"statements/{stage}.json"), StageStatement, stage)
        for resource in stated.predicate.inputs:
            if resource.name == f"key/{name}":
                keys.private(name)
                files.write_bytes(keys.stands_for(name), resource.digest.sha256.encode("ascii"))
    files.write_bytes(keys.folder() / f"{keys.RELEASE}.uri", b"reproduce:\n", mode=0o600)
    files.write_bytes(keys.folder() / f"{keys.RELEASE}.pub", archive.read(manifest.PUBLIC_KEY))
    if _MODELS in archive.members:
        files.write_bytes(keys.stands_for(oms.KEY), archive.read(_MODELS))


def rebuild(context: Context, archive: bundle.Archive) -> list[str]:
    """Run every stage; leave archive, report and payloads in the release's folder. Return what stopped it, nothing when done.

    Raises InputMissing or ToolFailed when a stage cannot start.
    """
    with files.private_folder() as folder:
        context = replace(context, advisories=_advisories(archive, folder))
        for stage in pipeline.stages().values():
            statement = _execute(stage, context, archive)
            if statement.predicate.error:
                return [f"{stage.name}: {statement.predicate.error}"]
    return []


def _advisories(archive: bundle.Archive, folder: Path) -> Path | None:
    """Put the advisories of the bundle into *folder* and return it; None when the bundle holds none."""
    names = {name: f"evidence/audit/{name}" for name in (snapshot.FACTS, snapshot.SNAPSHOT)}
    if not all(member in archive.members and member not in archive.withheld for member in names.values()):
        return None
    for name, member in names.items():
        files.write_bytes(folder / name, archive.read(member))
    return folder


def _execute(stage: Stage, context: Context, archive: bundle.Archive) -> StageStatement:
    """Run *stage*; once more under its own key when what it signed is not what the bundle's key signed."""
    same: list[bool] = []

    def gather(context: Context, work: Work) -> None:
        stage.gather(context, work)
        same.append(_take_signed(stage.name, work.out, archive))

    watched = replace(stage, gather=gather, seal=_leave_unsigned if stage.seal else None)
    statement = pipeline.execute(watched, context, fresh=True)
    if same == [False]:
        keys.stands_for(_KEYS[stage.name]).unlink()
        statement = pipeline.execute(replace(stage, seal=watched.seal), context, fresh=True)
    return statement


def _leave_unsigned(context: Context, own: StageStatement) -> None:
    tar, page, payloads = sealing.unsigned(context, own)
    folder = files.empty_folder(context.out / PAYLOADS)
    for number, payload in enumerate(payloads, 1):
        files.write_bytes(folder / f"{number:04}", payload, durable=False)
    files.write_bytes(context.out / sign.REPORT, page, durable=False)
    files.write_bytes(context.out / f"{context.plan.title}{bundle.SUFFIX}", tar, durable=False)


def _take_signed(stage: str, out: Path, archive: bundle.Archive) -> bool:
    """Put the bundle's signed files in the place of ours where they differ in the key alone; return whether they do."""
    if stage not in _KEYS or not keys.stands_for(_KEYS[stage]).is_file():
        return True
    taken = {"certify": _take_certificate, "verify": _take_receipt}[stage](out.parent, archive)
    for name in taken or ():
        files.write_bytes(out.parent / name, archive.read(f"evidence/{name}"))
    return taken is not None


def _take_certificate(evidence: Path, archive: bundle.Archive) -> tuple[str, ...] | None:
    """Return the files to take: the certificate's manifest and its signature; None when the manifest says something else."""
    ours = evidence / _CERTIFICATE
    if not ours.is_file():
        return None if f"evidence/{_CERTIFICATE}" in archive.members else ()
    as_theirs = _under_their_key("certify")(ours.read_bytes())
    return (_CERTIFICATE, _SIGNATURE) if _holds(archive, _CERTIFICATE, as_theirs) else None


def _take_receipt(evidence: Path, archive: bundle.Archive) -> tuple[str, ...] | None:
    """Return the receipt to take; None when what it states is something else."""
    ours, name = evidence / _RECEIPT, f"evidence/{_RECEIPT}"
    if not ours.is_file() or name not in archive.members:
        return () if not ours.is_file() and name not in archive.members else None
    theirs: Any = files.parse_json(archive.read(name), name, VerificationFailed)
    made: Any = files.parse_json(_under_their_key("verify")(ours.read_bytes()), str(ours), VerificationFailed)
    return (_RECEIPT,) if made.get("statement") == theirs.get("statement") else None


def _under_their_key(stage: str) -> Callable[[bytes], bytes]:
    """Return what puts the name of the maker's key in the place of ours."""
    name = _KEYS[stage]
    ours, theirs = keys.fingerprint(keys.private(name)), keys.identity(name)
    return lambda data: data.replace(ours.encode("ascii"), theirs.encode("ascii"))


def _holds(archive: bundle.Archive, name: str, data: bytes) -> bool:
    found = archive.members.get(f"evidence/{name}")
    return found is not None and found.sha256 == digest.of_bytes(data)

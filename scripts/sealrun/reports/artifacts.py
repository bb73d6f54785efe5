"""What the model gate found the files of a release to be: the digests that certificates are bound to.

Rules: one file, `digests.json` of the model stage's evidence; every file that a release pins stands in it under the bytes that
were found, not under those that were promised.
"""

from pathlib import Path

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import InputMissing, VerificationFailed

FILE = "digests.json"


class Artifacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of the baseline's and the candidate's folder by name in it, and the data file by its path in the release."""

    baseline: digest.Manifest
    candidate: digest.Manifest
    data: digest.Manifest

    def model(self, role: str) -> digest.Manifest:
        """Return the files of *role*, which is `baseline` or `candidate`."""
        return self.baseline if role == "baseline" else self.candidate


def manifest_of(role: str) -> str:
    """Return the name of the OMS manifest of *role* (`baseline`, `candidate` or `data`) in the model stage's evidence."""
    return f"{role}.oms.json"


def load(folder: Path) -> Artifacts:
    """Return the digests in the model stage's evidence *folder*. Raises VerificationFailed or InputMissing."""
    if not (folder / FILE).exists():
        raise InputMissing(f"model gate: there is no {folder / FILE}; run `nox -s model` first")
    return files.decode(files.read_bytes(folder / FILE, "model gate"), Artifacts, FILE, VerificationFailed)


def sha256_of(manifest: digest.Manifest, name: str) -> digest.Sha256:
    """Return the digest of the file *name*. Raises VerificationFailed when the manifest has none."""
    for entry in manifest:
        if entry.path == name:
            return entry.sha256
    raise VerificationFailed(f"model gate: no digest of {name}; expected every pinned file, run `nox -s model` again")

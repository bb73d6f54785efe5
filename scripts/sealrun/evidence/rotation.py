"""What becomes of keys: a new one takes an old one's place, one is revoked, a second person signs what the first has signed.

Rules: a key that is replaced is kept, and signs that it was; nobody co-signs what does not verify, what says no, or what does
not know his key; a revocation that its recipients would not believe is refused before it is written.
"""

from pathlib import Path

from sealrun import digest, files
from sealrun.errors import UsageError
from sealrun.evidence import bundle as archives
from sealrun.evidence import keys, manifest, revocation, sign, signers
from sealrun.evidence.verify import Verification, verify
from sealrun.outcome import Verdict


def rotate(since: str, out: Path) -> tuple[keys.PublicKey, keys.PublicKey, Path]:
    """Replace the release key, a file, by a new one from the day *since* on; return old, new, and the old one's farewell.

    That and the new `release.pub` are written to *out* before anything is replaced. Raises UsageError when a URI names the key.
    """
    if (keys.folder() / f"{keys.RELEASE}.uri").exists():
        remedy = "make the new key there, `keys.revoke` the old one, then `keys.use` the new one"
        raise UsageError(f"keys.rotate: {signers.where()} signs; {remedy}")
    path = keys.release()
    old = keys.public_key(path)
    fresh = keys.private(f"{keys.RELEASE}-next")
    new = keys.public_key(fresh)
    said = revocation.Revoked(reason="superseded", since=since, successor=new.keyid, note="")
    written = _write(out, "key", old.keyid, said)
    files.write_bytes(out / f"{keys.RELEASE}.pub", new.pem)
    kept = path.with_name(f"{keys.RELEASE}-{old.keyid[:16]}.pem")
    if not kept.exists():
        kept.hardlink_to(path)
    fresh.replace(path)
    keys.release()  # writes its public half beside it
    return old, new, written


def revoke(
    out: Path, *, key: Path | None, bundle: Path | None, reason: revocation.Reason, since: str | None, successor: Path | None,
    note: str,
) -> Path:  # fmt: skip
    """Write the revocation of the release key, of *key* or of *bundle*, signed by the release key, to the folder *out*.

    Returns its file. Raises UsageError.
    """
    if key and bundle:
        raise UsageError("keys.revoke: got --key and --bundle, expected one of them")
    new = keys.parse_public(files.read_bytes(successor, "key"), str(successor)).keyid if successor else None
    said = revocation.Revoked(reason=reason, since=since, successor=new, note=note)
    if bundle:
        with archives.opened(bundle) as opened:
            return _write(out, "bundle", opened.sha256, said)
    public = keys.parse_public(files.read_bytes(key, "key"), str(key)) if key else signers.release_public()
    return _write(out, "key", public.keyid, said)


def cosign(path: Path, fingerprint: str) -> Verification:
    """Add the signature of this user's release key to each line of the bundle at *path*, which *fingerprint* signed.

    A bundle that says no is returned as it is. Raises VerificationFailed when it does not verify, UsageError when it does not
    know this key.
    """
    found = verify(path, trust=None, fingerprint=fingerprint, delivery=None)
    if found.verdict is not Verdict.PASSED:
        return found
    public = signers.release_public()
    with archives.opened(path) as opened:
        names = [name for name in opened.members if name.startswith("policy/trust/") and name.endswith(".pub")]
        known = {keys.parse_public(opened.read(name), name) for name in (manifest.PUBLIC_KEY, *names)}
    if public not in known:
        what = f"{public.fingerprint} is not in policy/trust of this bundle"
        raise UsageError(f"keys.cosign: {what}; add its {keys.RELEASE}.pub there before the release is made")
    envelopes = path.with_name(path.name.removesuffix(archives.SUFFIX) + sign.SUFFIX)
    signed = sign.parse(files.read_bytes(envelopes, "envelopes", limit=sign.MAX_ENVELOPES), envelopes.name)
    files.write_bytes(envelopes, sign.sign_also(signed, signers.release()))
    return verify(path, trust=None, fingerprint=public.fingerprint, delivery=None)


def _write(out: Path, what: revocation.What, sha256: digest.Sha256, said: revocation.Revoked) -> Path:
    """Write a revocation, once it was read as its recipients will read it."""
    data = sign.sign([revocation.statement(what, sha256, said)], signers.release())
    path = out / f"{what}-{sha256[:16]}{revocation.SUFFIX}"
    revocation.parse(data, path.name)
    files.write_bytes(path, data)
    return path

"""Keys: Ed25519 private keys of this user as files, made on first use, and public keys as recipients hand them over.

Rules: the key folder is 0700 and the files 0600; a folder or key that others can use, a link, or a key of another kind is
refused; a key is made whole or not at all, and two processes that make one at once end up with the same; a public key that is
no sound point of the curve (not canonical, of small order, not on it) is refused before it verifies anything.

Source: RFC 8032 (Ed25519), RFC 8410 (PKCS #8 and SubjectPublicKeyInfo).
"""

import base64
import stat
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from sealrun import digest, files, settings
from sealrun.errors import UsageError

RELEASE = "release"

_LIMIT = 64 * 1024  # bytes of a key file
_PEM_BEGIN, _PEM_END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_SPKI_HEAD = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


class PublicKey(Struct, frozen=True, kw_only=True, order=True):
    """An Ed25519 public key: its 32 bytes."""

    raw: bytes

    @property
    def keyid(self) -> digest.Sha256:
        """The sha256 of the DER SubjectPublicKeyInfo."""
        return digest.of_bytes(_SPKI_HEAD + self.raw)

    @property
    def fingerprint(self) -> str:
        """The keyid as recipients read it: `sha256:` and 64 hex digits."""
        return f"sha256:{self.keyid}"

    @property
    def pem(self) -> bytes:
        """The key as a PEM file."""
        body = base64.b64encode(_SPKI_HEAD + self.raw).decode("ascii")
        return f"{_PEM_BEGIN}\n{body}\n{_PEM_END}\n".encode("ascii")

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether *signature* is this key's over *message*."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def private(name: str) -> Path:
    """Return the file that holds the private key *name*, made now if there is none.

    Raises UsageError when it, or its folder, can be used by others or is a link.
    """
    folder = settings.keys_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder.resolve() / f"{name}.pem"
    if not path.exists(follow_symlinks=False):
        _make(path)
    for place, kind in ((path.parent, stat.S_ISDIR), (path, stat.S_ISREG)):
        info = place.stat(follow_symlinks=False)
        if not kind(info.st_mode):
            raise UsageError(f"key {name}: {place} is a link or no regular file; put the key itself there")
        if info.st_mode & 0o077:
            raise UsageError(f"key {name}: {place} can be used by others; run `chmod go= {place}`")
    return path


def release() -> Path:
    """Return the file of the release key, with its public half beside it as `release.pub`. Raises UsageError."""
    path = private(RELEASE)
    public_half = path.with_suffix(".pub")
    pem = public_key(path).pem
    if not public_half.is_file() or public_half.read_bytes() != pem:
        files.write_bytes(public_half, pem)
    return path


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key in the file *path*. Raises UsageError when it is not PKCS #8 PEM of an Ed25519 key."""
    try:
        key = serialization.load_pem_private_key(files.read_bytes(path, "key", limit=_LIMIT), password=None)
    except (ValueError, TypeError) as problem:
        raise UsageError(f"key: {path} cannot be read as PKCS #8 PEM without a password; replace it") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"key: {path} is no Ed25519 key; replace it")
    return key


def public_key(path: Path) -> PublicKey:
    """Return the public half of the private key at *path*. Raises UsageError."""
    return PublicKey(raw=load_private(path).public_key().public_bytes_raw())


def fingerprint(path: Path) -> digest.Sha256:
    """Return the name InvarLock gives the private key at *path*: the sha256 of the 32 raw bytes of its public half."""
    return digest.of_bytes(public_key(path).raw)


def parse_public(data: bytes, where: str) -> PublicKey:
    """Return the public key in PEM *data*. Raises UsageError naming *where* it stood."""
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines() if line.strip()]
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        lines, der = [], b""
    framed = lines[:1] == [_PEM_BEGIN] and lines[-1:] == [_PEM_END]
    if not framed or len(der) != len(_SPKI_HEAD) + 32 or not der.startswith(_SPKI_HEAD) or not _sound(der[-32:]):
        raise UsageError(f"{where}: not the PEM of one sound Ed25519 public key; expected a file like release.pub")
    return PublicKey(raw=der[-32:])


def load_trusted(place: Path) -> tuple[PublicKey, ...]:
    """Return the public keys in the file *place*, or in the `*.pub` files of the folder *place*, sorted; perhaps none.

    Raises UsageError for a file that holds no sound key, InputMissing when there is no such file.
    """
    found = sorted(place.glob("*.pub")) if place.is_dir() else [place]
    return tuple(sorted({parse_public(files.read_bytes(path, "trust", limit=_LIMIT), str(path)) for path in found}))


def _sound(raw: bytes) -> bool:
    """Return whether *raw* is the canonical form of a point of the curve that is not of small order (RFC 8032, 5.1.3)."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in (0, 1, _P - 1) or (_D * pow(y, 4, _P) + 2 * y * y - 1) % _P == 0:
        return False  # the last condition says that doubling the point gives one of order four
    squared = (y * y - 1) * (_D * y * y + 1)  # x^2 times a square
    return pow(squared, (_P - 1) // 2, _P) == 1


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        files.write_bytes(whole, pem, mode=0o600)
        try:
            path.hardlink_to(whole)
        except FileExistsError:
            return  # another process was faster; its key is the key

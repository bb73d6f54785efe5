"""Keys: Ed25519 private keys of this user as files, made on first use, and public keys as recipients hand them over, of Ed25519
or P-256 (what most key services and tokens hold).

Rules: the key folder is 0700 and the files 0600; a folder or key that others can use, a link, or a key of another kind is
refused; a key is made whole or not at all, and two processes that make one at once end up with the same; a public key that is
no sound point of its curve (not canonical, of small order, not on it) is refused before it verifies anything; an ECDSA
signature has one form (shortest DER, the smaller of the two values of s), so that no byte of it can be another.

Source: RFC 8032 (Ed25519), RFC 8410 and RFC 5480 (SubjectPublicKeyInfo), FIPS 186-5 (ECDSA).
"""

import base64
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from msgspec import Struct

from sealrun import digest, files, settings
from sealrun.errors import UsageError

RELEASE = "release"

type PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
CryptoKey = Ed25519PublicKey | ec.EllipticCurvePublicKey

_LIMIT = 64 * 1024  # bytes of a key file
_PEM_BEGIN, _PEM_END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_SPKI_HEADS = {  # of the SubjectPublicKeyInfo, by the bytes of the key behind it
    32: bytes.fromhex("302a300506032b6570032100"),  # Ed25519
    65: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),  # P-256, uncompressed
}
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # the order of P-256


class PublicKey(Struct, frozen=True, kw_only=True, order=True):
    """A public key: the 32 bytes of Ed25519, or the 65 of an uncompressed point of P-256."""

    raw: bytes

    @property
    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        return _SPKI_HEADS[len(self.raw)] + self.raw

    @property
    def kind(self) -> str:
        """`ed25519` or `p256`."""
        return "ed25519" if len(self.raw) == 32 else "p256"

    @property
    def keyid(self) -> digest.Sha256:
        """The sha256 of the DER SubjectPublicKeyInfo."""
        return digest.of_bytes(self.spki)

    @property
    def fingerprint(self) -> str:
        """The keyid as recipients read it: `sha256:` and 64 hex digits."""
        return f"sha256:{self.keyid}"

    @property
    def pem(self) -> bytes:
        """The key as a PEM file, in lines of 64 characters."""
        body = base64.b64encode(self.spki).decode("ascii")
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        return f"{_PEM_BEGIN}\n{lines}\n{_PEM_END}\n".encode("ascii")

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether *signature* is this key's over *message*."""
        if not _sound(self.raw):
            return False
        try:
            known = self.crypto()
            if isinstance(known, Ed25519PublicKey):
                known.verify(signature, message)
            elif signature == normal(signature):
                known.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                return False
        except (InvalidSignature, ValueError):
            return False
        return True

    def crypto(self) -> CryptoKey:
        """The key as `cryptography` has it."""
        if self.kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(self.raw)
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.raw)


def normal(signature: bytes) -> bytes:
    """Return an ECDSA signature over P-256 in its one form. Raises ValueError when it is none."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _N - s))


def folder() -> Path:
    """Return the folder of this user's keys, made now if there is none."""
    path = settings.keys_folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.resolve()


def private(name: str, *, p256: bool = False) -> Path:
    """Return the file that holds the private key *name*, made now if there is none: of Ed25519, or of P-256.

    Raises UsageError when it, or its folder, can be used by others or is a link.
    """
    path = folder() / f"{name}.pem"
    if not path.exists(follow_symlinks=False):
        _make(path, ec.generate_private_key(ec.SECP256R1()) if p256 else Ed25519PrivateKey.generate())
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


def load_pem(path: Path) -> PrivateKey:
    """Return the private key in the file *path*. Raises UsageError when it is not PKCS #8 PEM of an Ed25519 or P-256 key."""
    try:
        key = serialization.load_pem_private_key(files.read_bytes(path, "key", limit=_LIMIT), password=None)
    except (ValueError, TypeError) as problem:
        raise UsageError(f"key: {path} cannot be read as PKCS #8 PEM without a password; replace it") from problem
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise UsageError(f"key: {path} is no Ed25519 or P-256 key; replace it")


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key in the file *path*. Raises UsageError when it is not PKCS #8 PEM of an Ed25519 key."""
    key = load_pem(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"key: {path} is no Ed25519 key; replace it")
    return key


def public_key(path: Path) -> PublicKey:
    """Return the public half of the private key at *path*. Raises UsageError."""
    return of_crypto(load_pem(path).public_key(), str(path))


def fingerprint(path: Path) -> digest.Sha256:
    """Return the name InvarLock gives the private key at *path*: the sha256 of the 32 raw bytes of its public half."""
    return digest.of_bytes(public_key(path).raw)


def identity(name: str) -> digest.Sha256:
    """Return the fingerprint of the private key *name*, or of the key that it stands for where a bundle is made again: there
    the maker's private key is not at hand. Raises UsageError."""
    stood_for = stands_for(name)
    return stood_for.read_text("ascii") if stood_for.is_file() else fingerprint(private(name))


def stands_for(name: str) -> Path:
    """Return the file that names the key which the key *name* stands for: by fingerprint, or as a public key."""
    return folder() / f"{name}.stands-for"


def parse_public(data: bytes, where: str) -> PublicKey:
    """Return the public key in PEM *data*. Raises UsageError naming *where* it stood."""
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines() if line.strip()]
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        lines, der = [], b""
    framed = lines[:1] == [_PEM_BEGIN] and lines[-1:] == [_PEM_END]
    try:
        return of_spki(der if framed else b"", where)
    except ValueError as problem:
        raise UsageError(
            f"{where}: not the PEM of one sound Ed25519 or P-256 public key; expected a file like release.pub"
        ) from problem


def of_crypto(key: CryptoKey, where: str) -> PublicKey:
    """Return the key that `cryptography` has. Raises ValueError when it is of a kind not known here."""
    return of_spki(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo), where)


def of_spki(der: bytes, where: str) -> PublicKey:
    """Return the key of a SubjectPublicKeyInfo. Raises ValueError when it is no sound key of a kind known here."""
    for size, head in _SPKI_HEADS.items():
        if len(der) == len(head) + size and der.startswith(head) and _sound(der[-size:]):
            return PublicKey(raw=der[-size:])
    raise ValueError(f"{where}: no sound Ed25519 or P-256 key")


@lru_cache(maxsize=64)
def _sound(raw: bytes) -> bool:
    """Return whether *raw* is the canonical form of a point of its curve that is not of small order (RFC 8032, 5.1.3)."""
    if len(raw) == 65:
        try:
            return bool(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)) and raw[0] == 4
        except ValueError:
            return False
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in (0, 1, _P - 1) or (_D * pow(y, 4, _P) + 2 * y * y - 1) % _P == 0:
        return False  # the last condition says that doubling the point gives one of order four
    squared = (y * y - 1) * (_D * y * y + 1)  # x^2 times a square
    return pow(squared, (_P - 1) // 2, _P) == 1


def _make(path: Path, key: PrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        files.write_bytes(whole, pem, mode=0o600)
        try:
            path.hardlink_to(whole)
        except FileExistsError:
            return  # another process was faster; its key is the key

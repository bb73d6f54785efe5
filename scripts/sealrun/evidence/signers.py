"""Who signs: a key file of this user, or a key that never leaves a service, a token or a vault, named by a URI.

Rules: in the key folder, `release.uri` names the release key where it is not the file `release.pem`, and `release.pub` holds
its public half, so that nobody has to be asked who signs; a service on the network is asked only with
INVARLOCK_ALLOW_NETWORK=1; a key of a kind that recipients cannot verify is refused before it signs; a PIN comes from
SEALRUN_SIGNER_PIN or the terminal.

Source: securesystemslib's signers and their URIs; docs/keys.md.
"""

import getpass
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization

from sealrun import files, network, settings
from sealrun.errors import SealrunError, ToolFailed, UsageError
from sealrun.evidence import keys

if TYPE_CHECKING:  # loaded by whoever signs; it costs 65 ms
    from securesystemslib.signer import Signer, SSlibKey

_REMOTE = {"awskms", "azurekms", "gcpkms", "hv"}
_LIMIT = 4096  # bytes of release.uri
_REMEDY = "read docs/keys.md"


def release_public() -> keys.PublicKey:
    """Return the public half of the release key; a key file is made now if there is neither file nor URI. Raises UsageError."""
    if _uri() is None:
        return keys.public_key(keys.release())
    path = keys.folder() / f"{keys.RELEASE}.pub"
    return keys.parse_public(files.read_bytes(path, "release key", limit=_LIMIT), str(path))


def release() -> "Signer":
    """Return the signer of releases. Raises UsageError."""
    uri = _uri()
    return of_file(keys.release()) if uri is None else of_uri(uri, release_public())


def where() -> str:
    """Return where the release key is, in words that may be shown."""
    return _uri() or str(keys.folder() / f"{keys.RELEASE}.pem")


def of_file(path: Path) -> "Signer":
    """Return the signer for the private key at *path*. Raises UsageError."""
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(keys.load_pem(path), _known(keys.public_key(path)))


def of_uri(uri: str, public: keys.PublicKey) -> "Signer":
    """Return the signer that *uri* names, whose public half is *public*. Raises UsageError, ToolFailed."""
    from securesystemslib.signer import Signer

    _admit(uri)
    return _asked(uri, lambda: Signer.from_priv_key_uri(uri, _known(public), _secret))


def use(uri: str) -> keys.PublicKey:
    """Make *uri* the release key, after it signed once and that was verified. Returns its public half.

    Raises UsageError or ToolFailed, and leaves everything as it was.
    """
    _admit(uri)
    uri, known = _asked(uri, lambda: _import(uri))
    try:
        public = keys.of_crypto(_crypto_key(known), uri)
    except ValueError as problem:
        raise UsageError(f"{uri}: {problem}; recipients verify Ed25519 and ECDSA over P-256, {_REMEDY}") from problem
    check(of_uri(uri, public), public)
    folder = keys.folder()
    files.write_bytes(folder / f"{keys.RELEASE}.pub", public.pem)
    files.write_bytes(folder / f"{keys.RELEASE}.uri", f"{uri}\n".encode(), mode=0o600)
    return public


def check(signer: "Signer", public: keys.PublicKey) -> None:
    """Sign a few bytes and verify them. Raises ToolFailed when the key is another than *public*."""
    message = b"sealrun: does this key sign?"
    if not public.signed(message, signature_of(signer, message)):
        raise ToolFailed(f"signer: what it signed is not by {public.fingerprint}; {_REMEDY}")


def signature_of(signer: "Signer", message: bytes) -> bytes:
    """Return the signature of *message* in its one form. Raises ToolFailed when the service or token does not sign."""
    made = bytes.fromhex(_asked("signer", lambda: signer.sign(message)).signature)
    return keys.normal(made) if getattr(signer.public_key, "keytype", "") == "ecdsa" else made


def _uri() -> str | None:
    path = keys.folder() / f"{keys.RELEASE}.uri"
    return files.read_bytes(path, "release key", limit=_LIMIT).decode("utf-8").strip() if path.is_file() else None


def _admit(uri: str) -> None:
    scheme = urlsplit(uri).scheme
    if scheme in _REMOTE and not network.may_open(f"a signer by {scheme}"):
        raise UsageError(f"{uri}: a service on the network signs; set INVARLOCK_ALLOW_NETWORK=1 for this command")


def _import(uri: str) -> "tuple[str, SSlibKey]":
    """Return the URI as the signer writes it, and the public half. Each scheme names its key in its own way."""
    from securesystemslib import signer as made

    parts = urlsplit(uri)
    label = parse_qs(parts.query).get("label", [None])[0]
    ways: Mapping[str, Callable[[], tuple[str, SSlibKey]]] = {
        "file2": lambda: (uri, made.SSlibKey.from_crypto(_private(Path(parts.path)))),
        "hsm": lambda: made.HSMSigner.import_(int(parts.path) if parts.path else None, label, _secret),
        "awskms": lambda: made.AWSSigner.import_(parts.path),
        "gcpkms": lambda: made.GCPSigner.import_(parts.path),
        "azurekms": lambda: made.AzureSigner.import_(parts.netloc.partition(".")[0], parts.path.split("/")[-1]),
        "hv": lambda: made.VaultSigner.import_(parts.path.partition("/")[0]),
    }
    if parts.scheme not in ways:
        raise UsageError(f"{uri}: got the scheme {parts.scheme!r}, expected one of {', '.join(ways)}; {_REMEDY}")
    return ways[parts.scheme]()


def _private(path: Path) -> keys.CryptoKey:
    return keys.load_pem(path).public_key()


def _crypto_key(known: "SSlibKey") -> keys.CryptoKey:
    if known.keytype == "ed25519":
        return keys.PublicKey(raw=bytes.fromhex(known.keyval["public"])).crypto()
    found = serialization.load_pem_public_key(known.keyval["public"].encode())
    if not isinstance(found, keys.CryptoKey):
        raise ValueError(f"a key of the kind {known.keytype}")  # noqa: TRY004 - the key is of no use, not the call
    return found


def _known(public: keys.PublicKey) -> "SSlibKey":
    from securesystemslib.signer import SSlibKey

    if public.kind == "ed25519":
        return SSlibKey(public.keyid, "ed25519", "ed25519", {"public": public.raw.hex()})
    return SSlibKey(public.keyid, "ecdsa", "ecdsa-sha2-nistp256", {"public": public.pem.decode()})


def _secret(name: str) -> str:
    given = settings.variable("SEALRUN_SIGNER_PIN")
    if given is None and not sys.stdin.isatty():
        raise UsageError(f"signer: asks for its {name}; set SEALRUN_SIGNER_PIN, or run this in a terminal")
    return given if given is not None else getpass.getpass(f"{name} of the signing key: ")


def _asked[T](what: str, ask: Callable[[], T]) -> T:
    """Return what a signer answers; libraries of services and tokens raise what they like."""
    try:
        return ask()
    except SealrunError:
        raise
    except Exception as problem:
        raise ToolFailed(f"{what}: {type(problem).__name__}: {problem}; {_REMEDY}") from problem

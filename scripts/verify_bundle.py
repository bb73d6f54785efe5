#!/usr/bin/env python3
"""Verify a Sealrun evidence bundle. One file, nothing but Python 3.9 or newer, any operating system, no network.

    python3 -I verify_bundle.py NAME-VERSION.evidence.tar --fingerprint sha256:...
    python3 -I verify_bundle.py NAME-VERSION.evidence.tar --trust release.pub --files FOLDER

The envelopes (NAME-VERSION.intoto.jsonl) and report.html lie beside the bundle. Nothing is extracted, nothing in the bundle is
run, no module is taken from the folder of this file, and nothing is written but the file that --json names. The format is
described in docs/bundle-format.md.

Exit codes: 0 verified, and every gate said yes; 1 verified, but a gate said no; 2 wrong use, or nobody to trust; 3 a file is
missing or cannot be read; 5 not what was signed.
"""

import sys

if sys.version_info < (3, 9):  # else it ends in a traceback, and in 1, which means something else
    sys.stderr.write("verify_bundle: got Python %d.%d, expected 3.9 or newer\n" % tuple(sys.version_info[:2]))
    sys.exit(2)

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # the folder of this file: a module beside a bundle that was sent is not run

import argparse
import base64
import datetime
import functools
import hashlib
import json
import os
import re
import stat
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

try:  # several times faster; without it this file verifies Ed25519 by itself
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None  # type: ignore[assignment, misc]

# ---------------------------------------------------------------------------------------------------------------- refusals


class Refused(Exception):
    """The bundle, or what belongs to it, is not what was signed."""

    exit_code = 5


class Missing(Refused):
    """There is no such file."""

    exit_code = 3


class WrongUse(Refused):
    """The command line is wrong, or there is nobody to trust."""

    exit_code = 2


def refuse(where: str, what: str) -> NoReturn:
    """End the verification."""
    raise Refused("%s: %s" % (where, what))


# ----------------------------------------------------------------------------------- Ed25519 verification (RFC 8032, 5.1.7)

P = 2**255 - 19
L = 2**252 + 27742_31777_73723_53535_85193_77908_83648_493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

Point = Tuple[int, int, int, int]  # extended coordinates: X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    """Return the sum of two points; right for every pair of points."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    u, v, w, x = f - e, h - g, h + g, f + e
    return u * v % P, w * x % P, v * w % P, u * x % P


def double(a: Point) -> Point:
    """Return twice a point."""
    xx, yy, zz = a[0] * a[0] % P, a[1] * a[1] % P, 2 * a[2] * a[2] % P
    h = xx + yy
    e = h - (a[0] + a[1]) * (a[0] + a[1]) % P
    g = xx - yy
    f = zz + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode_point(raw: bytes) -> Optional[Point]:
    """Return the point that 32 bytes stand for; None when they are not the canonical form of a point."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (v * x * x - u) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def encode_point(a: Point) -> bytes:
    """Return the 32 bytes of a point."""
    inverse = pow(a[2], P - 2, P)
    x, y = a[0] * inverse % P, a[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


@functools.lru_cache(maxsize=64)
def sound_key(raw: bytes) -> bool:
    """Return whether 32 bytes are a public key: a point in canonical form, and not one of the eight of small order."""
    point = decode_point(raw)
    return point is not None and double(double(double(point)))[0] % P != 0


def verify_ed25519(raw_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether *signature* is that of *message* by a sound key; without the cofactor, canonical scalars alone."""
    point = decode_point(raw_key)
    if point is None or not sound_key(raw_key) or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + raw_key + message).digest(), "little") % L
    minus = (P - point[0], point[1], 1, P - point[3])
    table = (NEUTRAL, BASE, minus, add(BASE, minus))
    result = NEUTRAL
    for bit in range(252, -1, -1):  # [s]B - [k]A, both scalars at once
        result = double(result)
        which = (s >> bit & 1) | (k >> bit & 1) << 1
        if which:
            result = add(result, table[which])
    return encode_point(result) == signature[:32]


def base_point() -> Point:
    """Return the point whose y is 4/5 and whose x is even."""
    point = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


BASE = base_point()

# -------------------------------------------------------------------------- ECDSA over P-256 with SHA-256 (FIPS 186-5, 6.4.2)

Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
Affine = Optional[Tuple[int, int]]  # None is the point at infinity
GENERATOR: Affine = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def plus(a: Affine, b: Affine) -> Affine:
    """Return the sum of two points of P-256."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % Q == 0:
        return None
    rise, run = (3 * (a[0] * a[0] - 1), 2 * a[1]) if a == b else (b[1] - a[1], b[0] - a[0])
    slope = rise * pow(run, -1, Q) % Q
    x = (slope * slope - a[0] - b[0]) % Q
    return x, (slope * (a[0] - x) - a[1]) % Q


def decode_affine(raw: bytes) -> Affine:
    """Return the point that 65 bytes stand for; None when they are no uncompressed point of the curve."""
    x, y = int.from_bytes(raw[1:33], "big"), int.from_bytes(raw[33:], "big")
    if len(raw) != 65 or raw[0] != 4 or x >= Q or y >= Q or (y * y - x * x * x + 3 * x - B) % Q:
        return None
    return x, y


def encode_pair(r: int, s: int) -> bytes:
    """Return a signature in the one DER form."""
    numbers = [number.to_bytes(number.bit_length() // 8 + 1, "big") for number in (r, s)]
    body = b"".join(b"\2" + bytes([len(number)]) + number for number in numbers)
    return b"\x30" + bytes([len(body)]) + body


def verify_p256(raw_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether *signature* is that of *message* by the key: DER in its one form, the smaller of the two values of s."""
    key = decode_affine(raw_key)
    if key is None or not 8 <= len(signature) <= 72:
        return False
    cut = 4 + signature[3]
    r, s = int.from_bytes(signature[4:cut], "big"), int.from_bytes(signature[cut + 2 :], "big")
    if not 0 < r < N or not 0 < s <= N // 2 or encode_pair(r, s) != signature:
        return False
    inverse = pow(s, -1, N)
    u, v = int.from_bytes(hashlib.sha256(message).digest(), "big") * inverse % N, r * inverse % N
    both, result = plus(GENERATOR, key), None
    for bit in range(255, -1, -1):  # [u]G + [v]K, both scalars at once
        result = plus(result, result)
        result = plus(result, (None, GENERATOR, key, both)[(u >> bit & 1) | (v >> bit & 1) << 1])
    return result is not None and result[0] % N == r


# ------------------------------------------------------------------------------------------------------------- public keys

SPKI_HEADS = {  # by the bytes of the key that follows it
    32: bytes.fromhex("302a300506032b6570032100"),  # Ed25519 (RFC 8410)
    65: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),  # P-256 (RFC 5480)
}
SHA256_NAME = re.compile("sha256:[0-9a-f]{64}")


class Key(NamedTuple):
    """A public key: its 32 bytes (Ed25519) or 65 (P-256), and the sha256 of its SubjectPublicKeyInfo."""

    raw: bytes
    keyid: str


def signed(key: Key, message: bytes, signature: bytes) -> bool:
    """Return whether *signature* is that of *message* by the key."""
    if len(key.raw) == 65:
        return verify_p256(key.raw, message, signature)
    if Ed25519PublicKey is None:
        return verify_ed25519(key.raw, message, signature)
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def parse_key(data: bytes) -> Optional[Key]:
    """Return the key in PEM *data*, None when it holds no sound key of a kind known here."""
    try:
        lines = [line.strip() for line in data.decode("ascii").splitlines() if line.strip()]
        if lines[:1] != ["-----BEGIN PUBLIC KEY-----"] or lines[-1:] != ["-----END PUBLIC KEY-----"]:
            return None
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        return None
    for size, head in SPKI_HEADS.items():
        raw = der[len(head) :]
        if len(raw) == size and der.startswith(head) and (sound_key(raw) if size == 32 else decode_affine(raw)):
            return Key(raw, hashlib.sha256(der).hexdigest())
    return None


# ------------------------------------------------------------------------------------------------------------- the archive

BLOCK, RECORD, PIECE = 512, 10240, 1 << 20
MAX_BUNDLE, MAX_MEMBERS, MAX_JSON, MAX_ENVELOPES, MAX_REPORT = 2 << 30, 10000, 16 << 20, 64 << 20, 32 << 20
MEMBER_NAME = re.compile("[A-Za-z0-9._+=@,-]+(?:/[A-Za-z0-9._+=@,-]+)*")


class Member(NamedTuple):
    """Where a member's bytes begin, how many they are, and their sha256."""

    offset: int
    size: int
    sha256: str


class Archive:
    """The tar, read once from its first byte to its last; `sha256` is that of the whole file."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self.stream = stream
        self.left = length
        self.whole = hashlib.sha256()
        self.members: Dict[str, Member] = {}
        while True:
            block = self._take(BLOCK, "a header")
            if not block.strip(b"\0"):
                break
            name, size = read_header(block)
            if name in self.members or len(self.members) == MAX_MEMBERS:
                refuse(name, "a member twice, or more than %d members" % MAX_MEMBERS)
            self.members[name] = Member(length - self.left, size, self._take_member(name, size))
        check_names(list(self.members))
        used = length - self.left + BLOCK
        if length != (used + RECORD - 1) // RECORD * RECORD or self._take(self.left, "the end").strip(b"\0"):
            refuse("bundle", "its end is not zeros up to a whole record; bytes were added, changed or cut off")
        self.sha256 = self.whole.hexdigest()
        self.withheld: List[str] = []

    def withhold(self, absent: Dict[str, Member]) -> None:
        """Take members as known by name, size and digest alone."""
        self.withheld = sorted(absent)
        found = {**self.members, **absent}
        self.members = {name: found[name] for name in sorted(found, key=lambda name: (name != "manifest.json", name))}
        check_names(list(self.members))

    def read(self, name: str) -> bytes:
        """Return the bytes of a member."""
        if name not in self.members:
            refuse(name, "not in the bundle, expected that member")
        if name in self.withheld:
            refuse(name, "withheld, but nothing can be verified without it; ask for it")
        member = self.members[name]
        if member.size > MAX_JSON:
            refuse(name, "got %d bytes, expected at most %d" % (member.size, MAX_JSON))
        self.stream.seek(member.offset)
        data = self.stream.read(member.size)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            refuse(name, "changed while it was read")
        return data

    def below(self, folder: str) -> List[str]:
        """Return the members whose names begin with *folder*, in order."""
        return [name for name in self.members if name.startswith(folder)]

    def _take(self, count: int, where: str) -> bytes:
        data = self.stream.read(count) if count <= self.left else b""
        if len(data) != count:
            refuse("bundle", "ends within %s; it was cut short" % where)
        self.left -= count
        self.whole.update(data)
        return data

    def _take_member(self, name: str, size: int) -> str:
        own = hashlib.sha256()
        for begin in range(0, size, PIECE):
            own.update(self._take(min(PIECE, size - begin), name))
        if self._take(-size % BLOCK, name).strip(b"\0"):
            refuse(name, "bytes behind its end are not zero")
        return own.hexdigest()


def read_header(block: bytes) -> Tuple[str, int]:
    """Return name and size that a header block says; every other byte of it is determined by them."""
    prefix, name = block[345:500].rstrip(b"\0"), block[:100].rstrip(b"\0")
    digits = block[124:135]
    full = prefix + b"/" + name if prefix else name
    shown = full.decode("ascii", "replace")
    if not re.fullmatch(b"[0-7]{11}", digits) or split_name(full) != (prefix, name):
        refuse(repr(shown), "its header is not one that a bundle holds")
    wanted = bytearray(BLOCK)
    for at, value in (
        (0, name), (100, b"0000644"), (108, b"0000000"), (116, b"0000000"), (124, digits), (136, b"02263523000"),
        (148, b" " * 8), (156, b"0"), (257, b"ustar\x0000"), (329, b"0000000"), (337, b"0000000"), (345, prefix),
    ):  # fmt: skip
        wanted[at : at + len(value)] = value
    wanted[148:156] = b"%06o\0 " % sum(wanted)
    if block != bytes(wanted):
        refuse(repr(shown), "its header is not one that a bundle holds; a byte in it was changed")
    return shown, int(digits, 8)


def split_name(name: bytes) -> Optional[Tuple[bytes, bytes]]:
    """Return how a header holds *name*: whole up to 100 bytes, else cut at the first slash that leaves at most 100."""
    if len(name) <= 100:
        return b"", name
    for cut in range(len(name) - 101, min(156, len(name))):
        if name[cut : cut + 1] == b"/":
            return (name[:cut], name[cut + 1 :]) if cut else None
    return None


def check_names(names: List[str]) -> None:
    """Refuse names that could lead elsewhere, that some system takes for one another, or that are out of order."""
    folded = {name.lower() for name in names}
    for name in names:
        if len(name) > 255 or not MEMBER_NAME.fullmatch(name) or any(not part.strip(".") for part in name.split("/")):
            refuse(repr(name), "not a name that a member may have")
        above = name.lower()
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in folded:
                refuse(repr(name), "lies below another member")
    if len(folded) != len(names):
        refuse("bundle", "two names differ in case alone")
    if names[:1] != ["manifest.json"] or names[1:] != sorted(names[1:]):
        refuse("bundle", "manifest.json is not the first member, or the others are not in order")


# ----------------------------------------------------------------------------------------------------------- strict JSON

MAX_DEPTH, MAX_VALUES, MAX_DIGITS = 64, 1_000_000, 100
HEX = re.compile("[0-9a-f]{64}")
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_json(data: bytes, where: str) -> Any:
    """Return strict JSON: UTF-8, no key twice, no NaN, not too deep."""

    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key stands twice")
        return value

    def constant(name: str) -> NoReturn:
        raise ValueError("%s is not JSON" % name)

    def finite(text: str) -> float:
        return float(text) if abs(float(text)) != float("inf") else constant(text[:40])

    def short(kind: Callable[[str], Any]) -> Callable[[str], Any]:
        def number(text: str) -> Any:
            if len(text) > MAX_DIGITS:
                raise ValueError("a number of %d characters" % len(text))
            return kind(text)

        return number

    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        refuse(where, "more than %d values" % MAX_VALUES)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique, parse_constant=constant, parse_int=short(int), parse_float=short(finite),
        )  # fmt: skip
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be written again
        level, depth = [value], 0
        while level:
            depth += 1
            level = [
                child
                for item in level
                for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
                if isinstance(child, (dict, list))
            ]
    except (ValueError, RecursionError) as problem:
        refuse(where, "not strict JSON (%s)" % problem)
    if depth > MAX_DEPTH:
        refuse(where, "not strict JSON (nested too deep)")
    return value


def document(data: bytes, shape: Any, where: str) -> Any:
    """Return one of Sealrun's own documents: of this shape, and in the one form that such a document has."""
    value = parse_json(data, where)
    check_shape(value, shape, where)
    try:
        same = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n" == data
    except ValueError:
        same = False
    if not same:
        refuse(where, "not in the one form of a bundle's documents")
    return value


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Refuse *value* unless it has *shape*: a type, a pattern, a constant, a set of choices, [shape], or {key: shape}.

    A key that ends in `?` may be left out; (shape,) also allows null.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            refuse(where, "expected an object")
        needed = {key for key in shape if not key.endswith("?")}
        known = {key.rstrip("?"): inner for key, inner in shape.items()}
        if not needed <= set(value) <= set(known):
            refuse(where, "got the fields %s, expected %s" % (sorted(value), sorted(known)))
        for key in value:
            check_shape(value[key], known[key], "%s: %s" % (where, key))
    elif isinstance(shape, list):
        if not isinstance(value, list):
            refuse(where, "expected a list")
        for number, item in enumerate(value, 1):
            check_shape(item, shape[0], "%s: %d" % (where, number))
    elif isinstance(shape, tuple):
        if value is not None:
            check_shape(value, shape[0], where)
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.fullmatch(value):
            refuse(where, "got %r, expected %s" % (value, shape.pattern))
    elif isinstance(shape, type):
        if type(value) is not shape:
            refuse(where, "got %r, expected %s" % (value, shape.__name__))
    elif isinstance(shape, frozenset):
        if not isinstance(value, (str, type(None))) or value not in shape:
            refuse(where, "got %r, expected one of %s" % (value, sorted(map(str, shape))))
    elif shape is SIZE:
        if type(value) is not int or value < 0:
            refuse(where, "got %r, expected a number of bytes" % (value,))
    elif type(value) is not str or value != shape:
        refuse(where, "got %r, expected %r" % (value, shape))


SIZE = object()
DIGEST = {"sha256": HEX}
RESOURCE = {"name": str, "digest": DIGEST}
REFERENCE = {"uri": str, "digest": DIGEST}
FILE = {"path": str, "sha256": HEX, "size": SIZE}
KINDS = frozenset(("passed", "waived", "failed", "not_applicable"))
OUTCOME = dict.fromkeys(("control", "seen", "expected", "remedy", "evidence", "warning"), str)
OUTCOME_SHAPE: Dict[str, Any] = {**OUTCOME, "outcome": KINDS}
FINDING: Dict[str, Any] = {
    "control": str, "rule": str, "outcome": KINDS, "message": str,
    "severity?": frozenset(("critical", "high", "medium", "low")), "line?": int,
    **dict.fromkeys(("path?", "package?", "version?", "advisory?", "environment?", "fingerprint?"), str),
}  # fmt: skip
STAGE_SHAPE = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [RESOURCE],
    "predicateType": "urn:sealrun:stage:v1",
    "predicate": {
        "stage": str, "sealrun": str, "python": str, "plan": HEX, "judgedAt": str, "reuseKey": HEX, "inputs": [RESOURCE],
        "tools": [{"name": str, "version": str, "environment": str, "lock": HEX}],
        "network": frozenset(("denied", "opened", "unused")), "verdict": frozenset(("passed", "failed", "error")),
        "outcomes": [OUTCOME_SHAPE], "findings": [FINDING], "gathered": [str], "error": str, "errorCode": int,
    },
}  # fmt: skip
V1, V2 = "sealrun/bundle-v1", "sealrun/bundle-v2"
MANIFEST_SHAPE = {"format": frozenset((V1, V2)), "title": str, "members": [FILE]}
PLAN_SHAPE = {
    "format": "sealrun/plan-v1", "name": str, "version": str, "posture": frozenset(("production", "research")),
    "promotable": bool, "judged_at": DAY, "release": HEX, "policy": HEX, "content": HEX, "digest": HEX,
    "retention": {"name": str, "days": int, "reason": str, "until": DAY},
    "source": {"commit": (re.compile("[0-9a-f]{40}|[0-9a-f]{64}"),), "clean": bool},
}  # fmt: skip
CHECKED_SHAPE = {
    "format": "sealrun/checked-v1",
    "lines": [
        {
            **dict.fromkeys(("id", "part", "stage", "title", "seen", "expected", "remedy", "evidence", "warning"), str),
            "deployment": bool, "outcome": KINDS,
        }
    ],
}  # fmt: skip
SUMMARY_SHAPE = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [RESOURCE],
    "predicateType": "https://slsa.dev/verification_summary/v1",
    "predicate": {
        "verifier": {"id": "urn:sealrun:verifier:v1", "version": {"sealrun": str}}, "timeVerified": str, "resourceUri": str,
        "policy": REFERENCE, "inputAttestations": [REFERENCE], "verificationResult": frozenset(("PASSED", "FAILED")),
        "verifiedLevels": [frozenset(("SEALRUN_PRODUCTION", "SEALRUN_RESEARCH", "FAILED"))],
    },
}  # fmt: skip
ARTIFACTS_SHAPE = {"baseline": [FILE], "candidate": [FILE], "data": [FILE]}
LINE_SHAPE = {"payload": str, "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": HEX, "sig": str}]}


def sha256_of_json(value: Any) -> str:
    """Return the sha256 of a value as sorted, compact JSON with a final newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode() + b"\n").hexdigest()


def read_file(path: Path, limit: int) -> bytes:
    """Return a regular file's bytes."""
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            refuse(path.name, "got %d bytes, expected at most %d" % (size, limit))
        return stream.read()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file, and nothing else."""
    try:
        handle = os.open(str(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Missing("%s: cannot be read (%s)" % (path, error.strerror)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        refuse(path.name, "no regular file")
    return os.fdopen(handle, "rb")


# ---------------------------------------------------------------------------------------------------------- verification

STATEMENT, ATTESTATION, POLICY, LOCK = "statements/", "attestations/", "policy/", "requirements/"
PLACES = re.compile(r"plan\.json|release\.toml|policy/.+|requirements/[^/]+\.txt|(?:statements|attestations)/[^/]+\.json")
PLAIN_LINE = re.compile(r'([a-z]+) = (?:"([^"\\\x00-\x1f\x7f]*)"|(true|false))')
DISCLOSURE, RETENTION = "policy/disclosure.toml", "policy/retention.toml"
RETENTION_TABLE = re.compile(r"\[retention\.([A-Za-z0-9_-]+)\]")
RETENTION_LINE = re.compile(r'(days|reason|production) = ([1-9][0-9]{0,5}|"[^"\\\x00-\x1f\x7f]*"|true|false)')
RETENTION_SHAPE = {
    "days": re.compile("[0-9]+"), "reason": re.compile('".*"'), "production": re.compile("true|false"),
}  # fmt: skip
URN, BOM, SNAPSHOT = "urn:sealrun:attestation:", "evidence/bundle/ml-bom.cdx.json", "evidence/audit/snapshot.json"
MAX_SIGNATURES = 16
CERTIFICATE, BASELINE_REPORT = "certificate/manifest.json", "baseline-report.json"


class Envelope(NamedTuple):
    """One signed payload, and its signatures by key id."""

    payload: bytes
    signatures: Dict[str, bytes]

    def signed_by(self, key: Key) -> bool:
        """Return whether *key* signed the payload."""
        head = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(self.payload)
        return key.keyid in self.signatures and signed(key, head + self.payload, self.signatures[key.keyid])


class Verifier:
    """Walks the ladder; `said` collects a sentence for each rung."""

    def __init__(self, path: Path, archive: Archive) -> None:
        self.path, self.archive = path, archive
        self.said: List[str] = ["every byte of the %d members is accounted for" % len(archive.members)]
        self.statements: Dict[str, Any] = {}
        self.plan: Dict[str, Any] = {}
        self.lines: List[Dict[str, Any]] = []
        self.models: Dict[str, List[Dict[str, Any]]] = {"baseline": [], "candidate": [], "data": []}
        self.rules: List[Dict[str, Any]] = []
        self.withheld: Dict[str, str] = {}
        self.undone: List[str] = []
        self.version = V2
        self.passed = False
        self.key = Key(b"", "")
        self.counted: List[TrustedKey] = []

    def check(self, trust: "Trust", delivery: Optional[str]) -> None:
        """Verify everything. Raises Refused at the first thing that does not hold."""
        title = self._manifest()
        envelopes = self._envelopes()
        signers = self._signatures(envelopes, trust)
        release = self._signed_lines(envelopes)
        self._stages()
        self._plan()
        self.counted = trust.judge(signers, release["subject"][0]["digest"]["sha256"], self.plan["judged_at"])
        self._checklist()
        self._claims(self.version == V1 or self._retention())
        self._release(release, title)
        self._attestations(envelopes, release)
        if delivery is not None:
            self._delivery(Path(delivery))

    def _manifest(self) -> str:
        listed = document(self.archive.read("manifest.json"), MANIFEST_SHAPE, "manifest.json")
        named = {entry["path"]: entry for entry in listed["members"]}
        members = self.archive.members
        self.version = listed["format"]
        if self.version != V1 and DISCLOSURE in members:
            self.rules = parse_disclosure(self.archive.read(DISCLOSURE))
        absent: Dict[str, Member] = {}
        for name in sorted(set(named) | set(members) - {"manifest.json"}):
            if name not in named:
                refuse(name, "in the bundle, but not named by manifest.json; it was added or renamed")
            if name not in members:
                if not self._withheld(name):
                    refuse(name, "named by manifest.json, but not in the bundle; it was dropped or renamed")
                absent[name] = Member(0, named[name]["size"], named[name]["sha256"])
            elif (members[name].sha256, members[name].size) != (named[name]["sha256"], named[name]["size"]):
                refuse(name, "got sha256 %s, expected %s; it was changed" % (members[name].sha256, named[name]["sha256"]))
            stage = name.split("/")[1] if name.startswith("evidence/") else ""
            misplaced = not PLACES.fullmatch(name) or (self.version != V1 and name.startswith(ATTESTATION))
            if misplaced and STATEMENT + stage + ".json" not in members:
                refuse(name, "a bundle has no such member")
        if [entry["path"] for entry in listed["members"]] != sorted(named):
            refuse("manifest.json", "the members are not in order, or one stands twice")
        if absent:
            self.archive.withhold(absent)
            self.undone += ["%s: its bytes; its size and digest are signed" % name for name in sorted(absent)]
        title: str = listed["title"]
        return title

    def _withheld(self, name: str) -> bool:
        """Return whether the bundle's own policy lets *name* be withheld, and note its reason."""
        for rule in self.rules:
            if re.fullmatch(".*".join(re.escape(text) for text in rule["members"].split("*")), name):
                self.withheld[name] = rule["reason"]
                return True
        return False

    def _envelopes(self) -> List[Envelope]:
        name = self.path.name[: -len(".evidence.tar")] + ".intoto.jsonl"
        data = self._beside(name, MAX_ENVELOPES)
        if not data.endswith(b"\n"):
            refuse(name, "does not end with a whole line; it was cut short")
        return [parse_envelope(line, "%s, line %d" % (name, at)) for at, line in enumerate(data[:-1].split(b"\n"), 1)]

    def _signatures(self, envelopes: List[Envelope], trust: "Trust") -> Dict[str, Key]:
        """Return the keys that signed every line, one of them trusted; every signature must be good and by a key known here."""
        self.key = self._member_key("evidence/bundle/release.pub")
        names = [name for name in self.archive.below(POLICY + "trust/") if name.endswith(".pub") and self.version != V1]
        known = {key.keyid: key for key in [self.key] + [self._member_key(name) for name in names]}
        first = envelopes[0].signatures
        if not trust.keys:
            raise WrongUse(
                "trust: no key to trust; the bundle is signed by sha256:%s. Ask its maker for that value by another way "
                "than the bundle's, then say --fingerprint, or --trust with the maker's release.pub" % self.key.keyid
            )
        if self.version == V1 and (len(first) != 1 or len(self.key.raw) != 32):
            refuse("envelope 1", "version 1 has one signature on each line, by an Ed25519 key")
        if self.key.keyid not in first or not set(first) <= set(known):
            refuse("envelope 1", "signed by %s, expected %s and keys that the bundle knows" % (sorted(first), self.key.keyid))
        if not any(trusted.keyid in first for trusted in trust.keys):
            expected = " or ".join("sha256:" + trusted.keyid for trusted in trust.keys)
            refuse("signature", "by sha256:%s, expected %s" % (" and sha256:".join(sorted(first)), expected))
        for number, envelope in enumerate(envelopes, 1):
            if set(envelope.signatures) != set(first):
                refuse("envelope %d" % number, "signed by %s, expected %s" % (sorted(envelope.signatures), sorted(first)))
            for keyid in first:
                if not envelope.signed_by(known[keyid]):
                    refuse("envelope %d" % number, "no valid signature by sha256:%s" % keyid)
        return {keyid: known[keyid] for keyid in first}

    def _signed_lines(self, envelopes: List[Envelope]) -> Dict[str, Any]:
        release: Dict[str, Any] = document(envelopes[0].payload, SUMMARY_SHAPE, "envelope 1")
        others = self.archive.below(ATTESTATION) if self.version == V1 else [URN + name for name in self._attested()]
        present = others + self.archive.below(STATEMENT)
        named = release["predicate"]["inputAttestations"]
        if not release["subject"]:
            refuse("envelope 1", "names nothing that was released")
        if [reference["uri"] for reference in named] != present or len(envelopes) != len(present) + 1:
            refuse("envelopes", "not one for the release and one for each of %s" % ", ".join(present))
        for number, (reference, envelope) in enumerate(zip(named, envelopes[1:]), 2):
            got, uri = hashlib.sha256(envelope.payload).hexdigest(), reference["uri"]
            expected = self.archive.members[uri].sha256 if uri in self.archive.members else got
            if not got == reference["digest"]["sha256"] == expected:
                refuse("envelope %d" % number, "not the bytes of %s; lines were exchanged or changed" % uri)
        self.said.append("%d envelopes are signed, each by %s" % (len(envelopes), counted(envelopes[0].signatures, "key")))
        return release

    def _stages(self) -> None:
        for name in self.archive.below(STATEMENT):
            statement = document(self.archive.read(name), STAGE_SHAPE, name)
            said = statement["predicate"]
            if name != STATEMENT + said["stage"] + ".json":
                refuse(name, "speaks of the stage %r; two statements were exchanged" % said["stage"])
            folder = "evidence/" + said["stage"] + "/"
            found = [(path[len(folder) :], self.archive.members[path].sha256) for path in self.archive.below(folder)]
            if [(subject["name"], subject["digest"]["sha256"]) for subject in statement["subject"]] != found:
                refuse(name, "its subjects are not the files below " + folder)
            failed = any(outcome["outcome"] == "failed" for outcome in said["outcomes"])
            follows = "failed" if failed else "passed"
            if said["verdict"] != follows or not said["outcomes"] or said["error"] or said["errorCode"]:
                refuse(name, "says %s, which does not follow from its outcomes" % said["verdict"])
            self.statements[said["stage"]] = statement
        self.said.append("%d stages: their evidence is what they state, their verdicts follow" % len(self.statements))

    def _plan(self) -> None:
        plan = self.plan = document(self.archive.read("plan.json"), PLAN_SHAPE, "plan.json")
        try:
            datetime.date.fromisoformat(plan["judged_at"])
        except ValueError:
            refuse("plan.json", "judged_at is no day")
        if "release.toml" not in self.archive.members:
            refuse("release.toml", "not in the bundle, expected that member")
        lines = ["%s  %s\n" % (self.archive.members[n].sha256, n[len(POLICY) :]) for n in self.archive.below(POLICY)]
        policy = hashlib.sha256("".join(lines).encode()).hexdigest()
        release = self.archive.members["release.toml"].sha256
        content = sha256_of_json([release, policy])
        whole = sha256_of_json([content, plan["judged_at"]])
        if [plan[field] for field in ("release", "policy", "content", "digest")] != [release, policy, content, whole]:
            refuse("plan.json", "is of another release file or policy than the bundle holds")
        for stage, statement in self.statements.items():
            if (statement["predicate"]["plan"], statement["predicate"]["judgedAt"]) != (whole, plan["judged_at"]):
                refuse(STATEMENT + stage + ".json", "judged under another plan or on another day than plan.json says")

    def _checklist(self) -> None:
        controls = parse_checklist(self.archive.read("policy/checklist.toml"))
        needed = {control["stage"] for control in controls} | {"bundle", "certify", "lock"}
        if needed != set(self.statements):
            refuse("statements", "got %s, expected %s" % (sorted(self.statements), sorted(needed)))
        said = {
            (stage, outcome["control"]): outcome
            for stage, statement in self.statements.items()
            for outcome in statement["predicate"]["outcomes"]
        }
        total = sum(len(statement["predicate"]["outcomes"]) for statement in self.statements.values())
        asked = [(control["stage"], control["id"]) for control in controls]
        if len(said) != total or len(asked) != total or set(asked) != set(said):
            refuse("checklist", "not every control is answered exactly once, by its own stage")
        for control in controls:
            outcome = dict(said[control["stage"], control["id"]])
            del outcome["control"]
            self.lines.append({**control, **outcome})
        where = "evidence/bundle/checklist.json"
        if document(self.archive.read(where), CHECKED_SHAPE, where)["lines"] != self.lines:
            refuse(where, "does not say what the statements say")
        if self.plan["posture"] == "production" and any(line["deployment"] and line["warning"] for line in self.lines):
            refuse(where, "warns where a production release may only pass or fail")
        self.said.append("%d lines of the checklist were answered again and agree" % len(self.lines))

    def _retention(self) -> bool:
        """Check the class and its last day; return whether the class is meant for production, as far as the policy is there."""
        said, day = self.plan["retention"], datetime.date.fromisoformat(self.plan["judged_at"])
        try:
            until = (day + datetime.timedelta(days=said["days"])).isoformat() if said["days"] > 0 else ""
        except OverflowError:
            until = ""
        if said["until"] != until:
            refuse("plan.json", "says until %s, %d days after %s" % (said["until"], said["days"], day))
        if RETENTION in self.archive.withheld:
            self.undone.append("that the retention class is the policy's")
        if RETENTION not in self.archive.members or RETENTION in self.archive.withheld:
            return True
        found = parse_retention(self.archive.read(RETENTION)).get(said["name"])
        if found is None or (found["days"], found["reason"]) != (str(said["days"]), said["reason"]):
            refuse("plan.json", "the retention class %r is not that of %s" % (said["name"], RETENTION))
        self.said.append("the bundle is to be kept until %s, as its policy says" % until)
        return found["production"] == "true"

    def _claims(self, kept: bool) -> None:
        said = {stage: statement["predicate"] for stage, statement in self.statements.items()}
        members = self.archive.members
        locks = {name: members[name].sha256 for name in self.archive.below(LOCK)}
        judged = {r["name"]: r["digest"]["sha256"] for r in said["lock"]["inputs"] if r["name"].endswith(".txt")}
        subjects = {s["name"]: s["digest"]["sha256"] for s in self.statements["certify"]["subject"]}
        trusted = [self._member_key(name).keyid for name in self.archive.below(POLICY + "trust/") if name.endswith(".pub")]
        tools = [tool for stage in said.values() for tool in stage["tools"]]
        source = self.plan["source"]
        facts = {
            "network.denied": all(stage["network"] != "opened" for stage in said.values()),
            "runtime.isolated": said["lock"]["verdict"] == "passed"
            and all(tool["lock"] == locks.get(LOCK + tool["environment"] + ".txt") for tool in tools),
            "evidence.archived": CERTIFICATE in subjects and BASELINE_REPORT in subjects,
            "source.commit": source["commit"] is not None and source["clean"],
            "release.key": self.key.keyid in trusted,
            "evidence.retained": kept,
        }
        for outcome in said["bundle"]["outcomes"]:
            holds = facts.get(outcome["control"], True)
            if outcome["outcome"] != "failed" and not outcome["warning"] and not holds:
                refuse(outcome["control"], "said to be %s, but the bundle shows otherwise" % outcome["outcome"])
        if locks != judged:
            refuse(LOCK, "not the locks that the stage lock judged")
        if CERTIFICATE in subjects:
            self._certificate(subjects)

    def _certificate(self, subjects: Dict[str, str]) -> None:
        where = "evidence/certify/" + CERTIFICATE
        if where in self.archive.withheld:
            self.undone.append("that the certificate names the files beside it")
            return
        pack = parse_json(self.archive.read(where), where)
        entries = pack.get("files") if isinstance(pack, dict) else None
        for entry in list(entries.values()) if isinstance(entries, dict) else [None]:
            if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in ("path", "digest")):
                refuse(where, "does not name its files")
            if entry["digest"] != "sha256:%s" % subjects.get("certificate/" + entry["path"]):
                refuse("evidence/certify/certificate/" + entry["path"], "not the file that the certificate names")
        reports = pack.get("reports", {})
        if not isinstance(reports, dict) or not all(isinstance(named, str) for named in reports.values()):
            refuse(where, "does not name its reports")
        for role, named in reports.items():
            if named != "sha256:%s" % subjects.get(role + "-report.json"):
                refuse("evidence/certify/%s-report.json" % role, "not the report that the certificate names")
        self.said.append("the certificate's files and the baseline report are the ones beside it")

    def _release(self, release: Dict[str, Any], title: str) -> None:
        plan, said = self.plan, release["predicate"]
        where = "evidence/model/digests.json"
        if where in self.archive.members:
            self.models = document(self.archive.read(where), ARTIFACTS_SHAPE, where)
        self.passed = all(s["predicate"]["verdict"] == "passed" for s in self.statements.values())
        name = "%s-%s" % (plan["name"], plan["version"])
        signed_as = {subject["name"]: subject["digest"]["sha256"] for subject in release["subject"]}
        archive = self.archive.sha256
        if self.archive.withheld:
            archive = signed_as.get(name + ".evidence.tar", "")
            self.undone.insert(0, "the whole archive, sha256:%s: its signed manifest stands in its place" % archive)
        if not os.path.lexists(str(self.path.parent / "report.html")) and self._withheld("report.html"):
            report = signed_as.get("report.html", "")
            self.undone.append("report.html: its bytes; its digest is signed")
        else:
            report = hashlib.sha256(self._beside("report.html", MAX_REPORT)).hexdigest()
        subjects = [(name + ".evidence.tar", archive), ("report.html", report)]
        subjects += [("manifest.json", self.archive.members["manifest.json"].sha256)] if self.version != V1 else []
        subjects += [("candidate/" + entry["path"], entry["sha256"]) for entry in self.models["candidate"]]
        got = [(subject["name"], subject["digest"]["sha256"]) for subject in release["subject"]]
        for wanted, found in zip(subjects, got):
            if wanted != found:
                refuse(wanted[0], "got %s, but %s %s was signed" % (wanted[1], *found))
        level = "FAILED" if not self.passed else "SEALRUN_" + plan["posture"].upper()
        expected = {
            **said,
            "verifier": {**said["verifier"], "version": {"sealrun": self.statements["bundle"]["predicate"]["sealrun"]}},
            "timeVerified": plan["judged_at"] + "T00:00:00Z",
            "resourceUri": "urn:sealrun:release:" + name,
            "policy": {"uri": "urn:sealrun:policy", "digest": {"sha256": plan["policy"]}},
            "verificationResult": "PASSED" if self.passed else "FAILED",
            "verifiedLevels": [level],
        }
        if got != subjects or said != expected:
            refuse("envelope 1", "the release statement does not follow from what it was made of")
        if title != name or plan["promotable"] != (self.passed and plan["posture"] == "production"):
            refuse("plan.json", "title or promotable differs from what the release statement says")
        self.said.append(
            "bundle, report.html and %d files of the candidate are what was signed" % len(self.models["candidate"])
        )

    def _attested(self) -> List[str]:
        """Return which statements for other tools there are, in their order."""
        there = {"cyclonedx": BOM in self.archive.members, "provenance": True, "test-result": True}
        return [name for name, is_there in {**there, "vulns": SNAPSHOT in self.archive.members}.items() if is_there]

    def _attestations(self, envelopes: List[Envelope], release: Dict[str, Any]) -> None:
        """Rebuild the statements for other tools from what the bundle holds, and compare them byte for byte."""
        if self.version == V1:
            return
        makers = {
            "cyclonedx": self._bill, "provenance": self._provenance, "test-result": self._test_result, "vulns": self._vulns,
        }  # fmt: skip
        for number, name in enumerate(self._attested(), 2):
            if {"cyclonedx": BOM, "vulns": SNAPSHOT}.get(name) in self.archive.withheld:
                self.undone.append("%s%s: what it says" % (URN, name))
            elif makers[name](release["subject"]) != envelopes[number - 1].payload:
                refuse("envelope %d" % number, "%s%s does not say what the bundle says" % (URN, name))
        self.said.append("the statements for other tools say what the bundle says: " + ", ".join(self._attested()))

    def _bill(self, subjects: List[Any]) -> bytes:
        bill, subject = (
            self.archive.read(BOM).strip(),
            json.dumps(subjects, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        )
        parts = (
            b'{"_type":"https://in-toto.io/Statement/v1","predicate":',
            bill,
            b',"predicateType":"https://cyclonedx.org/bom"',
        )
        return b"".join(parts) + b',"subject":' + subject.encode() + b"}\n"

    def _provenance(self, subjects: List[Any]) -> bytes:
        plan, own, members = self.plan, self.statements["bundle"]["predicate"], self.archive.members
        commit = plan["source"]["commit"]
        needed: List[Dict[str, Any]] = [{"digest": {"gitCommit": commit}, "name": "source"}] if commit else []
        for role in ("baseline", "data"):
            needed += [resource("%s/%s" % (role, entry["path"]), entry["sha256"]) for entry in self.models[role]]
        needed += [resource(name, members[name].sha256) for name in self.archive.below(LOCK) + self.archive.below(POLICY)]
        definition = {
            "buildType": "urn:sealrun:release:v1",
            "externalParameters": {
                "name": plan["name"], "version": plan["version"], "release": resource("release.toml", plan["release"]),
            },
            "internalParameters": {
                "judgedAt": plan["judged_at"], "plan": plan["digest"], "policy": plan["policy"], "posture": plan["posture"],
            },
            "resolvedDependencies": needed,
        }  # fmt: skip
        details = {
            "builder": {"id": "urn:sealrun:builder:v1", "version": {"python": own["python"], "sealrun": own["sealrun"]}},
            "byproducts": [resource(name, members[name].sha256) for name in self.archive.below(STATEMENT)],
            "metadata": {"invocationId": "urn:sealrun:plan:" + plan["digest"]},
        }
        return in_toto("https://slsa.dev/provenance/v1", {"buildDefinition": definition, "runDetails": details}, subjects)

    def _test_result(self, subjects: List[Any]) -> bytes:
        ended: Dict[str, List[str]] = {"failedTests": [], "passedTests": [], "warnedTests": []}
        for line in self.lines:
            if line["outcome"] == "failed":
                ended["failedTests"].append(line["id"])
            elif line["outcome"] == "waived" or (line["outcome"] == "passed" and line["warning"]):
                ended["warnedTests"].append(line["id"])
            elif line["outcome"] == "passed":
                ended["passedTests"].append(line["id"])
        checklist = "policy/checklist.toml"
        used = [resource(checklist, self.archive.members[checklist].sha256), resource("release.toml", self.plan["release"])]
        result = "FAILED" if ended["failedTests"] else "WARNED" if ended["warnedTests"] else "PASSED"
        predicate = {**ended, "configuration": used, "result": result}
        return in_toto("https://in-toto.io/attestation/test-result/v0.1", predicate, subjects)

    def _vulns(self, subjects: List[Any]) -> bytes:
        taken, said = parse_json(self.archive.read(SNAPSHOT), SNAPSHOT), self.statements["audit"]["predicate"]
        if not isinstance(taken, dict):
            refuse(SNAPSHOT, "expected an object")
        check_shape({name: taken.get(name) for name in ("as_of", "sha256")}, {"as_of": DAY, "sha256": HEX}, SNAPSHOT)
        scanner = {"uri": "urn:sealrun:audit", "version": said["sealrun"]}
        if said["tools"]:
            name, version = said["tools"][0]["name"], said["tools"][0]["version"]
            scanner = {"uri": "pkg:pypi/%s@%s" % (name, version), "version": version}
        found = [
            {
                "annotations": [{name: finding[name] for name in ("outcome", "package", "version") if name in finding}],
                "id": finding["advisory"],
                "severity": [{"method": "sealrun", "score": finding.get("severity", "unknown")}],
            }
            for finding in said["findings"]
            if finding.get("advisory")
        ]
        data = {"lastUpdate": taken["as_of"] + "T00:00:00Z", "version": "sha256:" + taken["sha256"]}
        day = self.plan["judged_at"] + "T00:00:00Z"
        predicate = {
            "metadata": {"scanFinishedOn": day, "scanStartedOn": day}, "scanner": {**scanner, "db": data, "result": found},
        }  # fmt: skip
        return in_toto("https://in-toto.io/attestation/vulns/v0.2", predicate, subjects)

    def _delivery(self, folder: Path) -> None:
        if not folder.is_dir():
            raise Missing("--files: %s is no folder; name the one that holds the delivered model" % folder)
        wanted = {entry["path"]: entry["sha256"] for entry in self.models["candidate"]}
        found = delivered(folder)
        for name in sorted(set(found) | set(wanted)):
            path = folder / name
            if name not in wanted:
                refuse(str(path), "delivered, but not certified; it was added")
            if name not in found:
                refuse(str(path), "certified, but not delivered")
            if found[name] != "file":
                refuse(str(path), "a link or no regular file, expected the file itself")
            if sha256_of_file(path) != wanted[name]:
                refuse(str(path), "not what was certified")
        self.said.append("the %d files delivered are exactly those that were certified" % len(wanted))

    def _beside(self, name: str, limit: int) -> bytes:
        try:
            return read_file(self.path.parent / name, limit)
        except Missing as error:
            refuse(name, "expected beside the bundle; %s" % error)

    def _member_key(self, name: str) -> Key:
        key = parse_key(self.archive.read(name))
        if key is None:
            refuse(name, "not the PEM of one sound public key")
        return key


def parse_envelope(line: bytes, where: str) -> Envelope:
    """Return the envelope on one line, which has one form."""
    value = parse_json(line, where)
    check_shape(value, LINE_SHAPE, where)
    if not 1 <= len(value["signatures"]) <= MAX_SIGNATURES:
        refuse(where, "got %d signatures, expected 1 to %d" % (len(value["signatures"]), MAX_SIGNATURES))
    try:
        payload = base64.b64decode(value["payload"], validate=True)
        signatures = {made["keyid"]: base64.b64decode(made["sig"], validate=True) for made in value["signatures"]}
    except ValueError:
        refuse(where, "no base64")
    made = [{"keyid": keyid, "sig": base64.b64encode(raw).decode()} for keyid, raw in sorted(signatures.items())]
    form = '{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":%s}'
    if line != (form % (base64.b64encode(payload).decode(), json.dumps(made, separators=(",", ":")))).encode():
        refuse(where, "not in the one form of an envelope")
    return Envelope(payload, signatures)


def in_toto(kind: str, predicate: Dict[str, Any], subjects: List[Any]) -> bytes:
    """Return an in-toto statement in the one form of a bundle's documents."""
    value = {"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": kind, "predicate": predicate}
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def resource(name: str, sha256: str) -> Dict[str, Any]:
    """Return in-toto's descriptor of a file."""
    return {"name": name, "digest": {"sha256": sha256}}


def counted(things: Any, noun: str) -> str:
    """Return how many *things* there are, in words."""
    return "%d %s%s" % (len(things), noun, "" if len(things) == 1 else "s")


def parse_plain(data: bytes, where: str, form: str, heading: str) -> List[Dict[str, Any]]:
    """Return what stands before the first table of a TOML file in the plain form, without its format, and then the tables."""
    tables: List[Dict[str, Any]] = [{}]
    try:
        text = data.decode("utf-8")
    except ValueError:
        refuse(where, "not UTF-8")
    for number, line in enumerate(text.split("\n"), 1):
        if line == "[[%s]]" % heading:
            tables.append({})
        elif line and not line.startswith("#"):
            found = PLAIN_LINE.fullmatch(line)
            if found is None or found.group(1) in tables[-1]:
                refuse("%s, line %d" % (where, number), "not in the plain form")
            tables[-1][found.group(1)] = found.group(3) == "true" if found.group(3) else found.group(2)
    if tables[0].pop("format", "") != form:
        refuse(where, "does not begin with its format")
    return tables


def parse_checklist(data: bytes) -> List[Dict[str, Any]]:
    """Return the controls of policy/checklist.toml."""
    where = "policy/checklist.toml"
    head, *tables = parse_plain(data, where, "sealrun/checklist-v1", "control")
    check_shape(head, {}, where)
    shape = {**dict.fromkeys(("id", "part", "stage", "title", "solution"), str), "deployment?": bool}
    for table in tables:
        check_shape(table, shape, where)
    fields = ("id", "part", "stage", "title")
    return [{**{f: t[f] for f in fields}, "deployment": t.get("deployment", False)} for t in tables]


def parse_disclosure(data: bytes) -> List[Dict[str, Any]]:
    """Return what policy/disclosure.toml lets be withheld from a customer: patterns of members, and why."""
    head, *tables = parse_plain(data, DISCLOSURE, "sealrun/disclosure-v1", "withhold")
    check_shape(head, {}, DISCLOSURE)
    for table in tables:
        check_shape(table, {"members": str, "reason": str}, DISCLOSURE)
    return tables


def parse_retention(data: bytes) -> Dict[str, Dict[str, str]]:
    """Return the classes of policy/retention.toml by name, every value as text."""
    try:
        lines = data.decode("utf-8").split("\n")
    except ValueError:
        refuse(RETENTION, "not UTF-8")
    told = [line for line in lines if line and not line.startswith("#")]
    if told[:1] != ['format = "sealrun/retention-v1"']:
        refuse(RETENTION, "does not begin with its format")
    classes: Dict[str, Dict[str, str]] = {}
    table: Optional[Dict[str, str]] = None
    for line in told[1:]:
        heading, found = RETENTION_TABLE.fullmatch(line), RETENTION_LINE.fullmatch(line)
        if heading and heading.group(1) not in classes:
            table = classes[heading.group(1)] = {}
        elif found and table is not None and found.group(1) not in table:
            table[found.group(1)] = found.group(2)
        else:
            refuse(RETENTION, "%r is not in the plain form" % line)
    for table in classes.values():
        check_shape(table, RETENTION_SHAPE, RETENTION)
        table["reason"] = table["reason"][1:-1]
    return classes


LINK_TAGS = (0xA000000C, 0xA0000003)  # of Windows: a symbolic link, a junction


def kind_of(mode: int, tag: int) -> str:
    """Return `file`, `folder` or `other` (links, junctions, devices, pipes) for what lstat says of a name."""
    if tag in LINK_TAGS or stat.S_ISLNK(mode):
        return "other"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def delivered(folder: Path) -> Dict[str, str]:
    """Return name and kind of everything below *folder* that is no folder, names with `/`; links are not followed."""
    found: Dict[str, str] = {}
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            info = path.lstat()
            kind = kind_of(info.st_mode, getattr(info, "st_reparse_tag", 0))
            if kind == "folder":
                waiting.append(path)
            else:
                found[relative_name(path, folder)] = kind
    return found


def relative_name(path: PurePath, folder: PurePath) -> str:
    """Return the name of *path* below *folder*, as a certified file is named on every system."""
    return path.relative_to(folder).as_posix()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    own = hashlib.sha256()
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    with open_file(path) as stream:
        while True:
            count = stream.readinto(buffer)  # type: ignore[attr-defined]
            if not count:
                return own.hexdigest()
            own.update(view[:count])


# ------------------------------------------------------------------------------------------------------------------ trust

ROLES = ("release", "hosted", "promote", "revoke")
REVOCATION_SHAPE = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": frozenset(("key", "bundle")), "digest": DIGEST}],
    "predicateType": "urn:sealrun:revocation:v1",
    "predicate": {
        "reason": frozenset(("compromised", "superseded", "withdrawn")), "since": (DAY,), "successor": (HEX,), "note": str,
    },
}  # fmt: skip


class TrustedKey(NamedTuple):
    """A key by its id, and itself where it is known; what it may do, and from which day to which."""

    keyid: str
    key: Optional[Key] = None
    roles: Tuple[str, ...] = ("release",)
    since: str = ""
    until: str = ""


class Revocation(NamedTuple):
    """A revocation as it was read, its signature not looked at yet."""

    where: str
    what: str
    sha256: str
    said: Dict[str, Any]
    envelope: Envelope

    def told(self) -> str:
        """Return it in words."""
        since = " since %s" % self.said["since"] if self.said["since"] else ""
        successor = ", in favour of sha256:%s" % self.said["successor"] if self.said["successor"] else ""
        note = " (%s)" % self.said["note"] if self.said["note"] else ""
        return "revoked: %s%s%s%s, says %s" % (self.said["reason"], since, successor, note, self.where)


class Trust:
    """Whom the recipient trusts: keys, how many of them must have signed, and what was revoked."""

    def __init__(self, trust: Optional[str], fingerprint: Optional[str], revoked: Optional[str] = None) -> None:
        self.keys: List[TrustedKey] = []
        self.revocations: List[Revocation] = []
        self.threshold = 1
        if trust and fingerprint:
            raise WrongUse("trust: got --trust and --fingerprint, expected one of them")
        if fingerprint and not SHA256_NAME.fullmatch(fingerprint):
            raise WrongUse("--fingerprint: got %r, expected sha256: and 64 lower-case hex digits" % fingerprint)
        if fingerprint:
            self.keys = [TrustedKey(fingerprint[7:])]
        else:
            self._load(Path(trust) if trust else Path(__file__).resolve().parent.parent / "policy" / "trust", bool(trust))
        if revoked:
            self._revocations(Path(revoked))

    def judge(self, signers: Dict[str, Key], bundle: str, day: str) -> List[TrustedKey]:
        """Return the keys that count for a bundle of *day* that these signed. Raises Refused when they are too few."""
        counted, reasons = [], []
        for trusted in self.keys:
            if trusted.keyid not in signers or not {"release", "hosted"} & set(trusted.roles):
                continue
            reason = self._void(trusted, signers[trusted.keyid], day)
            if reason:
                reasons.append("sha256:%s %s" % (trusted.keyid, reason))
            else:
                counted.append(trusted)
        if len(counted) < self.threshold:
            why = "; ".join(reasons) or "the others are not trusted for releases"
            refuse("signature", "got %d signatures that count, expected %d; %s" % (len(counted), self.threshold, why))
        for found in self.revocations:
            if (found.what, found.sha256) == ("bundle", bundle):
                self._believe(found, [signers[trusted.keyid] for trusted in counted], ("revoke", "release"))
                refuse("bundle", found.told())
        return counted

    def _void(self, trusted: TrustedKey, key: Key, day: str) -> str:
        """Return why a key does not count for a bundle of *day*; empty when it does."""
        if day < trusted.since or (trusted.until and day > trusted.until):
            limits = (trusted.since or "the beginning", trusted.until or "the end", day)
            return "is trusted from %s to %s, the bundle is of %s" % limits
        for found in self.revocations:
            if (found.what, found.sha256) == ("key", trusted.keyid):
                self._believe(found, [key], ("revoke",))
                since = found.said["since"]
                if since is None or found.said["reason"] == "compromised" or day >= since:
                    return "is " + found.told()
        return ""

    def _believe(self, found: Revocation, by: List[Key], roles: Tuple[str, ...]) -> None:
        known = by + [trusted.key for trusted in self.keys if trusted.key and set(roles) & set(trusted.roles)]
        if not any(found.envelope.signed_by(key) for key in known):
            raise WrongUse(
                "%s: revokes what this bundle relies on, but is signed neither by it nor by a key with the role "
                "revoke; find out who put it there" % found.where
            )

    def _load(self, place: Path, named: bool) -> None:
        if named and not place.exists():
            raise Missing("--trust: there is no %s" % place)
        if named and not place.is_dir():
            self.keys = [self._key(place)]
            return
        if not place.is_dir():
            return
        found = {path.name: self._key(path) for path in sorted(place.glob("*.pub"))}
        self._revocations(place)
        if (place / "trust.toml").exists():
            self._described(place / "trust.toml", found)
        else:
            self.keys = list({trusted.keyid: trusted for trusted in found.values()}.values())

    def _key(self, path: Path) -> TrustedKey:
        try:
            key = parse_key(read_file(path, 65536))
        except Missing:
            raise
        except Refused as error:
            raise WrongUse("--trust: %s" % error) from None
        if key is None:
            raise WrongUse("%s: not the PEM of one sound public key; expected a file like release.pub" % path)
        return TrustedKey(key.keyid, key)

    def _described(self, path: Path, found: Dict[str, TrustedKey]) -> None:
        """Read trust.toml, which names each key of its folder once."""
        shape = {"file": str, "roles": str, "since?": DAY, "until?": DAY}
        try:
            head, *tables = parse_plain(read_file(path, 65536), str(path), "sealrun/trust-v1", "key")
            check_shape(head, {"threshold?": str}, str(path))
            for table in tables:
                check_shape(table, shape, str(path))
                for name in ("since", "until"):
                    datetime.date.fromisoformat(table.get(name, "2026-01-31"))
                if not set(table["roles"].split(" ")) <= set(ROLES):
                    refuse(str(path), "got the roles %r, expected some of %s" % (table["roles"], " ".join(ROLES)))
        except (Refused, ValueError) as error:
            raise WrongUse(str(error)) from None
        self.keys = [
            found[table["file"]]._replace(
                roles=tuple(table["roles"].split(" ")), since=table.get("since", ""), until=table.get("until", "")
            )
            for table in tables
            if table["file"] in found
        ]
        if sorted(table["file"] for table in tables) != sorted(found) or len({key.keyid for key in self.keys}) != len(found):
            raise WrongUse("%s: expected each key of its folder once, and no key in two files" % path)
        signing = [key for key in self.keys if {"release", "hosted"} & set(key.roles)]
        if head.get("threshold", "1") not in [str(number) for number in range(1, len(signing) + 1)]:
            raise WrongUse("%s: expected a threshold between 1 and %d, the keys that sign" % (path, len(signing)))
        self.threshold = int(head.get("threshold", "1"))

    def _revocations(self, place: Path) -> None:
        for path in sorted(place.glob("*.revocation.json")) if place.is_dir() else [place]:
            try:
                data = read_file(path, 65536)
                if not data.endswith(b"\n"):
                    refuse(path.name, "does not end with a whole line")
                envelope = parse_envelope(data[:-1], path.name)
                said = document(envelope.payload, REVOCATION_SHAPE, path.name)
                if len(said["subject"]) != 1:
                    refuse(path.name, "revokes several things")
            except Missing:
                raise
            except Refused as error:
                raise WrongUse("%s; no revocation, remove it or get it again" % error) from None
            subject = said["subject"][0]
            self.revocations.append(
                Revocation(path.name, subject["name"], subject["digest"]["sha256"], said["predicate"], envelope)
            )


# ------------------------------------------------------------------------------------------------------------ what is said

NOT_PROVED = (
    "that the models were run as the records say: whoever holds the key could have written other records",
    "that the candidate is good, or free of hidden behaviour: it was compared with its baseline on one text by one measure",
    "that there is no vulnerability or secret: the scans know what their rules and the advisory snapshot knew on that day",
    "whose key it is: that is what the fingerprint was for, if you got it by another way than the bundle",
    "when it was signed: the day of judgement is what the signer says it is",
)


TIERS = {
    "hosted identity": "which by your trust folder only a hosted build can use",
    "release key": "listed in the maker's own policy",
    "research key": "which no policy of the maker lists",
}


def tier_of(verifier: Verifier) -> str:
    """Return how much the keys that counted stand for."""
    if any("hosted" in trusted.roles for trusted in verifier.counted):
        return "hosted identity"
    listed = any(line["id"] == "release.key" and line["outcome"] == "passed" and not line["warning"] for line in verifier.lines)
    return "release key" if listed else "research key"


def printable(text: str) -> str:
    """Return *text* without what a terminal would act on."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def say(text: str = "") -> None:
    """Say a line to a person."""
    print(printable(text), file=sys.stderr)


def tell(verifier: Verifier) -> None:
    """Say what was shown, and what was not."""
    plan = verifier.plan
    for sentence in verifier.said:
        say("  ok   " + sentence)
    for line in verifier.lines:
        if line["outcome"] == "failed":
            say("  NO   %s: %s; expected %s" % (line["title"], line["seen"], line["expected"]))
        elif line["outcome"] == "waived":
            say("  but  %s: %s" % (line["title"], line["seen"]))
        elif line["warning"]:
            say("  warn %s: %s" % (line["title"], line["warning"]))
    tier = tier_of(verifier)
    say()
    say(
        "%s-%s, judged on %s: %s"
        % (plan["name"], plan["version"], plan["judged_at"], "PASSED" if verifier.passed else "FAILED")
    )
    for trusted in verifier.counted:
        say("signed by sha256:%s" % trusted.keyid)
    say("trust tier: %s, %s" % (tier, TIERS[tier]))
    if not plan["promotable"]:
        say("NOT PROMOTABLE: %s" % ("a research release" if plan["posture"] == "research" else "a gate said no"))
    if verifier.withheld:
        say()
        say("CUSTOMER EDITION: withheld, as the maker's signed policy allows")
        for name, reason in sorted(verifier.withheld.items()):
            say("  - %s: %s" % (name, reason))
        say("so that these checks could not be made")
        for sentence in verifier.undone:
            say("  - " + sentence)
    say()
    say("This does not prove")
    for sentence in NOT_PROVED:
        say("  - " + sentence)


def result_of(verifier: Verifier) -> Dict[str, Any]:
    """Return what --json writes, of the same schema as every verdict of Sealrun."""
    said = {outcome["control"]: outcome for s in verifier.statements.values() for outcome in s["predicate"]["outcomes"]}
    return {
        "schema": "urn:sealrun:result:v1",
        "command": "verify",
        "verdict": "passed" if verifier.passed else "failed",
        "exit_code": 0 if verifier.passed else 1,
        "controls": [said[line["id"]] for line in verifier.lines],
        "findings": [finding for s in verifier.statements.values() for finding in s["predicate"]["findings"]],
        "error": "",
        "bundle": str(verifier.path),
        "digest": "sha256:" + verifier.archive.sha256,
        "signers": ["sha256:" + trusted.keyid for trusted in verifier.counted],
        "tier": tier_of(verifier),
        "shown": verifier.said,
        "not_proved": list(NOT_PROVED),
        "withheld": sorted(verifier.withheld),
        "undone": verifier.undone,
    }


def failure(path: str, error: Refused) -> Dict[str, Any]:
    """Return what --json writes when there is no verdict."""
    return {
        "schema": "urn:sealrun:result:v1", "command": "verify", "verdict": "error", "exit_code": error.exit_code,
        "controls": [], "findings": [], "error": str(error), "bundle": path, "digest": "",
        "signers": [], "tier": "", "shown": [], "not_proved": list(NOT_PROVED), "withheld": [], "undone": [],
    }  # fmt: skip


def emit(result: Dict[str, Any], target: Optional[str]) -> None:
    """Write *result* to standard output for `-`, to the file *target* otherwise, nowhere for None."""
    data = json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    if target == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    elif target:
        Path(target).write_bytes(data)


def verified(
    path: Path, trust: Optional[str], fingerprint: Optional[str], delivery: Optional[str], revoked: Optional[str] = None
) -> Verifier:
    """Return the verifier of the bundle at *path*, all of which held. Raises Refused."""
    if not path.name.endswith(".evidence.tar"):
        raise WrongUse("bundle: got %s, expected the file NAME.evidence.tar" % path)
    try:
        with open_file(path) as stream:
            length = os.fstat(stream.fileno()).st_size
            if length > MAX_BUNDLE:
                refuse(path.name, "got %d bytes, expected at most %d" % (length, MAX_BUNDLE))
            verifier = Verifier(path, Archive(stream, length))
            verifier.check(Trust(trust, fingerprint, revoked), delivery)
            return verifier
    except OSError as error:
        raise Missing("%s: cannot be read (%s)" % (error.filename or path, error.strerror)) from None


def main(argv: Optional[List[str]] = None) -> int:
    """Verify one bundle and return the exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="Exit codes: see the head of this file."
    )
    parser.add_argument("bundle", help="NAME.evidence.tar; its NAME.intoto.jsonl and report.html lie beside it")
    parser.add_argument("--trust", metavar="FILE_OR_DIR", help="public key (release.pub), or a folder of *.pub")
    parser.add_argument("--fingerprint", metavar="sha256:HEX", help="fingerprint of the one key to accept")
    parser.add_argument("--revoked", metavar="FILE_OR_DIR", help="a revocation, or a folder of *.revocation.json")
    parser.add_argument("--files", metavar="DIR", help="folder with the delivered model, to be bound byte for byte")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the result as JSON")
    options = parser.parse_args(argv)
    try:
        verifier = verified(Path(options.bundle), options.trust, options.fingerprint, options.files, options.revoked)
    except Refused as error:
        say("verify_bundle: %s" % error)
        emit(failure(options.bundle, error), options.json)
        return error.exit_code
    tell(verifier)
    emit(result_of(verifier), options.json)
    return 0 if verifier.passed else 1


if __name__ == "__main__":
    sys.exit(main())

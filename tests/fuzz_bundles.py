"""Fuzzed bundles, each from a number: bytes that changed on the way, and documents that a holder of the trusted key wrote.

The same number gives the same bundle. Both verifiers look at each; `problems` returns what they did wrong.
"""

import base64
import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sealrun import digest, files
from sealrun.evidence import bundle, manifest, sign
from tests.bundles import TITLE, Draft, _archive, private_key, public_key
from tests.hostile import _contents

_TAR, _LINES, _REPORT = f"{TITLE}{bundle.SUFFIX}", f"{TITLE}{sign.SUFFIX}", sign.REPORT
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**40, 1e308, 1.5, "", "\0", "\ud800", "../x", "a" * 300, [], {}, [[]], {"": {}}, "0" * 64, "passed",
)  # fmt: skip
_TEXTS = (
    b"NaN",
    b"1e999",
    b"-0",
    b"9" * 200,
    b"[" * 200,
    b'{"a":1,"a":2}',
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\\ud800",
    b"'",
)


class Fuzzer:
    """Makes bundles in *folder* from one good one."""

    def __init__(self, folder: Path) -> None:
        self.path = Draft().write(folder)
        self.good = {name: (folder / name).read_bytes() for name in (_TAR, _LINES, _REPORT)}
        self.there = dict(self.good)
        self.members = _contents(self.good[_TAR])

    def make(self, number: int) -> bool:
        """Write the bundle *number*; return whether it was changed on the way, so that it must be refused."""
        choose = random.Random(number)
        if number % 20 == 19:
            self._write(self._by_its_maker(choose))
            return False
        name = choose.choice((_TAR,) * 14 + (_LINES,) * 4 + (_REPORT,))
        changed = _garbled(self.good[name], choose) if name != _LINES or choose.random() < 0.5 else self._other_lines(choose)
        self._write({**self.good, name: changed})
        return changed != self.good[name]

    def _write(self, found: dict[str, bytes]) -> None:
        for name, data in found.items():
            if self.there[name] != data:
                self.path.with_name(name).write_bytes(data)
                self.there[name] = data

    def _other_lines(self, choose: random.Random) -> bytes:
        """Return envelopes with something odd within, in the form of envelopes."""
        lines = [json.loads(line) for line in self.good[_LINES].splitlines()]
        which = choose.randrange(len(lines))
        if choose.random() < 0.5:
            payload = _odd_json(base64.b64decode(lines[which]["payload"]), choose)
            lines[which]["payload"] = base64.b64encode(payload).decode()
        else:
            _make_odd(lines[which], choose)
        return b"".join(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n" for line in lines)

    def _by_its_maker(self, choose: random.Random) -> dict[str, bytes]:
        """Return a bundle in which one member is odd, listed and signed anew by the trusted key."""
        name = choose.choice(sorted(set(self.members) - {bundle.MANIFEST}))
        data = self.members[name]
        odd = _odd_json(data, choose) if data[:1] in b"{[" and choose.random() < 0.8 else _garbled(data, choose)
        members = {**self.members, name: odd}
        del members[bundle.MANIFEST]
        listed = manifest.describe(TITLE, members)
        tar = _archive({bundle.MANIFEST: listed, **members})
        lines = [json.loads(line) for line in self.good[_LINES].splitlines()]
        release = json.loads(base64.b64decode(lines[0]["payload"]))
        release["subject"][0]["digest"]["sha256"], release["subject"][2]["digest"]["sha256"] = map(
            digest.of_bytes, (tar, listed)
        )
        payloads = []
        for line, reference in zip(lines[1:], release["predicate"]["inputAttestations"], strict=True):
            payloads.append(members.get(reference["uri"], base64.b64decode(line["payload"])))
            reference["digest"]["sha256"] = digest.of_bytes(payloads[-1])
        return {
            _TAR: tar,
            _LINES: b"".join(map(_signed, (files.readable_json(release), *payloads))),
            _REPORT: self.good[_REPORT],
        }


@contextmanager
def fuzzer() -> Iterator[Fuzzer]:
    """Yield a fuzzer in a folder of its own, in memory where that can be had."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Fuzzer(Path(folder))


def problems(numbers: Iterable[int]) -> list[str]:
    """Return what the verifiers did wrong with the bundles of these *numbers*: a crash, another answer, an acceptance."""
    from tests.unit.test_verify import ours, theirs

    found = []
    with fuzzer() as made:
        for number in numbers:
            changed = made.make(number)
            before = sorted(path.name for path in made.path.parent.iterdir())
            try:
                codes = (ours(made.path)[0], theirs(made.path)[0])
            except Exception as error:  # noqa: BLE001 - any is what is looked for
                found.append(f"{number}: {error!r}")
                continue
            if codes[0] != codes[1] or codes[0] not in ((5,) if changed else (0, 1, 5)):
                found.append(f"{number}: {codes}")
            if sorted(path.name for path in made.path.parent.iterdir()) != before:
                found.append(f"{number}: wrote a file")
    return found


def _signed(payload: bytes) -> bytes:
    """Return one line signed by the test key 1, faster than by the library that signs releases."""
    signature = private_key().sign(b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload))
    made = {"keyid": public_key().keyid, "sig": base64.b64encode(signature).decode()}
    return digest.canonical_json(
        {"payload": base64.b64encode(payload).decode(), "payloadType": "application/vnd.in-toto+json", "signatures": [made]}
    )


def _garbled(data: bytes, choose: random.Random) -> bytes:
    """Return *data* with bytes changed, cut, moved, repeated or put in."""
    at, size = choose.randrange(len(data) + 1), choose.choice((1, 1, 2, 8, 100, 512, 1024))
    kind = choose.randrange(6)
    if kind == 0:
        changed = bytearray(data or b"\0")
        for _ in range(choose.choice((1, 1, 2, 8))):
            changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
        return bytes(changed)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + size :]
    if kind == 3:
        return data[:at] + choose.choice((choose.randbytes(size), bytes(size), choose.choice(_TEXTS))) + data[at:]
    if kind == 4:
        return data[:at] + data[at : at + size] * 2 + data[at + size :]
    begin = at // 512 * 512
    header = bytearray(data[begin : begin + 512].ljust(512, b"\0"))
    header[choose.choice((0, 100, 108, 124, 136, 156, 157, 257, 329, 345, 500)) + choose.randrange(8)] = choose.randrange(256)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    return data[:begin] + bytes(header) + data[begin + 512 :]


def _odd_json(data: bytes, choose: random.Random) -> bytes:
    """Return a JSON document with something odd within, in the form of a bundle's documents where that can be."""
    value = json.loads(data)
    _make_odd(value, choose)
    try:
        made = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        made = json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
    return made if choose.random() < 0.8 else _garbled(made, choose)


def _make_odd(value: Any, choose: random.Random) -> None:
    """Change something somewhere in *value*."""
    while isinstance(value, (dict, list)) and value:
        key = choose.choice(sorted(value)) if isinstance(value, dict) else choose.randrange(len(value))
        if isinstance(value[key], (dict, list)) and value[key] and choose.random() < 0.8:  # type: ignore[call-overload]
            value = value[key]  # type: ignore[call-overload]
            continue
        kind = choose.randrange(4)
        if kind == 0:
            del value[key]  # type: ignore[arg-type]
        elif kind == 1 and isinstance(value, list):
            value.append(value[key])  # type: ignore[call-overload]
        elif kind == 1:
            value[choose.choice(("", "x", str(key) + "2"))] = value[key]
        else:
            value[key] = choose.choice(_ODD)  # type: ignore[call-overload]
        return

"""Text to hits: filter, confirm, judge, look one layer deeper.

Rules: a hit is what a rule matched, judged by its context and left by policy's allow list; of two that overlap on a line the
more specific names it; what was matched and set aside is counted by reason; base64, hex, URL encoding and the octal escapes
of a command history are undone twice.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from sealrun.inside.secret_context import CODE, LOCALE, SAID_SOMEWHERE, SAMPLE, SETTINGS, Place, whole, why_not
from sealrun.inside.secret_filter import CANARY, HIDING, lines_of_events
from sealrun.inside.secret_rules import Match, Rule, Rules
from sealrun.inside.secret_text import OVERLAP, Part, Skipped, lines_of, parts, plain, stream_of

LAYERS = 2
LONG = 64 * 1024  # characters; a longer line is judged in parts that overlap
RUN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
OCTAL = re.compile(r"\\([0-3][0-7]{2})")
WHOLE_LINE = ("url", "octal")  # layers that a line has as a whole
PRAGMA = re.compile(r"(?i)\b(nosecret|gitleaks:allow|pragma: ?allowlist secret|trufflehog:ignore|kingfisher:ignore)\b")


class Hit(NamedTuple):
    """A secret: the number of its rule, the line (None: binary), the layers around it, and itself."""

    rule: int
    line: int | None
    layers: tuple[str, ...]
    secret: str


class Scanned(NamedTuple):
    """What became of one file or blob."""

    read_as: str
    hits: tuple[Hit, ...]
    aside: dict[str, int]
    allowed: dict[str, int]
    members: int
    skipped: tuple[tuple[str, str], ...]
    decoded: dict[str, int]  # texts that were under an archive or an encoding, by which
    pragmas: tuple[int | None, ...] = ()  # lines whose comment takes a finding


CLEAN = Scanned("text", (), {}, {}, 1, (), {})  # of a text without a candidate


class Engine:
    """The rules and the allow list, ready to scan."""

    def __init__(self, rules: Rules, allow: list[dict[str, Any]], *, pragmas: bool = False) -> None:
        self.rules, self.allow, self.pragmas = rules, allow, pragmas
        self.decoded: Counter[str] = Counter()

    def scan(self, parts: Iterable[Part | Skipped], path: str, known: dict[int, set[int]] | None = None) -> Scanned:
        """Return what is in the *parts* of the file *path*; `known` is what the filter said of the only one."""
        hits: set[Hit] = set()
        pragmas: set[int | None] = set()
        aside: Counter[str] = Counter()
        allowed: Counter[str] = Counter()
        skipped, members, read_as, self.decoded = [], set(), "text", Counter()
        for part in parts:
            if isinstance(part, Skipped):
                skipped.append((part.member, part.reason))
                continue
            members.add(part.member)
            read_as = part.read_as if not part.member else "archive"
            name = path + part.member
            text, numbers = lines_of(part.text)
            ours = range(part.before, part.text.count("\n") + 1 - part.after) if part.before or part.after else None
            for at, rule, secret, layers in self.found(
                text, name.rstrip("!").removesuffix(".gz"), aside, allowed, judged(ours, numbers), known=known
            ):
                line = None if part.first is None else part.first + (numbers[at] if numbers else at)
                if rule is None:
                    pragmas.add(line)
                else:
                    hits.add(Hit(rule.number, line, (*(["archive"] if part.member else []), *layers), secret))
        if not members:
            read_as = "archive"  # of which nothing could be read, or without a member
        if opened := len(members - {""}):
            self.decoded["archive"] = opened
        return Scanned(
            read_as, tuple(first_places(hits)), dict(aside), dict(allowed), len(members), tuple(skipped), dict(self.decoded),
            tuple(sorted(pragmas, key=lambda line: line or 0)),
        )  # fmt: skip

    def scan_all(self, batch: Sequence[tuple[bytes, str]]) -> Iterator[Scanned]:
        """Yield what is in each of *batch* (bytes, path), which the filter reads as one text."""
        made = self.rules.filter
        texts = [plain(data) if made else None for data, _ in batch]
        whole = b"\n".join(data for (data, _), text in zip(batch, texts, strict=True) if text is not None)
        events = made.events(whole + CANARY) if made else []
        begin = at = 0
        for (data, path), text in zip(batch, texts, strict=True):
            if text is None:
                yield self.scan(parts(stream_of(data)), path)
                continue
            end, first = begin + len(data), at
            while at < len(events) and events[at][0] <= end:
                at += 1
            if at == first and not self.rules.scoped(path.rstrip("!").removesuffix(".gz")):
                yield CLEAN
            else:
                mine = [(to - begin, number) for to, number in events[first:at] if to > begin]
                yield self.scan([Part("", "text", text, 1)], path, lines_of_events(data, mine))
            begin = end + 1

    def scope(self, path: str) -> str:
        """Return what of *path* decides a finding: equal bytes under equal scopes give equal hits."""
        return "+".join(
            [
                *map(str, self.rules.scoped(path)),
                *(str(bool(kind.search(path)))[0] for kind in (CODE, SETTINGS, SAMPLE, LOCALE)),
            ]
        )

    def found(
        self,
        text: str,
        path: str,
        aside: Counter[str],
        allowed: Counter[str],
        ours: frozenset[int] | None = None,
        depth: int = 0,
        *,
        named: bool = True,
        known: dict[int, set[int]] | None = None,
    ) -> Iterator[tuple[int, Rule | None, str, tuple[str, ...]]]:
        """Yield each secret of *text*: its line from 0, its rule (None: an inline comment takes it), itself, and the layers it
        was under; `named` says whether it still is the text of a file of that name, rather than one hidden in it."""
        lines, asked = self.ask(text, path if named else "", known)
        for at in sorted(asked if ours is None else asked.keys() & ours):
            numbers = asked[at]
            taken: list[tuple[int, int]] = []
            plain: set[str] = set()
            for rule, match in self.matches(lines[at], numbers):
                if any(match.start < end and start < match.end for start, end in taken):
                    continue
                place = Place(lines, at, match.start, match.end, match.key, path)
                if reason := why_not(rule.check, match.secret, place):
                    aside[reason] += 1
                elif entry := self.allowing(rule, match, lines, at):
                    allowed[entry] += 1
                elif self.pragmas and PRAGMA.search(lines[at]):
                    yield at, None, "", ()
                else:
                    taken.append((match.start, match.end))
                    plain.add(match.secret)
                    row, secret = whole(rule.check, match.secret, place)
                    yield row, rule, secret, ()
            if depth < LAYERS and (self.rules.filter is None or numbers & HIDING):
                yield from self.deeper(lines[at], at, path, taken, plain, depth, aside, allowed)

    def ask(self, text: str, path: str, known: dict[int, set[int]] | None) -> tuple[list[str], dict[int, set[int]]]:
        """Return the lines of *text*, and for each that must be looked at the rules to ask."""
        data = text.encode("utf-8", "replace")
        candidates = known
        if candidates is None:
            candidates = self.rules.filter.candidates(data + CANARY) if self.rules.filter else {}
        scoped = set(self.rules.scoped(path))
        every = scoped & self.rules.every
        if scoped and self.rules.filter:
            for number in scoped - every:
                for begin in self.rules.filter.scoped_candidates(data + CANARY, number):
                    candidates.setdefault(begin, set()).add(number)
        if not every and not any(begin < len(data) for begin in candidates):
            return [], {}
        lines = text.split("\n")
        asked = {at: set(every) for at, line in enumerate(lines) if line} if every else {}
        at = before = 0
        for begin, numbers in sorted(candidates.items()):
            if begin >= len(data):
                break
            at += data.count(b"\n", before, begin)
            before = begin
            asked.setdefault(at, set()).update(numbers)
        return lines, asked

    def matches(self, line: str, numbers: set[int]) -> Iterator[tuple[Rule, Match]]:
        """Yield what the rules *numbers* match on *line*, the most specific first."""
        for number in sorted(number for number in numbers if number >= 0):
            rule, seen = self.rules.rules[number], set()
            if rule.check == "opaque" and not SAID_SOMEWHERE.search(line):
                continue  # entropy alone is no secret, and slow to compute
            for offset in range(0, max(1, len(line) - OVERLAP), LONG - OVERLAP):
                for match in rule.matches(line[offset : offset + LONG] if len(line) > LONG else line):
                    moved = match._replace(start=match.start + offset, end=match.end + offset)
                    if (moved.start, moved.end) not in seen:
                        seen.add((moved.start, moved.end))
                        yield rule, moved

    def deeper(
        self,
        line: str,
        at: int,
        path: str,
        taken: list[tuple[int, int]],
        plain: set[str],
        depth: int,
        aside: Counter[str],
        allowed: Counter[str],
    ) -> Iterator[tuple[int, Rule | None, str, tuple[str, ...]]]:
        """Yield what *line* holds under an encoding, and not in *plain* sight."""
        for layer, start, end, text in decoded(line):
            if layer in WHOLE_LINE or not any(start < stop and begin < end for begin, stop in taken):
                self.decoded[layer] += 1
                for _, rule, secret, layers in self.found(text, path, aside, allowed, depth=depth + 1, named=layer == "octal"):
                    if rule is None or secret.partition("\n")[0] not in plain:
                        yield at, rule, secret, (layer, *layers)

    def allowing(self, rule: Rule, match: Match, lines: list[str], at: int) -> str:
        """Return the allow entry that takes *match*, "" when none does."""
        before = lines[at - 1] if at else ""
        return next((e["id"] for e in self.allow if rule.id in e["rules"] and fits(e, match.secret, lines[at], before)), "")


def judged(ours: range | None, numbers: list[int] | None) -> frozenset[int] | None:
    """Return which lines of a text are judged, None for all; `numbers` says which line of the piece each of them is of."""
    if ours is None or numbers is None:
        return frozenset(ours) if ours is not None else None
    return frozenset(at for at, number in enumerate(numbers) if number in ours)


def fits(entry: dict[str, Any], secret: str, line: str, before: str) -> bool:
    """Return whether an allow entry takes *secret* in *line*, which follows the line *before*."""
    if not re.fullmatch(entry["secret"], secret):
        return False
    wanted = entry["line"].replace("SECRET", re.escape(secret))
    return bool(re.search(wanted, line) and re.search(entry["before"], before))


def decoded(line: str) -> Iterator[tuple[str, int, int, str]]:
    """Yield each encoded text of *line*: how, from where to where, and what it says."""
    if line.count("%") >= 2 and re.search(r"%[0-9A-Fa-f]{2}.*%[0-9A-Fa-f]{2}", line) and len(line) <= LONG:
        yield "url", 0, len(line), unquote(line)
    if r"\040" in line and len(line) <= LONG:
        yield "octal", 0, len(line), OCTAL.sub(lambda match: chr(int(match[1], 8)), line)
    for run in RUN.finditer(line):
        text = run[0]
        for layer, data in (("hex", from_hex(text)), ("base64", from_base64(text))):
            if said := readable(data):
                yield layer, run.start(), run.end(), said


def from_hex(text: str) -> bytes:
    """Return the bytes that *text* says in hex, none when it is no hex or no text."""
    if len(text) < 24 or len(text) % 2:
        return b""
    try:
        return bytes.fromhex(text) if bytes.fromhex(text[:24]).isascii() else b""
    except ValueError:
        return b""


def from_base64(text: str) -> bytes:
    """Return the bytes that *text* says in base64, none when it is no base64 or no text."""
    text = text.rstrip("=").translate({45: 43, 95: 47})
    try:
        if not base64.b64decode(text[:16]).isascii():
            return b""
        return base64.b64decode(text[: len(text) - (len(text) % 4 == 1)] + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""


def readable(data: bytes) -> str:
    """Return *data* as text when that is what it is, "" otherwise."""
    if len(data) < 12:
        return ""
    if data[1:2] == b"\0" and data[3:4] == b"\0":
        data = data.replace(b"\0", b"")
    head = data[:64]
    if sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) < len(head) - 2:
        return ""
    text = data.decode("utf-8", "replace")
    return text if text.count("\ufffd") <= len(text) // 20 else ""


def first_places(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Yield each secret once, at its first line."""
    first: dict[tuple[int, str], Hit] = {}
    for hit in hits:
        key = hit.rule, hit.secret
        first[key] = min(first.get(key, hit), hit, key=lambda one: (one.line or 0, one.layers))
    yield from sorted(first.values(), key=lambda hit: (hit.line or 0, hit.rule, hit.secret))

"""Vectorscan as the filter before the rules of the secret scan.

Rules: the filter may only name too many lines, never too few: what it cannot express is widened, what it cannot compile is
asked of every line; every text ends in a canary that must be reported. A compiled filter is kept under the digest of everything
that makes it, and taken again only when its own digest is right.
"""

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WIDE = 64  # bounds above this are no bounds to the filter: it would unroll them
CANARY = b"\nAKIA0000000000000000\n"  # ends every text that the filter reads: a filter that misses it read too little
_RUN = r"(?:^|[^A-Za-z0-9+/_-])"
_SEXTETS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _letters(without: int) -> str:
    """Return the letters of base64 whose value has none of these bits, both alphabets."""
    return "".join(re.escape(letter) for value, letter in enumerate(_SEXTETS + "-_") if not min(value, 63) & without)


_STARTS = {  # no rules: where text begins that may hide another; of base64 and hex, what begins as ASCII does
    "base64": f"{_RUN}(?:[{_letters(32)}][{_letters(8)}][{_letters(2)}][A-Za-z0-9+/_-]){{4}}[A-Za-z0-9+/_-]{{4}}",
    "hex": rf"{_RUN}(?:[0-7][0-9A-Fa-f]){{12}}",
    "url": r"%[0-9A-Fa-f]{2}",
    "octal": r"\\040",
}
SAID = (  # what a line must say before an opaque text on it may be a secret: more than the check of those asks for
    r"(?i)(?:passw|passphrase|secret|token|api[-_ ]?key|access[-_ ]?key|auth[-_ ]?key|credential|private[-_ ]?key|bearer)"
    r"[\w\x80-\xff-]{0,60}[\"'\]]{0,3}[\s\x80-\xff]*(?:[=:]|is)"
)
HIDING = frozenset(range(-len(_STARTS), 0))


class Filter(NamedTuple):
    """The databases for lines and for paths; for each rule that is about some files one of its own, written until it is first
    asked; and the numbers of the rules that no database can express."""

    lines: Any
    paths: Any
    scoped: dict[int, Any]
    lost: frozenset[int]

    def candidates(self, data: bytes) -> dict[int, set[int]]:
        """Return for the start of each line of *data* (which ends in the canary) the rules that may match it; numbers
        of HIDING mark an encoding."""
        return lines_of_events(data, self.events(data))

    def scoped_candidates(self, data: bytes, rule: int) -> Iterable[int]:
        """Return the start of each line that *rule*, which is about some files, may match."""
        if isinstance(self.scoped[rule], bytes):
            import hyperscan

            self.scoped[rule] = ready(hyperscan, self.scoped[rule])
        return lines_of_events(data, self.events(data, self.scoped[rule]))

    def events(self, data: bytes, database: Any = None) -> list[tuple[int, int]]:
        """Return where matches end in *data* (which ends in the canary), and of what."""
        seen: list[tuple[int, int]] = []
        (database or self.lines).scan(data, match_event_handler=lambda number, _, to, *__: seen.append((to, number)))
        ends = len(data) - 1
        if not any(to == ends for to, _ in reversed(seen)):
            raise SystemExit("scan_secrets: the filter did not report the canary, so it did not read to the end")
        return sorted(seen)

    def named(self, path: str) -> set[int]:
        """Return the numbers of the rules whose paths may be found in *path*."""
        seen: set[int] = set()
        if path:  # Vectorscan refuses to look at nothing
            self.paths.scan(path.encode("utf-8", "replace"), match_event_handler=lambda number, *_: seen.add(number))
        return seen


def lines_of_events(data: bytes, events: Sequence[tuple[int, int]]) -> dict[int, set[int]]:
    """Return for the start of each line of *data* in which one of *events* ends the rules that may match it."""
    found: dict[int, set[int]] = {}
    begin = end = -1
    for to, number in events:
        at = to - 1
        if not begin <= at < end:
            if data[at] == 10:
                continue
            begin = data.rfind(b"\n", 0, at) + 1
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
        found.setdefault(begin, set()).add(number - len(_STARTS))
    return found


def make(
    patterns: Sequence[tuple[int, str]], scoped: Sequence[tuple[int, str]], paths: Sequence[tuple[int, str]], key: str,
    kept: Sequence[Path],
) -> Filter | None:  # fmt: skip
    """Return the filter for *patterns*, *scoped* ones and *paths* (number of the rule, expression), None without Vectorscan.
    `kept` are the folder where that of an earlier run may lie, and the one where this one's is left."""
    try:
        import hyperscan as hs
    except ImportError:
        return None
    name = f"filter-{key[:16]}-{hs.__version__}-{platform.machine()}.bin"
    said = unpacked(kept[0] / name) if kept else None
    try:
        loaded = [ready(hs, data) for data in said[:2]] if said else []
    except hs.error:  # made for another processor
        loaded = []
    if not (said and loaded):
        lines, lost = compile_lines(hs, list(_STARTS.values()), patterns)
        alone = [(number, compile_lines(hs, [CANARY.decode().strip()], [entry])) for entry in scoped for number in entry[:1]]
        lost = lost.union(*(lost_too for _, (_, lost_too) in alone))
        flags = hs.HS_FLAG_PREFILTER | hs.HS_FLAG_SINGLEMATCH
        names = compiled(hs, [(any_letter(expression), number, flags) for number, expression in paths])
        loaded = [lines, names]
        numbers = {"lost": sorted(lost), "scoped": [number for number, _ in alone]}
        said = [*map(hs.dumpb, loaded), json.dumps(numbers).encode(), *(hs.dumpb(database) for _, (database, _) in alone)]
        if kept:
            keep(kept[1] / name, said)
    known = json.loads(said[2])
    return Filter(loaded[0], loaded[1], dict(zip(known["scoped"], said[3:], strict=True)), frozenset(known["lost"]))


def ready(hs: Any, data: bytes) -> Any:
    """Return the database that was written as *data*."""
    database = hs.loadb(data, mode=hs.HS_MODE_BLOCK)
    database.scratch = hs.Scratch(database)
    return database


def unpacked(path: Path) -> list[bytes] | None:
    """Return what `keep` wrote, None when it is not there or not whole."""
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    parts, at = [], 32
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4])
        parts.append(data[at + 4 : end])
        at = end
    return parts


def keep(path: Path, parts: Sequence[bytes]) -> None:
    """Leave a compiled filter for a later run."""
    body = b"".join(len(part).to_bytes(4) + part for part in parts)
    path.write_bytes(hashlib.sha256(body).digest() + body)


def compile_lines(hs: Any, heads: Sequence[str], patterns: Sequence[tuple[int, str]]) -> tuple[Any, set[int]]:
    """Return the database for *heads*, which are no rules, and *patterns*, and the numbers of those that it cannot express."""
    base = hs.HS_FLAG_MULTILINE | hs.HS_FLAG_PREFILTER
    entries = [(expression.encode(), number, base) for number, expression in enumerate(heads)]
    for number, expression in patterns:
        text = hs.HS_FLAG_UTF8 if needs_text(expression) else 0
        entries.append((expression.encode(), number + len(_STARTS), base | text))
    try:
        return compiled(hs, entries), set()
    except hs.error:  # one of them cannot be expressed: find which
        good = [entry for entry in entries if compiles(hs, entry)]
        lost = {number for _, number, _ in entries} - {number for _, number, _ in good}
        return compiled(hs, good), {number - len(_STARTS) for number in lost}


def compiled(hs: Any, entries: list[tuple[bytes, int, int]]) -> Any:
    """Return one filter for all *entries*."""
    expressions, ids, flags = ([entry[part] for entry in entries] for part in range(3))
    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=ids, elements=len(entries), flags=flags)
    return database


def any_letter(expression: str) -> bytes:
    """Return *expression* for paths as bytes, any byte beyond ASCII being a letter."""
    inside = re.sub(r"\[([^\]]*)\\w", r"[\1\\w\\x80-\\xff", expression)
    return re.sub(r"(?<!\[)\\w(?!\\x80|[^\[\]]*\])", r"[\\w\\x80-\\xff]", inside).encode()


def compiles(hs: Any, entry: tuple[bytes, int, int]) -> bool:
    """Return whether the filter can express *entry*."""
    try:
        compiled(hs, [entry])
    except hs.error:
        return False
    return True


def widened(entry: dict[str, Any]) -> str:
    """Return what the filter looks for in place of a rule: its pattern, widened, or for an entropy rule the start of a run."""
    if "pattern" not in entry:
        from trufflehog3.models import Rule

        model = Rule.fromdict(entry)
        run = "[" + re.escape(model._alphabet).replace("/", r"\/") + "]"
        return f"(?:^|{run.replace('[', '[^', 1)}){run}{{{model._minlen}}}"
    wide = re.sub(r"\(\?P<\w+>", "(?:", entry["pattern"])
    return re.sub(r"\{(\d+),(\d+)\}\??", lambda m: m[0] if int(m[2]) <= WIDE else "{%s,}" % m[1], wide)  # noqa: UP031


def needs_text(expression: str) -> bool:
    """Return whether *expression* counts or names characters that UTF-8 writes in several bytes."""
    return bool(re.search(r"\[\^|(?<!\\)\.|\\[SWD]|[^\x00-\x7f]", expression))

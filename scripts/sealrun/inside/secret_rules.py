"""The rules of the secret scan: trufflehog3's own and policy's, and Vectorscan as the filter before them.

Rules: a rule is a trufflehog3 model and trufflehog3's code decides what it matches on a line; the filter may only name too many
lines, never too few: what it cannot express is widened, what it cannot compile is asked of every line. Without Vectorscan
every line is asked every rule: slower, the same findings.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WIDE = 64  # bounds above this are no bounds to the filter: it would unroll them
CANARY = b"\nAKIA0000000000000000\n"  # ends every text that the filter reads: a filter that misses it read too little
_STARTS = {  # no rules: where text begins that may hide another
    "base64": rb"(?:^|[^A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20}",
    "url": rb"%[0-9A-Fa-f]{2}",
}


class Match(NamedTuple):
    """What a rule matched on a line: the secret, where it stands, and the name it was given, if any."""

    secret: str
    start: int
    end: int
    key: str


class Rule(NamedTuple):
    """One rule: a trufflehog3 model, how its matches are judged, and the paths it holds for (none: all)."""

    number: int
    model: Any
    check: str
    paths: re.Pattern[str] | None
    own: bool

    @property
    def id(self) -> str:
        """Return the rule's name."""
        return str(self.model.id)

    def holds(self, path: str) -> bool:
        """Return whether the rule is about files of that name."""
        return self.paths is None or bool(self.paths.search(path))

    def matches(self, line: str) -> Iterator[Match]:
        """Yield what the rule matches on *line*."""
        if not self.own:
            yield from self._stock(line)
            return
        for found in self.model._pattern.finditer(line):
            groups = found.groupdict()
            name = next((n for n in ("secret", "secret2", "secret3") if groups.get(n) is not None), None)
            start, end = found.span(name) if name else found.span()
            yield Match(line[start:end], start, end, groups.get("key") or "")

    def _stock(self, line: str) -> Iterator[Match]:
        at = 0
        for secret in self.model.findall(line):
            at = max(line.find(secret, at), 0)
            yield Match(secret, at, at + len(secret), "")
            at += len(secret)


class Rules(NamedTuple):
    """All rules, the filter over those that hold everywhere, and the digest of everything that decides a finding."""

    rules: tuple[Rule, ...]
    filtered: tuple[int, ...]  # numbers of rules that the filter knows
    asked: tuple[int, ...]  # numbers of rules that are asked of every line, where their paths hold
    database: Any
    sha256: str

    def candidates(self, data: bytes) -> dict[int, set[int]]:
        """Return for the start of each line of *data* (which ends in the canary) the rules that may match it; -1 and -2
        mark base64 and URL encoding."""
        if self.database is None:
            return {}
        found: dict[int, set[int]] = {}
        seen: list[tuple[int, int]] = []
        self.database.scan(data, match_event_handler=lambda number, _, to, *__: seen.append((to, number)))
        ends = len(data) - 1
        if not any(to == ends for to, _ in reversed(seen)):
            raise SystemExit("scan_secrets: the filter did not report the canary, so it did not read to the end")
        begin = end = -1
        for to, number in sorted(seen):
            at = to - 1
            if not begin <= at < end:
                if data[at] == 10:
                    continue
                begin = data.rfind(b"\n", 0, at) + 1
                end = data.find(b"\n", at)
            found.setdefault(begin, set()).add(number - 2)
        return found


def load(policy: Path, *, filtered: bool = True) -> Rules:
    """Return trufflehog3's own rules and those of the folder *policy*."""
    from trufflehog3 import DEFAULT_RULES_FILE, core

    stock = core.load_rules(DEFAULT_RULES_FILE)
    own = core.load_rules(str(policy / "rules.yml"))
    context = read_context(policy / "context.toml", {model.id for model in [*stock, *own]})
    rules = tuple(
        Rule(number, model, *context.get(model.id, ("token", None)), number < len(own))
        for number, model in enumerate([*own, *stock])
    )
    everywhere = [rule for rule in rules if rule.paths is None]
    database, known = compile_filter(everywhere) if filtered else (None, ())
    asked = tuple(rule.number for rule in rules if rule.number not in known)
    return Rules(rules, known, asked, database, digest(Path(DEFAULT_RULES_FILE), policy))


def read_context(path: Path, ids: set[str]) -> dict[str, tuple[str, re.Pattern[str] | None]]:
    """Return for each rule named in *path* its check and paths. Ends the program for a rule that does not exist."""
    import tomllib

    found = {}
    for entry in tomllib.loads(path.read_text("utf-8"))["context"]:
        for rule in entry["rules"]:
            if rule not in ids:
                raise SystemExit(f"scan_secrets: policy/secrets/context.toml: there is no rule {rule}")
            found[rule] = entry["check"], one_of(entry.get("paths", ()))
    return found


def one_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """Return the pattern that any of *patterns* makes, None for none."""
    grouped = [f"(?i:{one[4:]})" if one.startswith("(?i)") else f"(?:{one})" for one in patterns]
    return re.compile("|".join(grouped)) if grouped else None


def digest(stock: Path, policy: Path) -> str:
    """Return the digest of the rules and of the code that applies them."""
    names = [
        stock,
        *sorted(policy.glob("*.yml")),
        *sorted(policy.glob("*.toml")),
        *sorted(Path(__file__).parent.glob("*secret*.py")),
    ]
    return hashlib.sha256(json.dumps([hashlib.sha256(name.read_bytes()).hexdigest() for name in names]).encode()).hexdigest()


def compile_filter(rules: list[Rule]) -> tuple[Any, tuple[int, ...]]:
    """Return the filter for *rules* and the numbers of those it knows; None where Vectorscan is not installed."""
    try:
        import hyperscan as hs
    except ImportError:
        return None, ()
    base = hs.HS_FLAG_MULTILINE | hs.HS_FLAG_PREFILTER
    entries = [(expression, number, base) for number, expression in enumerate(_STARTS.values())]
    for rule in rules:
        for expression in expressions(rule.model):
            text = hs.HS_FLAG_UTF8 if needs_text(expression) else 0
            entries.append((expression.encode(), rule.number + 2, base | text))
    try:
        return compiled(hs, entries), tuple(rule.number for rule in rules)
    except hs.error:  # one of them cannot be expressed: find which
        good = [entry for entry in entries if compiles(hs, entry)]
        lost = {number for _, number, _ in entries} - {number for _, number, _ in good}
        return compiled(hs, good), tuple(rule.number for rule in rules if rule.number + 2 not in lost)


def compiled(hs: Any, entries: list[tuple[bytes, int, int]]) -> Any:
    """Return one filter for all *entries*."""
    expressions, ids, flags = ([entry[part] for entry in entries] for part in range(3))
    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=ids, elements=len(entries), flags=flags)
    return database


def compiles(hs: Any, entry: tuple[bytes, int, int]) -> bool:
    """Return whether the filter can express *entry*."""
    try:
        compiled(hs, [entry])
    except hs.error:
        return False
    return True


def expressions(model: Any) -> list[str]:
    """Return what the filter looks for in place of *model*: its pattern, widened, or for an entropy rule the start of a run."""
    if not hasattr(model, "_pattern"):
        run = "[" + re.escape(model._alphabet).replace("/", r"\/") + "]"
        return [f"(?:^|{run.replace('[', '[^', 1)}){run}{{{model._minlen}}}"]
    wide = re.sub(r"\(\?P<\w+>", "(?:", model.pattern)
    wide = re.sub(r"\{(\d+),(\d+)\}\??", lambda m: m[0] if int(m[2]) <= WIDE else "{%s,}" % m[1], wide)  # noqa: UP031
    return [wide]


def needs_text(expression: str) -> bool:
    """Return whether *expression* counts or names characters that UTF-8 writes in several bytes."""
    return bool(re.search(r"\[\^|(?<!\\)\.|\\[SWD]|[^\x00-\x7f]", expression))

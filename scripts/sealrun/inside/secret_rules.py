"""The rules of the secret scan: trufflehog3's own and policy's, and what they are about.

Rules: a rule is a trufflehog3 model and trufflehog3's code decides what it matches on a line. Without Vectorscan every line is
asked every rule: slower, the same findings.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sealrun.inside.secret_filter import SAID, Filter, make, widened


class Match(NamedTuple):
    """What a rule matched on a line: the secret, where it stands, and the name it was given, if any."""

    secret: str
    start: int
    end: int
    key: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule as it stands in its file, how its matches are judged, and the paths it holds for (none: all)."""

    number: int
    entry: dict[str, Any]
    check: str
    paths: re.Pattern[str] | None
    own: bool

    @property
    def id(self) -> str:
        """Return the rule's name."""
        return identity(self.entry)

    @cached_property
    def model(self) -> Any:
        """Return trufflehog3's model of the rule; made when it is first asked, since most never are."""
        from trufflehog3.models import Rule as Model

        return Model.fromdict(self.entry)

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


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rules, the filter (None without Vectorscan), and the digest of everything that decides a finding."""

    rules: tuple[Rule, ...]
    asked: tuple[int, ...]  # numbers of rules that are asked where their paths hold, or of every file
    every: frozenset[int]  # those of them that are asked of every line, since no filter knows them
    filter: Filter | None
    sha256: str
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def scoped(self, path: str) -> tuple[int, ...]:
        """Return the numbers of the rules that are asked of a file of that name besides those of the filter for any."""
        if path not in self.known:
            named = self.filter.named(path) if self.filter else range(len(self.rules))
            may = {number for number in named if (paths := self.rules[number].paths) and paths.search(path)}
            self.known[path] = tuple(n for n in self.asked if self.rules[n].paths is None or n in may)
        return self.known[path]


def load(policy: Path, *, filtered: bool = True, kept: Sequence[Path] = (), sparing: bool = True) -> Rules:
    """Return trufflehog3's own rules and those of the folder *policy*; `kept` is about the compiled filter; when `sparing` it
    names lines for the rules of opaque texts only where something says that they hold a secret: their check asks for that."""
    from trufflehog3 import DEFAULT_RULES_FILE

    ours, theirs = read_rules(policy / "rules.yml"), read_rules(Path(DEFAULT_RULES_FILE))
    context = read_context(policy / "context.toml", {identity(entry) for entry in [*ours, *theirs]})
    rules = tuple(
        Rule(number=number, entry=entry, check=check, paths=paths, own=number < len(ours))
        for number, entry in enumerate([*ours, *theirs])
        for check, paths in [context.get(identity(entry), ("token", None))]
    )
    sha256 = digest(Path(DEFAULT_RULES_FILE), policy)
    made = None
    if filtered:
        patterns = [
            (rule.number, SAID if sparing and rule.check == "opaque" else widened(rule.entry))
            for rule in rules if rule.paths is None
        ]  # fmt: skip
        scoped = [(rule.number, widened(rule.entry)) for rule in rules if rule.paths]
        made = make(patterns, scoped, [(rule.number, rule.paths.pattern) for rule in rules if rule.paths], sha256, kept)
    every = frozenset(rule.number for rule in rules if made is None or rule.number in made.lost)
    asked = tuple(rule.number for rule in rules if rule.paths or rule.number in every)
    return Rules(rules=rules, asked=asked, every=every, filter=made, sha256=sha256)


def identity(entry: dict[str, Any]) -> str:
    """Return the id of a rule; those without one are entropy rules."""
    return str(entry.get("id", "high-entropy"))


def read_rules(path: Path) -> list[dict[str, Any]]:
    """Return the rules of a file in trufflehog3's format."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load(path.read_bytes(), Loader=loader))  # noqa: S506 - both loaders are safe ones


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

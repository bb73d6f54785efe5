"""What a customer need not see: members that the bundle's own policy marks, proven by digest although they are absent.

Rules: only what `policy/disclosure.toml` of the bundle marks may be missing, so nobody on the way can leave out more; what a
verifier has to read stays; what remains is the maker's bytes under the maker's signatures, and nothing is signed again.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from sealrun import files
from sealrun.errors import SealrunError, UsageError, VerificationFailed
from sealrun.evidence import bundle, plain, sign

POLICY = "policy/disclosure.toml"
EDITION = ".customer"  # in the file names of a customer edition

_FORMAT = "sealrun/disclosure-v1"
_KEYS = {"members", "reason"}


class Rule(Struct, frozen=True, kw_only=True):
    """Which members are confidential, `*` standing for any text, and why."""

    members: str
    reason: str

    def marks(self, name: str) -> bool:
        """Return whether the member *name* is meant."""
        return re.fullmatch(".*".join(map(re.escape, self.members.split("*"))), name) is not None


def parse(data: bytes, error: type[SealrunError]) -> tuple[Rule, ...]:
    """Return the rules of `policy/disclosure.toml`. Raises *error* naming what is not in its plain form."""
    rules = []
    for table in plain.tables(data, POLICY, _FORMAT, "withhold", error):
        texts = {key: value for key, value in table.items() if isinstance(value, str)}
        if set(texts) != _KEYS or set(table) != _KEYS:
            raise error(f"{POLICY}: got a table with {sorted(table)}, expected members and reason")
        rules.append(Rule(**texts))
    return tuple(rules)


def marked(rules: Iterable[Rule], names: Iterable[str]) -> Mapping[str, str]:
    """Return which of *names* the *rules* mark, each with the reason of the first rule that does."""
    by_name = {name: next((rule.reason for rule in rules if rule.marks(name)), None) for name in names}
    return {name: reason for name, reason in by_name.items() if reason is not None}


def disclose(path: Path, out: Path) -> tuple[Path, Mapping[str, str]]:
    """Write the customer edition of the verified bundle at *path* to the folder *out*; return its file and what it withholds.

    Raises UsageError when the bundle's policy marks nothing in it.
    """
    stem = path.name.removesuffix(bundle.SUFFIX)
    with bundle.opened(path) as archive:
        rules = parse(archive.read(POLICY), VerificationFailed) if POLICY in archive.members else ()
        withheld = marked(rules, [*archive.members, sign.REPORT])
        if not withheld:
            raise UsageError(f"{path.name}: its policy marks nothing in it as confidential; hand over the bundle itself")
        kept = {name: archive.read(name, limit=bundle.MAX_BUNDLE) for name in archive.members if name not in withheld}
    target = out / f"{stem}{EDITION}{bundle.SUFFIX}"
    files.write_bytes(target, bundle.build(kept))
    files.write_bytes(out / f"{stem}{EDITION}{sign.SUFFIX}", files.read_bytes(path.with_name(stem + sign.SUFFIX), "envelopes"))
    if sign.REPORT in withheld:
        (out / sign.REPORT).unlink(missing_ok=True)
    else:
        files.write_bytes(out / sign.REPORT, files.read_bytes(path.with_name(sign.REPORT), "report"))
    return target, withheld

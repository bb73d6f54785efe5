"""A pin: one requirement of a lock, whatever tool wrote the lock."""

import re

from msgspec import Struct
from packaging.requirements import Requirement

STRONG = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


class Pin(Struct, frozen=True, kw_only=True, order=True, omit_defaults=True, forbid_unknown_fields=True):
    """One requirement of a lock. `marker` is "" when it always applies; `hashes` are `ALGORITHM:HEX`, sorted; `flaw` says why
    it is no hashed pin, "" when it is one (only then is `version` sure to be set); `line` is where it begins."""

    name: str
    version: str = ""
    hashes: tuple[str, ...] = ()
    marker: str = ""
    extras: tuple[str, ...] = ()
    flaw: str = ""
    line: int

    @property
    def applies(self) -> bool:
        """Whether the marker holds for this interpreter on this platform."""
        requirement = Requirement(f"{self.name}; {self.marker}") if self.marker else None
        return requirement is None or requirement.marker is None or requirement.marker.evaluate()

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"

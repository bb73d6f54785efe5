"""Read a requirements file as a lock: one pin per package, each with its hashes.

Rules: lines are joined and split as pip does; a requirement that is no hashed pin (no version, no hash, a URL, an editable, an
include, a name listed twice) is a pin with a `flaw`, never dropped and never a crash; a line that says nothing pip would
understand is a UsageError naming it. Names are canonical (PEP 503) and versions normal (PEP 440).

Source: pip's requirements file format; dependency specifiers (PEP 508).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import structs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sealrun.errors import UsageError
from sealrun.reports.pins import STRONG, Pin

# Options of a whole file that name no package: where files come from and what kinds are accepted.
_SILENT = (
    "--only-binary", "--no-binary", "--prefer-binary", "--require-hashes", "--index-url", "-i", "--extra-index-url",
    "--no-index", "--find-links", "-f", "--trusted-host", "--pre", "--constraint", "-c",
)  # fmt: skip
_NAMING = {"-e": "an editable", "--editable": "an editable", "-r": "an include", "--requirement": "an include"}
_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")


def parse_lock(text: str, where: str) -> tuple[Pin, ...]:
    """Return the pins of the lock *text* in its order. Raises UsageError naming *where* and the line."""
    pins = [pin for line, number in _logical_lines(text) if (pin := _pin(line, number, where))]
    times = Counter(pin.name for pin in pins)
    conditions = Counter((pin.name, pin.marker) for pin in pins)
    always = {pin.name for pin in pins if not pin.marker}
    twice = {pin.name for pin in pins if times[pin.name] > 1 and (pin.name in always or conditions[pin.name, pin.marker] > 1)}
    return tuple(structs.replace(pin, flaw=pin.flaw or "listed twice") if pin.name in twice else pin for pin in pins)


def write(pins: Iterable[Pin]) -> str:
    """Return the pins that apply here as a requirements file: what a tool takes that reads no other lock."""
    names = ((f"{pin.name}=={pin.version}" if pin.version else pin.name, pin.hashes) for pin in pins if pin.applies)
    return "".join(" ".join([name, *(f"--hash={value}" for value in hashes)]) + "\n" for name, hashes in names)


def _logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield each line with its continuations joined and comments gone, and the number it begins at."""
    parts: list[str] = []
    begins = 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        begins = begins if parts else number
        comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not comment:
            parts.append(raw[:-1])
            continue
        line = "".join([*parts, f" {raw}" if comment else raw])
        line = (_COMMENT.sub("", line) if "#" in line else line).strip()
        parts = []
        if line:
            yield line, begins


def _pin(line: str, number: int, where: str) -> Pin | None:
    """Return the pin on *line*, None for an option that names no package."""
    option = re.split(r"[\s=]", line, maxsplit=1)[0]
    if option in _SILENT:
        return None
    if option in _NAMING or option[:2] in _NAMING:
        return Pin(name=line, flaw=_NAMING.get(option) or _NAMING[option[:2]], line=number)
    specifier, options = (*re.split(r"(?=\s--)", line, maxsplit=1), "")[:2]
    try:
        requirement = Requirement(specifier)
    except InvalidRequirement as error:
        raise UsageError(
            f"{where}:{number}: got {line[:80]!r}, expected NAME==VERSION --hash=...; compile the lock again"
        ) from error
    hashes = tuple(sorted(set(_HASH.findall(options))))
    version = _version(requirement)
    return Pin(
        name=canonicalize_name(requirement.name),
        version=version,
        hashes=hashes,
        marker=str(requirement.marker or ""),
        extras=tuple(sorted(canonicalize_name(extra) for extra in requirement.extras)),
        flaw=_flaw(requirement, version, hashes, _HASH.sub("", options).strip()),
        line=number,
    )


def _version(requirement: Requirement) -> str:
    """Return the one version that *requirement* allows, "" when it allows none or several."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "==="):
        return ""
    try:
        return str(Version(specifiers[0].version))
    except InvalidVersion:  # a prefix match, or an arbitrary string
        return ""


def _flaw(requirement: Requirement, version: str, hashes: tuple[str, ...], rest: str) -> str:
    if requirement.url:
        return "a URL"
    if not version:
        return "not pinned to one version"
    if rest:
        return f"the option {rest.split()[0]}"
    if not hashes:
        return "no hash"
    return "" if all(STRONG.fullmatch(value) for value in hashes) else "a hash that is not sha256, sha384 or sha512"

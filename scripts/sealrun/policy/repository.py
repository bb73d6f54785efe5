"""Load the plan for judging any repository: its own `policy/`, its organisation's, and Sealrun's defaults below both.

Rules: `policy/repository.toml` says the posture, and may name the organisation's gates and advisories by path or address and
sha256; a gate that the repository sets itself may be tighter than its organisation's, never looser (exit 2, each named); what
neither sets is Sealrun's default; waivers are the repository's own; nothing is fetched here, only read by digest.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.policy import load, tighten
from sealrun.policy.model import Gates, Plan, Posture, Waivers
from sealrun.policy.vex import load_claims
from sealrun.policy.waivers import FILE as WAIVERS
from sealrun.policy.waivers import load_waivers

FILE = Path("policy", "repository.toml")
FETCHED = Path(".nox", "central")  # what was fetched of the organisation's, by digest
_GATES = "gates.toml"


class Named(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the organisation: a path below the repository or absolute, or an https address, and its sha256."""

    source: str
    sha256: digest.Sha256

    def at(self, tree: Path) -> Path:
        """Return where the file lies for the repository *tree*."""
        return tree / FETCHED / self.sha256 if "://" in self.source else tree / self.source


class Repository(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/repository.toml`."""

    format: Literal["sealrun/repository-v1"] = "sealrun/repository-v1"
    posture: Posture = Posture.RESEARCH
    gates: Named | None = None
    advisories: Named | None = None


def load_repository(tree: Path) -> Repository:
    """Return what the repository *tree* says of itself. Raises UsageError."""
    return files.load_toml(tree / FILE, Repository) if (tree / FILE).is_file() else Repository()


def load_foreign_plan(home: Path, tree: Path, judged_at: date) -> Plan:
    """Return the plan for judging *tree* with the checkout *home*. Raises UsageError or InputMissing."""
    ours = load.load_plan(home, home / load.EXAMPLE, judged_at)
    said = load_repository(tree)
    gates = _gates(ours.gates, tree, said)
    waivers = Waivers(format=ours.waivers.format)
    if (tree / "policy" / WAIVERS).is_file():
        waivers = load_waivers(tree / "policy", gates.waivers, judged_at)
    own = tree / "policy"
    return structs.replace(
        ours,
        release=structs.replace(ours.release, posture=said.posture),
        gates=gates,
        waivers=waivers,
        vex=load_claims(own),
        policy=(*ours.policy, *(load.describe(own) if own.is_dir() else ()), *_central(said)),
        advisories=said.advisories.sha256 if said.advisories else "",
    )


def _central(said: Repository) -> digest.Manifest:
    named = {"gates": said.gates, "advisories": said.advisories}
    return tuple(digest.FileDigest(path=f"central/{name}", sha256=what.sha256, size=0) for name, what in named.items() if what)


def _gates(ours: Gates, tree: Path, said: Repository) -> Gates:
    """Return the gates: the repository's over its organisation's over *ours*. Raises UsageError for a loosening."""
    base = structs.replace(ours, secrets=structs.replace(ours.secrets, excluded={}))  # those are places of our own checkout
    central = _over(base, _bytes(said.gates, tree), said.gates.source) if said.gates else base
    local = tree / "policy" / _GATES
    if not local.is_file():
        return central
    gates = _over(central, files.read_bytes(local, "configuration"), f"policy/{_GATES}")
    looser = tighten.loosenings(central, gates) if said.gates else ()
    if looser:
        raise UsageError(
            f"policy/{_GATES}: looser than {said.gates.source if said.gates else ''}: {'; '.join(looser)}; "
            "tighten these lines, or have the organisation's policy changed"
        )
    return gates


def _bytes(named: Named, tree: Path) -> bytes:
    """Return the file *named*. Raises InputMissing, or UsageError when its digest is another."""
    path = named.at(tree)
    if not path.is_file():
        raise InputMissing(f"{FILE}: {named.source} is not here; run `INVARLOCK_ALLOW_NETWORK=1 nox -s policy`, or correct it")
    data = files.read_bytes(path, "configuration")
    if digest.of_bytes(data) != named.sha256:
        raise UsageError(f"{FILE}: {named.source}: got sha256 {digest.of_bytes(data)}, expected {named.sha256}")
    return data


def _over(base: Gates, data: bytes, where: str) -> Gates:
    """Return *base* with the keys of the TOML *data* in place of its own. Raises UsageError."""
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not acceptable TOML ({error}); mend the line named") from error
    plain = files.parse_json(files.readable_json(base), where)
    return files.convert(_merged(plain, value), Gates, where)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: _merged(base[name], value) for name, value in over.items() if _both_tables(base.get(name), value)}
    return {**base, **over, **both}


def _both_tables(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)

"""The summary of many releases, as a value and as a page."""

from typing import Literal

from msgspec import Struct

from sealrun.outcome import Verdict
from sealrun.reports import html


class Member(Struct, frozen=True, kw_only=True):
    """One release of the fleet, and how far it is. `attempts` counts workers, `where` names the last of them."""

    title: str
    config: str
    state: str = "waiting"
    note: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    attempts: int = 0
    where: str = ""
    bundle: str = ""
    digest: str = ""
    failed: tuple[str, ...] = ()
    error: str = ""


class Fleet(Struct, frozen=True, kw_only=True):
    """The summary: `exit_code` is that of the first release that ended in an error, else 1 where a gate said no."""

    schema: Literal["urn:sealrun:fleet:v1"] = "urn:sealrun:fleet:v1"
    on: str
    judged_at: str
    seconds: float
    verdict: Verdict
    exit_code: int
    releases: tuple[Member, ...]


def render(fleet: Fleet) -> bytes:
    """Return the page."""
    return html.fill("fleet.html", fleet=fleet)

"""What pip-audit wrote, and what it was seen to ask.

Rules: a report is pip-audit's JSON with aliases and without prose, nothing else; a log line is one question and the ids that
answered it; both are sorted, so that two runs leave the same bytes.
"""

from collections.abc import Iterable

from msgspec import Struct

from sealrun import files
from sealrun.errors import ToolFailed


class Vulnerability(Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """One advisory as pip-audit reports it, its twins merged into `aliases`."""

    id: str
    aliases: tuple[str, ...]
    fix_versions: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Every name it goes by."""
        return frozenset((self.id, *self.aliases))


class Dependency(Struct, frozen=True, kw_only=True, order=True, omit_defaults=True, forbid_unknown_fields=True):
    """One package: its version and what was found, or why it was skipped."""

    name: str
    version: str = ""
    vulns: tuple[Vulnerability, ...] = ()
    skip_reason: str = ""


class Report(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pip-audit's JSON; `fixes` is empty without `--fix`."""

    dependencies: tuple[Dependency, ...]
    fixes: tuple[()] = ()


class Question(Struct, frozen=True, kw_only=True, order=True, forbid_unknown_fields=True):
    """What the service was asked, and the ids of the advisories it answered with."""

    name: str
    version: str
    ids: tuple[str, ...]


class Questions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`questions.json`."""

    questions: tuple[Question, ...]


def parse_report(data: bytes, where: str) -> Report:
    """Return pip-audit's report. Raises ToolFailed."""
    report = files.decode(data, Report, where, ToolFailed)
    for dependency in report.dependencies:
        if bool(dependency.version) == bool(dependency.skip_reason):
            raise ToolFailed(f"{where}: {dependency.name}: expected a version or a skip_reason; see pip-audit's log")
    return report


def parse_questions(data: bytes, where: str) -> tuple[Question, ...]:
    """Return the service's log. Raises ToolFailed."""
    lines = enumerate(data.splitlines(), 1)
    return tuple(files.decode(line, Question, f"{where}:{number}", ToolFailed) for number, line in lines)


def merge(reports: Iterable[Report]) -> Report:
    """Return one sorted report of several."""
    found = {_sorted(dependency) for report in reports for dependency in report.dependencies}
    return Report(dependencies=tuple(sorted(found)))


def _sorted(dependency: Dependency) -> Dependency:
    vulns = sorted(
        Vulnerability(id=v.id, aliases=tuple(sorted(v.aliases)), fix_versions=v.fix_versions) for v in dependency.vulns
    )
    return Dependency(name=dependency.name, version=dependency.version, vulns=tuple(vulns), skip_reason=dependency.skip_reason)

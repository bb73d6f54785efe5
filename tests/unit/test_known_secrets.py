"""What other scanners ignore becomes waivers for what our scan found at the same place, and nothing else does."""

import json
import tomllib
from datetime import date
from pathlib import Path

import pytest

from sealrun import files, known_secrets
from sealrun.errors import InputMissing, UsageError
from sealrun.policy.model import Waivers
from sealrun.reports.trufflehog3 import SecretFinding

DAY, END = date(2026, 1, 1), date(2026, 2, 1)
COMMIT = "c" * 40


def finding(path: str, line: int, number: int, commit: str | None = None, where: str = "tree") -> SecretFinding:
    return SecretFinding(
        rule="assigned.quoted", message="m", severity="medium", path=path, line=line, commit=commit, layers=(),
        where=where, fingerprint=f"scrypt:{number:032x}",  # type: ignore[arg-type]
    )  # fmt: skip


FOUND = (finding("a.py", 3, 1), finding("a.py", 3, 2), finding("b:c.py", 7, 3), finding("old.py", 1, 4, COMMIT, "history"))


def imported(where: Path) -> tuple[list[str], list[str]]:
    """The fingerprints' last digits that are waived, and the paths where nothing was found."""
    waivers, unmatched = known_secrets.match(
        known_secrets.read(where), FOUND, reason="r", owner="o", approver="p", granted=DAY, expires=END
    )
    return [waiver.target[-1] for waiver in waivers], [place.path for place in unmatched]


def test_a_gitleaks_ignore_file_names_places_in_the_tree_and_in_commits(tmp_path: Path) -> None:
    """FILE:RULE:LINE and COMMIT:FILE:RULE:LINE are read; a colon in a path is no divider."""
    path = tmp_path / ".gitleaksignore"
    path.write_text(f"# known\n\na.py:generic-api-key:3\n{COMMIT}:old.py:aws:1\ngone.py:aws:9\n")
    assert imported(path) == (["1", "2", "4"], ["gone.py"])
    path.write_text(f"{'d' * 40}:old.py:aws:1\n")
    assert imported(path)[0] == []


def test_a_detect_secrets_baseline_names_lines(tmp_path: Path) -> None:
    """Its results are read by file and line; other lines are not excused."""
    path = tmp_path / ".secrets.baseline"
    results = {
        "a.py": [{"type": "Secret Keyword", "hashed_secret": "0" * 40, "line_number": 3}],
        "b:c.py": [{"line_number": 8}],
    }
    path.write_text(json.dumps({"version": "1.5.0", "results": results}))
    assert imported(path) == (["1", "2"], ["b:c.py"])


def test_what_is_written_is_read_as_waivers(tmp_path: Path) -> None:
    """The text is TOML of policy/waivers.toml, with every name in it quoted."""
    waivers, _ = known_secrets.match(
        [known_secrets.Known(path="a.py", line=3)], FOUND, reason='a "test"', owner="o", approver="p", granted=DAY, expires=END
    )
    text = 'format = "sealrun/waivers-v1"\n' + known_secrets.written(waivers)
    assert files.convert(tomllib.loads(text), Waivers, "waivers").waiver == waivers


@pytest.mark.parametrize("text", ["a.py", "a.py:rule:x", '{"results": 3}', "{not json", '{"results": {"a": [{}]}}'])
def test_another_format_is_refused(tmp_path: Path, text: str) -> None:
    """What is neither format is named, never read as nothing to excuse."""
    path = tmp_path / "ignore"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"expected a \.gitleaksignore"):
        known_secrets.read(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Nothing to import is no success."""
    path = tmp_path / "ignore"
    path.write_text("# nothing\n")
    with pytest.raises(InputMissing):
        known_secrets.read(path)

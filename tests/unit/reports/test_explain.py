"""The explanation: figures are the records', the page loads nothing and is the same each time."""

import re
from pathlib import Path

import pytest

from sealrun import explanation
from sealrun.commands import find
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.reports import explain
from tests.certification import release, state


@pytest.mark.parametrize(("recorded", "refused"), [("candidate", False), ("damaged", True)])
def test_a_page_says_why(tmp_path: Path, recorded: str, refused: bool) -> None:
    """Interval, limit, plot, the cases that moved most with their texts, and the remedy of what failed."""
    context = release(tmp_path, recorded)
    found = explanation.of(context, 5)
    page = explain.render(found).decode()
    assert found.found is not None
    assert (found.found.interval.upper > found.limit) is refused
    assert any(line.startswith("Above") for line in found.why) is refused
    assert len(found.moved) == 5
    assert [case.change for case in found.moved] == sorted((case.change for case in found.moved), reverse=True)
    assert all(case.text and case.id in page for case in found.moved)
    assert f"{found.found.interval.upper:.5f}" in page
    assert page.count("<svg") == 2
    assert sum(int(number) for number in re.findall(r"<title>(\d+) cases", page)) == found.found.cases
    assert not re.search(r"(src|href)=\"(?!#)|<script|style=", page)
    assert page == explain.render(explanation.of(context, 5)).decode()


def test_the_share_is_of_the_whole_change(tmp_path: Path) -> None:
    """All cases together are the whole change."""
    found = explanation.of(release(tmp_path, "damaged"), 12)
    assert sum(case.share for case in found.moved) == pytest.approx(1.0)
    assert found.worse == len(found.moved) == 12


def test_another_text_is_not_shown(tmp_path: Path) -> None:
    """A data file that is not the pinned one gives figures without texts."""
    context = release(tmp_path)
    (context.plan.base / "data.jsonl").write_text('{"text": "something else"}\n')
    found = explanation.of(context, 3)
    assert [case.text for case in found.moved] == ["", "", ""]
    assert "something else" not in explain.render(found).decode()


def test_without_figures_the_outcomes_still_say_why(tmp_path: Path) -> None:
    """Records that cannot be compared are named, beside what the gates said."""
    context = release(tmp_path)
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    path.write_text(
        re.sub(
            r'"error": null(.*?)"logprob_sum": [-\d.]+',
            r'"error": "not finite"\1"logprob_sum": null',
            path.read_text(),
            count=1,
        )
    )
    state(context, "certify", {})
    found = explanation.of(context, 3)
    assert "not finite" in found.missing
    assert "not finite" in explain.render(found).decode()


def test_evidence_is_what_its_statement_says(tmp_path: Path) -> None:
    """Edited records explain nothing; nor does a release that was not certified."""
    context = release(tmp_path)
    path = context.evidence("certify") / "records" / "candidate.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(VerificationFailed):
        explanation.of(context, 3)
    context.statement_path("certify").unlink()
    with pytest.raises(InputMissing, match="nox -s certify"):
        explanation.of(context, 3)


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`invoke explain` writes the page where it is told, and the cases to standard error."""
    context = release(tmp_path, "damaged")
    command = find("explain")
    assert command
    options = command.parse(
        [f"--root={tmp_path}", f"--config={context.plan.file}", "--cases=3", f"--page={tmp_path / 'why.html'}"]
    )
    assert command.run(options) == 0
    assert b"cases that moved most" in (tmp_path / "why.html").read_bytes().lower()
    assert "Above the limit" in capsys.readouterr().err

"""The model gate against whole folders: every hostile file is refused by name, every honest one passes."""

from pathlib import Path

import pytest

from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stages import model
from tests import disguises, models
from tests.small import context_of, execute, repository, use_environments

pytestmark = pytest.mark.e2e


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the real scanners."""
    root = repository(tmp_path / "repository")
    use_environments(root, "model")
    return root


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_no_hostile_file_is_admitted(root: Path, tmp_path: Path) -> None:
    """Pickles, archives, bombs, templates, scripts: each has a finding of its own, whatever it is called."""
    folder = written(tmp_path / "hostile", models.HOSTILE)
    said = execute(model.STAGE, context_of(root, folder))
    named = {finding.path for finding in said.findings if finding.control in ("model.formats", "model.code")}
    assert sorted(set(models.HOSTILE) - {path.removeprefix("hostile/") for path in named if path}) == []


def test_no_disguise_is_admitted(root: Path, tmp_path: Path) -> None:
    """Another name, an encoding, padding, a broken header, another program's format: each has a finding of its own that says so."""
    folder = written(tmp_path / "hostile", disguises.DISGUISED)
    said = execute(model.STAGE, context_of(root, folder))
    named = {finding.path: finding for finding in said.findings if finding.control in ("model.formats", "model.code")}
    assert sorted(set(disguises.DISGUISED) - {path.removeprefix("hostile/") for path in named if path}) == []
    assert all(finding.message and finding.outcome is OutcomeKind.FAILED for finding in named.values())
    assert said.verdict is Verdict.FAILED


def test_what_looks_like_a_disguise_passes(root: Path, tmp_path: Path) -> None:
    """Honest files with the same words, numbers and lengths."""
    folder = written(tmp_path / "honest", disguises.LOOKALIKES)
    said = execute(model.STAGE, context_of(root, folder))
    assert [(finding.path, finding.message) for finding in said.findings] == []


def test_honest_files_of_every_format_pass(root: Path, tmp_path: Path) -> None:
    """Strictness costs no honest file."""
    folder = written(tmp_path / "honest", models.HONEST)
    said = execute(model.STAGE, context_of(root, folder))
    assert [(finding.path, finding.message) for finding in said.findings] == []
    assert said.verdict is Verdict.PASSED

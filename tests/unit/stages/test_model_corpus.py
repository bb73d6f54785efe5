"""The model gate against whole folders: every hostile file is refused by name, every honest one passes."""

from pathlib import Path

import pytest

from sealrun.outcome import Verdict
from sealrun.stages import model
from tests import models
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
        (folder / name).write_bytes(data)
    return folder


def test_no_hostile_file_is_admitted(root: Path, tmp_path: Path) -> None:
    """Pickles, archives, bombs, templates, scripts: each has a finding of its own, whatever it is called."""
    folder = written(tmp_path / "hostile", models.HOSTILE)
    said = execute(model.STAGE, context_of(root, folder))
    named = {finding.path for finding in said.findings if finding.control in ("model.formats", "model.code")}
    assert sorted(set(models.HOSTILE) - {path.removeprefix("hostile/") for path in named if path}) == []


def test_honest_files_of_every_format_pass(root: Path, tmp_path: Path) -> None:
    """Strictness costs no honest file."""
    folder = written(tmp_path / "honest", models.HONEST)
    said = execute(model.STAGE, context_of(root, folder))
    assert [(finding.path, finding.message) for finding in said.findings] == []
    assert said.verdict is Verdict.PASSED

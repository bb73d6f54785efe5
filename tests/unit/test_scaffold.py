"""`invoke init`: what it writes is what the loader accepts, and it says what it could not know."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from sealrun import files
from sealrun.errors import UsageError
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan
from sealrun.reports import inventory
from sealrun.scaffold import init
from sealrun.stages import model
from tests.conftest import ROOT
from tests.small import context_of

EXAMPLE = ROOT / "examples" / "tiny-lm"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a baseline, a candidate and data, and a policy above it."""
    shutil.copytree(ROOT / "policy", tmp_path / "policy", ignore=shutil.ignore_patterns("advisories"))
    for folder in ("baseline", "candidate", "data"):
        shutil.copytree(EXAMPLE / folder, tmp_path / "my models" / folder)
    return tmp_path / "my models"


def written(home: Path, **options: object) -> Plan:
    """Run init in *home* and load what it wrote."""
    chosen = {"baseline": home / "baseline", "candidate": home / "candidate", "data": home / "data" / "eval.jsonl"} | options
    return load_plan(home.parent, init(name="mine", **chosen), date(2026, 1, 1))  # type: ignore[arg-type]


def test_what_init_writes_the_loader_accepts(home: Path) -> None:
    """The round trip: every digest right, paths relative to the file, nothing pinned that is documentation."""
    plan = written(home)
    shipped = load_plan(ROOT, EXAMPLE / "release.toml", date(2026, 1, 1)).release
    assert plan.base == home
    assert plan.title == "mine-0.1.0"
    assert plan.release.baseline.files == shipped.baseline.files
    assert plan.release.candidate.files == shipped.candidate.files
    assert plan.release.candidate.artifact == "model.onnx"
    assert (plan.release.data.path, plan.release.data.sha256) == (shipped.data.path, shipped.data.sha256)
    assert plan.release.data.text_field == "text"
    assert plan.release.certify.window == 96  # what config.json says the model has positions for


def test_what_cannot_be_known_is_marked(home: Path) -> None:
    """Licences and posture are for the user to fill in, and each such line says so."""
    written(home)
    lines = (home / "release.toml").read_text().splitlines()
    marked = [line.split()[0] for line in lines if "# fill in" in line]
    assert marked.count("licence") == 3
    assert {"posture", "retention"} <= set(marked)


def test_the_release_written_has_no_difference_from_its_pins(home: Path) -> None:
    """It releases at once: the model gate's own comparison finds nothing."""
    written(home)
    shutil.copy(home / "release.toml", home / "kept.toml")
    shutil.copytree(home.parent / "policy", home / "policy")
    context = context_of(home)
    assert list(model._unpinned(context, inventory.look(context.plan, ()))) == []


def test_nothing_is_overwritten(home: Path) -> None:
    """A release.toml that is there stays as it is."""
    (home / "release.toml").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        written(home)
    assert (home / "release.toml").read_text() == "mine"


def test_a_folder_outside_the_release_file_s_folder_is_refused(home: Path) -> None:
    """Paths are relative, so all three lie below the file; the message says where to put it."""
    with pytest.raises(UsageError, match=r"put release\.toml into a folder that holds"):
        written(home, out=home / "baseline")


def test_another_file_may_be_named(home: Path) -> None:
    """`--out` names the file, or the folder for it."""
    assert written(home, out=home.parent / "other.toml").release.baseline.path == "my models/baseline"
    assert written(home, out=home.parent).base == home.parent


@pytest.mark.parametrize(
    ("line", "chosen", "guessed"),
    [
        ({"text": "a", "source": "long text that is not it"}, "text", False),
        ({"body": "a"}, "body", False),
        ({"id": "1", "body": "a long one"}, "body", True),
        ({"content": "a", "title": "b"}, "content", True),
    ],
)
def test_the_text_field_is_read_from_the_first_line(home: Path, line: dict[str, str], chosen: str, guessed: bool) -> None:
    """A guess is marked as one."""
    (home / "data" / "eval.jsonl").write_text(json.dumps(line) + "\n")
    assert written(home).release.data.text_field == chosen
    assert ("guessed" in (home / "release.toml").read_text()) is guessed


def test_a_checkpoint_in_safetensors_is_taken_where_there_is_no_onnx_model(home: Path) -> None:
    """The file to run is the ONNX model, else the checkpoint; which runtime that asks for follows from its name."""
    (home / "baseline" / "model.onnx").unlink()
    release = written(home).release
    assert (release.baseline.artifact, release.candidate.artifact) == ("model.safetensors", "model.onnx")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda home: [(home / "candidate" / f"model.{kind}").unlink() for kind in ("onnx", "safetensors")], "lacks an ONNX model"),
        (lambda home: (home / "candidate" / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda home: (home / "candidate" / "model.onnx").rename(home / "candidate" / "a.onnx")
            and shutil.copy(home / "candidate" / "a.onnx", home / "candidate" / "b.onnx"), "expected one of them"),
        (lambda home: shutil.rmtree(home / "baseline"), "expected the folder of a model"),
        (lambda home: (home / "data" / "eval.jsonl").unlink(), "expected a file"),
        (lambda home: (home / "data" / "eval.jsonl").write_text("not json\n"), "line 1"),
        (lambda home: (home / "data" / "eval.jsonl").write_text('{"n": 1}\n'), "no field holds a text"),
        (lambda home: (home / "candidate" / "out.json").symlink_to("/etc/hostname"), "leads out"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_nothing_is_written(home: Path, change: object, named: str) -> None:
    """Exit 2, and no half-written file."""
    change(home)  # type: ignore[operator]
    with pytest.raises(UsageError, match=named):
        written(home)
    assert "release.toml" not in set(files.walk_files(home))


def test_a_name_that_the_loader_refuses_is_refused_before_writing(home: Path) -> None:
    """The file is loaded back before it is kept."""
    with pytest.raises(UsageError, match="name"):
        init(home / "baseline", home / "candidate", home / "data" / "eval.jsonl", "Not a Name")
    assert not (home / "release.toml").exists()

"""The model stage: one changed byte, one file too many, one pickle, one wish for code is each named, and no failure passes."""

import base64
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealrun import digest, files, venvs
from sealrun.errors import InputMissing, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import keys, oms
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.policy.model import Source
from sealrun.reports import artifacts, inventory
from sealrun.stage import INSIDE, Context
from sealrun.stages import certify, model
from tests import models
from tests.small import context_of, execute, failed, outcome, repository, use_environments

type Change = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


@pytest.fixture
def real(root: Path) -> Path:
    """The repository, with the real scanners."""
    use_environments(root, "model")
    return root


def repin(root: Path, role: str) -> Path:
    """Pin every file of *role* as it lies there now."""
    head, _, rest = (root / "release.toml").read_text().partition(f"[{role}.files]\n")
    names = [name for name in files.walk_files(root / role) if name != "README.md"]
    pins = "".join(f'{json.dumps(name)} = "{digest.of_file(root / role / name)}"\n' for name in names)
    (root / "release.toml").write_text(f"{head}[{role}.files]\n{pins}{rest[rest.index('\n[') :]}")
    return root


def flip(path: Path, offset: int = -1) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


# -- with the real scanners: what is pinned


@pytest.mark.e2e
def test_the_shipped_models_pass_and_their_digests_are_handed_over(real: Path) -> None:
    """Every pinned file by its digest, its format and what it describes; the probe saw offline switches and no network."""
    context = context_of(real)
    said = execute(model.STAGE, context)
    found = artifacts.load(context.evidence("model"))
    release = context.plan.release
    assert (said.verdict, said.network) == (Verdict.PASSED, "denied")
    assert {e.path: e.sha256 for e in found.baseline} == release.baseline.files
    assert {e.path: e.sha256 for e in found.candidate} == release.candidate.files
    assert [(e.path, e.sha256) for e in found.data] == [(release.data.path, release.data.sha256)]
    report = json.loads((context.evidence("model") / "formats.json").read_bytes())
    formats = {entry["path"]: entry["format"] for entry in report["files"]}
    assert formats["candidate/model.onnx"] == "onnx"
    assert formats["candidate/model.safetensors"] == "safetensors"
    assert formats["data/eval.jsonl"] == "jsonl"
    assert report["probe"] == {
        "environment": {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        "network": "denied",
    }
    assert str(real) not in (context.evidence("model") / "formats.json").read_text()


def swap_tokenizer(root: Path) -> None:
    """Put a tokenizer in place that numbers two tokens the other way."""
    path = root / "candidate" / "tokenizer.json"
    value = json.loads(path.read_text())
    vocab = value["model"]["vocab"]
    one, other, *_ = vocab
    vocab[one], vocab[other] = vocab[other], vocab[one]
    path.write_text(json.dumps(value))


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: flip(root / "candidate" / "model.safetensors"), "candidate/model.safetensors: has the sha256"),
        (lambda root: flip(root / "baseline" / "config.json"), "baseline/config.json: has the sha256"),
        (lambda root: flip(root / "data" / "eval.jsonl"), "data/eval.jsonl: has the sha256"),
        (lambda root: (root / "candidate" / "tokenizer.json").unlink(), "candidate/tokenizer.json: is pinned, but"),
        (swap_tokenizer, "candidate/tokenizer.json: has the sha256"),
        (lambda root: (root / "candidate" / "extra.json").write_text("{}"), "candidate/extra.json: no pin"),
        (lambda root: (root / "candidate" / ".hidden").write_text("x"), "candidate/.hidden: no pin"),
        (lambda root: hide(root / "candidate" / ".git" / "x"), "candidate/.git/x: no pin"),
        (lambda root: (root / "candidate" / "out").symlink_to("/etc/hostname"), "candidate/out: no pin"),
        (lambda root: move_out(root / "baseline" / "config.json"), "baseline/config.json: no regular file inside"),
    ],
    ids=[
        "weights",
        "config",
        "data",
        "missing",
        "swapped tokenizer",
        "extra",
        "hidden",
        "below .git",
        "link",
        "moved out behind a link",
    ],
)
def test_every_difference_from_the_pins_is_named(real: Path, change: Change, named: str) -> None:
    """model.digests fails on any byte, any file and any link that the pins do not know."""
    change(real)
    said = execute(model.STAGE, context_of(real))
    assert "model.digests" in failed(said)
    assert named in outcome(said, "model.digests").seen


def hide(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("x")


def move_out(path: Path) -> None:
    outside = path.parents[2] / path.name
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.e2e
def test_documentation_needs_no_pin(real: Path) -> None:
    """A README and a LICENSE at the top change nothing."""
    (real / "candidate" / "LICENSE").write_text("words\n")
    assert execute(model.STAGE, context_of(real)).verdict is Verdict.PASSED


# -- with the real scanners: what the files are


class Payload:
    """Pickled, it would run a program; it is never unpickled here."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def protocol_0(path: Path) -> None:
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Payload()))


def with_zip_behind(path: Path) -> None:
    zipped(path.with_name("behind.zip"))
    path.write_bytes(path.read_bytes() + path.with_name("behind.zip").read_bytes())
    path.with_name("behind.zip").unlink()


def header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a safetensors header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    value = json.loads(data[8 : 8 + length])
    change(value)
    text = json.dumps(value).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def first(value: dict[str, Any]) -> dict[str, Any]:
    tensor = value[next(name for name in value if name != "__metadata__")]
    assert isinstance(tensor, dict)
    return tensor


def shift(tensor: dict[str, Any]) -> None:
    tensor["data_offsets"] = [tensor["data_offsets"][0] + 4, tensor["data_offsets"][1] + 4]


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def repeated_key(path: Path) -> None:
    path.write_text('{"a": 1, "a": 2}')


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("model.safetensors", pickled, "is pickle"),
        ("model.safetensors", protocol_0, "is pickle"),
        ("model.safetensors", zipped, "is zip"),
        ("model.safetensors", with_zip_behind, "tensors take"),
        ("model.safetensors", lambda p: append(p, b"\0"), "tensors take"),
        ("model.safetensors", lambda p: header(p, lambda h: first(h).update(dtype="X9")), "unknown dtype"),
        ("model.safetensors", lambda p: header(p, lambda h: first(h).update(shape=[1])), "shape and data size disagree"),
        ("model.safetensors", lambda p: header(p, lambda h: shift(first(h))), "tensors"),
        ("model.safetensors", lambda p: p.write_bytes(b"\xff" * 64), "is unknown"),
        ("model.onnx", pickled, "is pickle"),
        ("model.onnx", with_zip_behind, "zip archive"),
        ("model.onnx", lambda p: p.write_bytes(p.read_bytes()[:-1000]), "is unknown"),
        ("model.onnx", lambda p: p.write_bytes(b""), "is text"),
        ("config.json", protocol_0, "is pickle"),
        ("config.json", repeated_key, "a key stands twice"),
        ("config.json", lambda p: p.write_text('{"a": NaN}'), "NaN is not JSON"),
        ("config.json", lambda p: p.write_text("[" * 100 + "]" * 100), "nested deeper"),
        ("config.json", lambda p: p.write_text("#!/bin/sh\n"), "is script"),
        ("config.json", lambda p: p.write_bytes(b"\x7fELF" + bytes(60)), "is executable"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_policy_admits_is_named(real: Path, name: str, change: Change, named: str) -> None:
    """model.formats fails by content, whatever the name says, also for a file that is pinned as it is."""
    change(real / "candidate" / name)
    said = execute(model.STAGE, context_of(repin(real, "candidate")))
    assert "model.formats" in failed(said)
    assert "model.digests" not in failed(said)
    assert f"candidate/{name}: " in outcome(said, "model.formats").seen
    assert named in " ".join(finding.message for finding in said.findings)


EXTERNAL = """
import onnx, sys
path, location, keep = sys.argv[1:]
model = onnx.load(path)
onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=64)
if keep == "cut":
    import pathlib
    data = pathlib.Path(path).with_name(location)
    data.write_bytes(data.read_bytes()[:-64])
elif keep == "more":
    import pathlib
    data = pathlib.Path(path).with_name(location)
    data.write_bytes(data.read_bytes() + b"\\x80\\x02cos")
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("what", "named"), [("whole", ""), ("cut", "leaves the file 'weights.data'"), ("more", "belong to no tensor")]
)
def test_weights_beside_an_onnx_model_are_part_of_it(real: Path, what: str, named: str) -> None:
    """External data inside the folder passes when tensors take all of it, and no more than is there."""
    python = venvs.existing(real, "model").python
    path = real / "candidate" / "model.onnx"
    subprocess.run([python, "-I", "-c", EXTERNAL, str(path), "weights.data", what], check=True)
    context = context_of(repin(real, "candidate"))
    said = execute(model.STAGE, context)
    assert failed(said) == ({"model.formats"} if named else set())
    assert named in outcome(said, "model.formats").seen
    if not named:
        report = json.loads((context.evidence("model") / "formats.json").read_bytes())
        assert {e["path"]: e["format"] for e in report["files"]}["candidate/weights.data"] == "onnx-data"


CLAIMED = """
import onnx, sys
from onnx import helper, TensorProto
path, location, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = onnx.load(path)
tensor = TensorProto(name="taken", data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL)
tensor.external_data.add(key="location", value=location)
tensor.external_data.add(key="length", value=str(size))
model.graph.initializer.append(tensor)
open(path, "wb").write(model.SerializeToString())
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("chat_template.jinja", b"{{ x.__class__ }}", "the template"),
        ("tokenizer_config.json", models.template("{{ x.__class__ }}"), "the template"),
        ("weights.txt", base64.b64encode(models.PAYLOAD), "holds an encoded text"),
        ("weights.h5", bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(64), "named *.h5"),
        ("saved_model.pb", models.HOSTILE["saved_model.pb"], "named *.pb"),
        ("weights.safetensors", bytes(64), "named *.safetensors"),
        ("weights.bin", models.PAYLOAD, "is pickle"),
        ("weights.bin", models.HOSTILE["pytorch_model.bin"], "is zip"),
        ("modeling.py", b"pass\n", "is code by its name"),
        ("weights.txt", b"#!/bin/sh\ntrue\n", "is a script"),
    ],
)
def test_what_a_model_takes_for_weights_is_judged_all_the_same(real: Path, name: str, data: bytes, named: str) -> None:
    """That tensors take all of a file excuses nothing that another program would read in it."""
    (real / "candidate" / name).write_bytes(data)
    python, path = venvs.existing(real, "model").python, real / "candidate" / "model.onnx"
    subprocess.run([python, "-I", "-c", CLAIMED, str(path), name, str(len(data))], check=True)
    said = execute(model.STAGE, context_of(repin(real, "candidate")))
    found = [finding.message for finding in said.findings if finding.path == f"candidate/{name}"]
    assert named in " ".join(found)


@pytest.mark.e2e
def test_weights_beside_a_model_in_a_folder_of_its_own(real: Path, tmp_path: Path) -> None:
    """The layout of hubs, `onnx/model.onnx` with `onnx/model.onnx_data`, also where both are links into a cache."""
    python = venvs.existing(real, "model").python
    folder = tmp_path / "hub" / "onnx"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes((real / "candidate" / "model.onnx").read_bytes())
    subprocess.run([python, "-I", "-c", EXTERNAL, str(folder / "model.onnx"), "model.onnx_data", "whole"], check=True)
    assert execute(model.STAGE, context_of(real, tmp_path / "hub")).verdict is Verdict.PASSED
    for name in ("model.onnx", "model.onnx_data"):
        (folder / name).rename(tmp_path / "hub" / name)
        (folder / name).symlink_to(f"../{name}")
    assert execute(model.STAGE, context_of(real, tmp_path / "hub")).verdict is Verdict.PASSED


ONNX = """
import onnx, sys
from onnx import helper, TensorProto
path, what = sys.argv[1:]
model = onnx.load(path)
if what == "domain":
    model.graph.node[0].domain = "example.custom"
    model.opset_import.append(helper.make_opsetid("example.custom", 1))
elif what == "python":
    node = model.graph.node[0]
    node.domain, node.op_type = "com.microsoft", "PythonOp"
    node.attribute.add(name="func_name", s=b"os.system", type=3)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
elif what.startswith("external "):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=what.removeprefix("external "))
elif what == "broken":
    model.graph.node[0].op_type = "NoSuchOperator"
elif what == "hidden":
    import base64
    model.graph.node[0].attribute.add(name="hint", s=base64.b64encode(b"\\x80\\x04\\x8c\\x05posix\\x8c\\x06system\\x93\\x8c\\x02id\\x85R."), type=3)
elif what == "text":
    model.MergeFromString(bytes([0x12, 2, 0xc3, 0x28]))
data = model.SerializeToString() + (bytes([0xfa, 0x7f, 0x03]) + b"abc" if what == "field" else b"")
open(path, "wb").write(data)
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("domain", "operators of the domain 'example.custom'"),
        *(
            (f"external {where}", "lies outside the folder")
            for where in (
                "../../etc/passwd",
                "/etc/passwd",
                "sub/../../../etc/passwd",
                "..\\..\\etc\\passwd",
                "C:/windows/win.ini",
                "./x",
                "",
            )
        ),
        ("external of-nobody.bin", "which is none of the files judged"),
        ("python", "the operator PythonOp runs what the model names"),
        ("broken", "the ONNX checker refuses it"),
        ("field", "holds data that ONNX does not define"),
        ("hidden", "holds an encoded text"),
        ("text", "text that is not UTF-8"),
    ],
)
def test_an_onnx_model_that_reaches_out_is_named(real: Path, what: str, named: str) -> None:
    """Custom operators, external data, unknown operators and appended data are refused."""
    python = venvs.existing(real, "model").python
    subprocess.run([python, "-I", "-c", ONNX, str(real / "candidate" / "model.onnx"), what], check=True)
    said = execute(model.STAGE, context_of(repin(real, "candidate")))
    assert "model.formats" in failed(said)
    assert named in " ".join(finding.message for finding in said.findings)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("config.json", '{"auto_map": {"AutoModel": "modeling.Model"}}', "auto_map"),
        ("tokenizer_config.json", '{"deep": [{"auto_map": {"AutoTokenizer": "t.T"}}]}', "auto_map"),
        ("config.json", '{"trust_remote_code": true}', "trust_remote_code"),
        ("modeling.py", "pass\n", "is code by its name"),
        ("native.so", "x", "is code by its name"),
        ("run.SH", "x", "is code by its name"),
    ],
)
def test_code_and_wishes_for_code_are_named(real: Path, name: str, text: str, named: str) -> None:
    """model.code fails on any of them, pinned or not."""
    (real / "candidate" / name).write_text(text)
    said = execute(model.STAGE, context_of(repin(real, "candidate")))
    assert "model.code" in failed(said)
    assert f"candidate/{name}: " in outcome(said, "model.code").seen
    assert named in outcome(said, "model.code").seen


@pytest.mark.e2e
def test_folders_named_on_the_command_line_are_judged_without_a_release(real: Path) -> None:
    """`nox -s model -- PATH...`: formats and code count, pins and sources do not apply."""
    pickled(real / "baseline" / "model.bin")
    said = execute(model.STAGE, context_of(real, real / "baseline", real / "data" / "eval.jsonl"))
    assert failed(said) == {"model.formats"}
    assert outcome(said, "model.digests").outcome is OutcomeKind.NOT_APPLICABLE
    assert {finding.path for finding in said.findings} == {"baseline/model.bin"}


# -- what a reviewer let through


def waive(
    root: Path, control: str, rule: str, target: str, granted: str = "2025-12-30", expires: str = "2026-02-01"
) -> Context:
    """Return a context whose policy has one waiver."""
    (root / "policy" / "waivers.toml").write_text(
        f'format = "sealrun/waivers-v1"\n[[waiver]]\ncontrol = "{control}"\nrule = "{rule}"\ntarget = "{target}"\n'
        f'reason = "read"\nowner = "o"\napprover = "a reviewer"\ngranted = {granted}\nexpires = {expires}\n'
    )
    return context_of(root)


@pytest.mark.e2e
def test_reviewed_code_is_admitted_by_its_digest(real: Path) -> None:
    """An audit entry names the file's sha256 and the day of the review; another byte, and it holds no more."""
    code = real / "candidate" / "modeling.py"
    code.write_text("pass\n")
    sha256 = digest.of_file(code)
    said = execute(model.STAGE, waive(repin(real, "candidate"), "model.code", "code", sha256))
    assert outcome(said, "model.code").outcome is OutcomeKind.WAIVED
    assert "candidate/modeling.py" in outcome(said, "model.code").seen
    assert "reviewed on 2025-12-30" in outcome(said, "model.code").seen
    code.write_text("pass # changed\n")
    said = execute(model.STAGE, context_of(repin(real, "candidate")))
    assert failed(said) == {"model.code"}
    assert "unused" in outcome(said, "model.code").seen


@pytest.mark.e2e
@pytest.mark.parametrize("target", ["candidate/modeling.py", "*"])
def test_code_is_not_admitted_by_its_name(real: Path, target: str) -> None:
    """A waiver for a path says nothing about what will lie there tomorrow."""
    (real / "candidate" / "modeling.py").write_text("pass\n")
    with pytest.raises(UsageError, match="target"):
        waive(repin(real, "candidate"), "model.code", "code", target)
    (real / "policy" / "waivers.toml").write_text('format = "sealrun/waivers-v1"\n')
    assert failed(execute(model.STAGE, context_of(real))) == {"model.code"}


def clean() -> bytes:
    """Return a checkpoint as torch writes it: known imports, tensors beside."""
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R."
    return models.zipped({"archive/data.pkl": pickled, "archive/version": b"3\n", "archive/data/0": bytes(64)})


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("data", "rule", "named"),
    [
        (clean(), "zip", ""),
        (b"\x80\x02ccollections\nOrderedDict\n)R.", "pickle", ""),
        (models.HOSTILE["pytorch_model.bin"], "zip", "print"),
        (models.HOSTILE["renamed-inside.pt"], "zip", "not known to be clean"),
        (models.HOSTILE["crc.pt"], "zip", "could not be scanned"),
        (models.HOSTILE["inner.zip"], "zip", "another archive"),
        (models.HOSTILE["other-name.pt"], "zip", "could not be scanned"),
        (models.HOSTILE["encrypted-flag.pt"], "zip", "too large or encrypted"),
        (models.HOSTILE["patched-flag.pt"], "zip", "could not be"),
        (models.HOSTILE["strong-flag.pt"], "zip", "could not be"),
        (models.HOSTILE["no-directory.pt"], "zip", "could not be scanned"),
        (models.HOSTILE["commented.pt"], "zip", "print"),
        (models.HOSTILE["member-by-another-name.pt"], "zip", "not known to be clean"),
        (models.HOSTILE["torchscript.pt"], "zip", "is code"),
        (models.HOSTILE["protocol2.bin"], "pickle", "print"),
        (b"\x80\x02csome.module\nthing\n)R.", "pickle", "some.module.thing"),
        (b"\x80\x02ccollections\nOrderedDict\n)R", "pickle", "no end"),
        (models.HOSTILE["array.npy"], "numpy", "array of objects"),
    ],
)
def test_a_waived_pickle_must_be_clean(real: Path, data: bytes, rule: str, named: str) -> None:
    """Only known harmless imports, every member read, no scan error; it is never loaded."""
    path = real / "candidate" / "pytorch_model.bin"
    path.write_bytes(data)
    said = execute(model.STAGE, waive(repin(real, "candidate"), "model.formats", rule, digest.of_file(path)))
    if not named:
        assert outcome(said, "model.formats").outcome is OutcomeKind.WAIVED
        return
    assert failed(said) == {"model.formats"}
    assert named in outcome(said, "model.formats").seen


@pytest.mark.e2e
def test_nothing_else_can_be_waived(real: Path) -> None:
    """What is wrong with a file's content, or a format no scanner reads, stays refused."""
    path = real / "candidate" / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    context = waive(repin(real, "candidate"), "model.formats", "content", digest.of_file(path))
    assert failed(execute(model.STAGE, context)) == {"model.formats"}


# -- names


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda root: (root / "candidate" / "empty").mkdir(),
            "candidate/empty/: no pin in release.toml names it (an empty folder)",
        ),
        (
            lambda root: (root / "candidate" / "Model.onnx").write_bytes(b"x"),
            "candidate/model.onnx: some file systems take it for",
        ),
        (lambda root: os.mkfifo(root / "candidate" / "pipe"), "candidate/pipe: no pin"),
        (lambda root: (root / "candidate" / "loop").symlink_to("loop"), "candidate/loop: no pin"),
        (lambda root: (root / "candidate" / "folder").symlink_to("/etc"), "candidate/folder: no pin"),
        (lambda root: (root / "candidate" / "b\\c").write_text("x"), "candidate/b\\c: no pin"),
        (lambda root: Path(os.fsdecode(bytes(root / "candidate") + b"/\xff")).write_text("x"), "candidate/\\udcff: no pin"),
    ],
    ids=["empty folder", "twins", "pipe", "loop", "linked folder", "backslash", "no UTF-8"],
)
def test_odd_names_have_an_outcome(root: Path, change: Change, named: str) -> None:
    """Empty folders, twins, pipes, links and names that cannot be written are refused by name, never passed over."""
    change(root)
    context = context_of(root)
    listing = inventory.look(context.plan, ())
    said = [f"{problem.path}: {problem.message}" for problem in model._unpinned(context, listing)]
    assert any(line.startswith(named) for line in said), said


def test_a_link_inside_the_folder_is_a_file_like_any(root: Path) -> None:
    """It is read through, and its bytes are pinned."""
    path = root / "candidate" / "config.json"
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")
    context = context_of(repin(root, "candidate"))
    assert list(model._unpinned(context, inventory.look(context.plan, ()))) == []


def test_a_file_that_did_not_change_is_hashed_once(root: Path) -> None:
    """And one that did is hashed again, even within the same second and size."""
    path = root / "candidate" / "config.json"
    seen = [inventory.look(context_of(root).plan, ()).digests()["candidate/config.json"]]
    flip(path)
    seen.append(inventory.look(context_of(root).plan, ()).digests()["candidate/config.json"])
    assert seen[0] != seen[1] == digest.of_file(path)


# -- where models come from


def with_source(root: Path, source: Source, trusted: tuple[str, ...] = ()) -> Context:
    """Return a context with empty evidence whose candidate has *source*."""
    release = root / "release.toml"
    lines = [f'{key} = "{value}"' for key in ("repository", "revision") if (value := getattr(source, key))]
    text = release.read_text().replace("[candidate.files]", "[candidate.source]\n" + "\n".join(lines) + "\n[candidate.files]")
    release.write_text(text)
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("trusted_repositories = []", f"trusted_repositories = {list(trusted)}"))
    return context_of(root)


@pytest.mark.parametrize(
    ("source", "trusted", "named"),
    [
        (Source(), (), ""),
        (Source(repository="owner/name", revision="a" * 40), ("owner/name",), ""),
        (Source(repository="owner/name", revision="a" * 40), (), "which policy does not trust"),
        (Source(repository="owner/name", revision="a" * 40), ("owner/other",), "which policy does not trust"),
        (Source(repository="owner/name"), ("owner/name",), "at no revision"),
        (Source(revision="a" * 40), (), "of no repository"),
    ],
)
def test_a_source_is_local_or_trusted_at_a_full_revision(
    root: Path, source: Source, trusted: tuple[str, ...], named: str
) -> None:
    """model.source: anything in between is refused."""
    problems = list(model._untrusted(with_source(root, source, trusted)))
    assert [problem.path for problem in problems] == (["candidate"] if named else [])
    assert all(named in problem.message for problem in problems)


@pytest.mark.parametrize("revision", ["main", "v1.0", "abc123", "A" * 40, "a" * 39, "refs/heads/main"])
def test_a_branch_or_short_revision_is_no_revision(root: Path, revision: str) -> None:
    """What can move is refused before anything runs: exit 2, naming the field."""
    with pytest.raises(UsageError, match="revision"):
        with_source(root, Source(repository="owner/name", revision=revision))


def test_a_revision_that_moved_is_named(root: Path) -> None:
    """What lies in the cache of one revision is not what a release says of another."""
    kept, wanted = "a" * 40, "b" * 40
    snapshot = Path("cache") / "models--owner--name" / "snapshots" / kept
    (root / snapshot).parent.mkdir(parents=True)
    (root / "candidate").rename(root / snapshot)
    release = root / "release.toml"
    release.write_text(release.read_text().replace('path = "candidate"', f'path = "{snapshot}"'))
    said = list(model._untrusted(with_source(root, Source(repository="owner/name", revision=wanted), ("owner/name",))))
    assert [problem.path for problem in said] == ["candidate"]
    assert f"lies in the cache of owner/name at {kept}" in said[0].message


# -- what can go wrong around the scanners


def test_a_model_folder_that_is_missing_is_named(root: Path) -> None:
    """Exit 3, and what to do."""
    (root / "candidate").rename(root / "elsewhere")
    with pytest.raises(InputMissing, match="candidate: there is no"):
        model.STAGE.inputs(context_of(root))


def test_every_file_is_an_input(root: Path) -> None:
    """The reuse key depends on each file of the folders, pinned or not."""
    seen = [model.STAGE.inputs(context_of(root))]
    (root / "candidate" / ".new").write_text("x")
    seen.append(model.STAGE.inputs(context_of(root)))
    flip(root / "data" / "eval.jsonl")
    seen.append(model.STAGE.inputs(context_of(root)))
    assert len({json.dumps(dict(inputs)) for inputs in seen}) == 3
    assert len(seen[0]) == 13


def fake_scanner(root: Path, script: str | None) -> None:
    """Put a made-up program in the place of the environment's interpreter."""
    venv = venvs.locate(root, "model")
    (venv.path / "bin").mkdir(parents=True)
    (venv.path / "sealrun-venv.json").write_text("{}")
    if script is not None:
        venv.python.write_text(f"#!/bin/sh\n{script}\n")
        venv.python.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "is missing"),
        ("exit 3", "exit code 3"),
        ("kill -9 $$", "SIGKILL"),
        ("exit 0", "wrote no report"),
        (': > "$5"', "not acceptable JSON"),
        ('echo "{}" > "$5"', "formats.json"),
        ('echo garbage > "$5"', "not acceptable JSON"),
        ("sleep 60", "still running after 1 s"),
    ],
    ids=["missing", "crash", "killed", "silent", "empty", "another report", "garbage", "hanging"],
)
def test_a_scanner_that_fails_is_an_error(root: Path, script: str | None, said: str) -> None:
    """Verdict error and exit 4, never a pass."""
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("default = 600", "default = 1"))
    fake_scanner(root, script)
    statement = execute(model.STAGE, context_of(root))
    assert (statement.verdict, statement.error_code) == (Verdict.ERROR, 4)
    assert said in statement.error


# -- the judge


def reported(root: Path, change: Callable[[dict[str, Any]], object]) -> Context:
    """Return a context with evidence as the scanner leaves it for the example, changed."""
    context = context_of(root)
    listing = inventory.look(context.plan, context.targets)
    folder = files.empty_folder(context.evidence("model"))
    files.write_json(folder / "listing.json", listing)
    verdicts = [
        {"path": e.path, "sha256": e.sha256, "format": "json", "problems": [], "code": [], "details": {}} for e in listing.files
    ]
    switches = dict.fromkeys(("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    report = {"format": "sealrun/formats-v1", "files": verdicts, "probe": {"environment": switches, "network": "denied"}}
    change(report)
    files.write_json(folder / "formats.json", report)
    return context


def judged(context: Context) -> dict[str, str]:
    return {
        outcome.control: outcome.seen for outcome in model.STAGE.judge(context).outcomes if outcome.outcome.value == "failed"
    }


def test_a_full_report_passes(root: Path) -> None:
    """The unchanged report that the next tests change is one that passes."""
    assert judged(reported(root, lambda report: None)) == {}


@pytest.mark.parametrize(
    ("change", "control", "named"),
    [
        (lambda r: r["files"][0].update(sha256="0" * 64), "model.formats", "changed while it was judged"),
        (lambda r: r["files"][0].update(format="pickle"), "model.formats", "policy does not admit"),
        (lambda r: r["files"][0].update(problems=["odd"]), "model.formats", "odd"),
        (lambda r: r["files"][0].update(code=["asks"]), "model.code", "asks"),
        (lambda r: r["probe"].update(network="opened"), "data.offline", "could reach the network"),
        (lambda r: r["probe"]["environment"].pop("HF_DATASETS_OFFLINE"), "data.offline", "HF_DATASETS_OFFLINE"),
        (lambda r: r["probe"]["environment"].update(HF_HUB_OFFLINE="0"), "data.offline", "HF_HUB_OFFLINE"),
    ],
)
def test_each_line_fails_alone(root: Path, change: Callable[[dict[str, Any]], object], control: str, named: str) -> None:
    """One thing wrong in the report is one control failed, with its name."""
    said = judged(reported(root, change))
    assert set(said) == {control}
    assert named in said[control]


@pytest.mark.parametrize("change", [lambda r: r["files"].pop(), lambda r: r["files"].append(r["files"][0])])
def test_every_file_has_exactly_one_verdict(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A verdict missing or doubled is a failed tool, not a smaller release."""
    with pytest.raises(ToolFailed, match="no verdict or two"):
        model.STAGE.judge(reported(root, change))


def test_nothing_of_a_model_is_run_or_imported() -> None:
    """The code that opens models knows no unpickler, no runtime and no importer."""
    formats = sorted((INSIDE / "formats").glob("*.py"))
    source = "".join(path.read_text() for path in (INSIDE / "scan_model.py", *formats))
    assert len(formats) > 5
    for name in (
        "pickle.load",
        "import torch",
        "from torch",
        "onnxruntime",
        "importlib",
        "import pickle\n",
        "marshal",
        ".render(",
        "subprocess",
        "load_external_data=True",
    ):
        assert name not in source


def test_a_file_swapped_after_the_gate_is_caught(root: Path) -> None:
    """Certify starts no runtime beside a pinned file that is no longer what the gate judged."""
    context = context_of(root)
    files.empty_folder(context.evidence("model"))
    judged = model._artifacts(context, inventory.look(context.plan, ()))
    files.write_json(context.evidence("model") / artifacts.FILE, judged)
    certify._require_untouched(context)
    flip(root / "candidate" / "model.safetensors")
    with pytest.raises(VerificationFailed, match=r"candidate/model\.safetensors is no longer what the model gate judged"):
        certify._require_untouched(context)


# -- who signed them


def with_signer(root: Path, role: str = "baseline", name: str = "owner.pub") -> None:
    """Let policy ask for a signature of *role* by the key of this test."""
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("[model]\n", f'[model]\nsigners = {{ {role} = "{name}" }}\n'))
    (root / "policy" / "signers").mkdir(exist_ok=True)
    (root / "policy" / "signers" / "owner.pub").write_bytes(oms.public_key().pem)


def signed(root: Path, *without: str) -> Path:
    """Sign the baseline as its owner would, and pin it so."""
    names = [name for name in files.walk_files(root / "baseline") if name not in without]
    oms.write(root / "baseline" / oms.SIGNATURE, oms.statement("b", digest.describe_files(root / "baseline", names)))
    return repin(root, "baseline")


def unsigned(root: Path) -> list[str]:
    """Return what the gate says of signatures, with the evidence as it would be gathered now."""
    context = context_of(root)
    listing = inventory.look(context.plan, ())
    signature = root / "baseline" / oms.SIGNATURE
    if signature.exists():
        files.write_bytes(files.empty_folder(context.evidence("model")) / "baseline.sig", signature.read_bytes())
    return [f"{problem.path}: {problem.message}" for problem in model._unsigned(context, listing)]


@pytest.fixture
def keyed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository, whose policy asks for a signature of the baseline."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    with_signer(root)
    return root


def test_a_signature_that_policy_asks_for_must_be_there(keyed: Path) -> None:
    """None at all is not a signed model."""
    assert unsigned(keyed) == ["baseline/model.sig: is missing; policy asks for one by owner.pub"]


def test_a_signed_model_is_what_was_signed(keyed: Path) -> None:
    """All pinned files, byte for byte; one changed and pinned again, or one more, is no longer what its owner signed."""
    assert unsigned(signed(keyed)) == []
    flip(keyed / "baseline" / "model.onnx")
    (keyed / "baseline" / "more.json").write_text("{}")
    assert unsigned(repin(keyed, "baseline")) == [
        "baseline/model.onnx: is not the file that was signed",
        "baseline/more.json: is not covered by the signature",
    ]


def test_a_signature_by_somebody_else_is_none(keyed: Path) -> None:
    """The key that policy names, and no other."""
    signed(keyed)
    other = keys.private("other", p256=True)
    (keyed / "policy" / "signers" / "owner.pub").write_bytes(keys.public_key(other).pem)
    assert unsigned(keyed) == ["baseline/model.sig: is not by the key that policy names, or was changed"]


@pytest.mark.e2e
def test_a_signed_model_passes_the_whole_gate(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is evidence, the manifests are OMS statements, and without the signature model.source fails."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))
    with_signer(signed(real))
    context = context_of(real)
    assert execute(model.STAGE, context).verdict is Verdict.PASSED
    stated = json.loads((context.evidence("model") / "candidate.oms.json").read_bytes())
    named = {resource["name"]: resource["digest"] for resource in stated["predicate"]["resources"]}
    assert named == context.plan.release.candidate.files
    (real / "baseline" / oms.SIGNATURE).unlink()
    assert "model.source" in failed(execute(model.STAGE, context_of(repin(real, "baseline"))))

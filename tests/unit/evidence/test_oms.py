"""OMS: what is signed here the stock tool accepts, what the stock tool signs is accepted here, and any change is named."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import keys, oms


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of a user of this test alone."""
    monkeypatch.setenv("SEALRUN_KEYS", str(tmp_path / "keys"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder, with the files that an honest one has besides its weights."""
    folder = tmp_path / "model"
    (folder / "onnx").mkdir(parents=True)
    for name in ("weights.safetensors", "onnx/model.onnx", "README.md", ".gitattributes", ".hidden"):
        (folder / name).write_bytes(name.encode() * 100)
    return folder


def manifest(folder: Path, *without: str) -> digest.Manifest:
    return digest.describe_files(folder, [name for name in files.walk_files(folder) if name not in without])


def stock(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the stock tool."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def stock_verifies(folder: Path, signature: Path, tmp: Path, *options: str) -> bool:
    (tmp / "models.pub").write_bytes(oms.public_key().pem)
    said = stock("verify", "key", folder, "--signature", signature, "--public_key", tmp / "models.pub", *options)
    return said.returncode == 0


def test_the_stock_tool_accepts_what_is_signed_here(model: Path, tmp_path: Path) -> None:
    """Files in folders, hidden ones, git's own at the top, documentation that no pin names; not one byte more. Links, where they are allowed."""
    signature = tmp_path / "candidate.model.sig"
    oms.write(signature, oms.statement("model", manifest(model, "README.md"), ["README.md"]))
    assert stock_verifies(model, signature, tmp_path)
    (model / ".new").write_text("x")
    assert not stock_verifies(model, signature, tmp_path)
    (model / ".new").unlink()
    (model / "weights.safetensors").rename(tmp_path / "blob")
    (model / "weights.safetensors").symlink_to("../blob")
    assert stock_verifies(model, signature, tmp_path, "--allow_symlinks")
    (tmp_path / "blob").write_text("x")
    assert not stock_verifies(model, signature, tmp_path, "--allow_symlinks")


def test_the_stock_tool_reads_the_manifest_of_one_file(tmp_path: Path) -> None:
    """A data set is one file, which OMS calls by a dot."""
    (tmp_path / "eval.jsonl").write_text('{"text": "a"}\n')
    one = digest.describe_file(tmp_path / "eval.jsonl", ".")
    oms.write(tmp_path / "data.sig", oms.statement("eval.jsonl", (one,)))
    assert stock_verifies(tmp_path / "eval.jsonl", tmp_path / "data.sig", tmp_path)


def test_a_signature_is_written_once(model: Path, tmp_path: Path) -> None:
    """The same files keep their signature; others get another."""
    payload, path = oms.statement("model", manifest(model)), tmp_path / "a.sig"
    oms.write(path, payload)
    first = path.read_bytes()
    oms.write(path, payload)
    assert path.read_bytes() == first
    oms.write(path, oms.statement("model", manifest(model, ".hidden")))
    assert oms.verify(path.read_bytes(), oms.public_key().pem, "a.sig").keys() == {
        "README.md", "onnx/model.onnx", "weights.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: str(curve.name))
def test_what_the_stock_tool_signs_is_accepted_here(model: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """By each curve that OMS knows; every file but git's own is covered."""
    key = ec.generate_private_key(curve)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    (tmp_path / "key.pem").write_bytes(private)
    said = stock("sign", "key", model, "--private_key", tmp_path / "key.pem", "--signature", tmp_path / "model.sig")
    assert said.returncode == 0, said.stderr
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = oms.verify((tmp_path / "model.sig").read_bytes(), pem, "model.sig")
    assert signed == {entry.path: entry.sha256 for entry in manifest(model, ".gitattributes")}


def edited(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the signature file *data* with its statement changed, and signed again by the same key."""
    statement = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
    change(statement)
    return oms.sign(files.readable_json(statement))


def outside(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the signature file *data* with its envelope changed."""
    value = json.loads(data)
    change(value)
    return files.readable_json(value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data[:-3], "JSON"),
        (lambda data: outside(data, lambda v: v["dsseEnvelope"]["signatures"].clear()), "cannot be read"),
        (lambda data: outside(data, lambda v: v["dsseEnvelope"].update(payload="e30=")), "is not by the key"),
        (lambda data: outside(data, lambda v: v["dsseEnvelope"].update(payloadType="text/plain")), "expected 'application"),
        (lambda data: edited(data, lambda s: s.update(predicateType="other")), "signs 'other'"),
        (lambda data: edited(data, lambda s: s["predicate"]["serialization"].update(method="shards")), "lists shards"),
        (lambda data: edited(data, lambda s: s["predicate"]["resources"].pop()), "is not that of the files"),
        (lambda data: edited(data, lambda s: s["predicate"]["resources"][0].update(digest="x")), "a digest that is none"),
        (lambda data: edited(data, lambda s: s["predicate"]["resources"][0].update(algorithm="md5")), "expected files by sha256"),
    ],
)  # fmt: skip
def test_what_is_no_sound_signature_is_named(model: Path, change: Callable[[bytes], bytes], named: str) -> None:
    """Cut, emptied, exchanged, of another kind, about fewer files than its digest says."""
    data = change(oms.sign(oms.statement("model", manifest(model))))
    with pytest.raises(VerificationFailed, match=named):
        oms.verify(data, oms.public_key().pem, "baseline/model.sig")


@pytest.mark.parametrize(
    ("pem", "named"),
    [
        (lambda: keys.public_key(keys.private("other", p256=True)).pem, "is not by the key that policy names"),
        (lambda: keys.public_key(keys.private("other")).pem, "none of P-256"),
        (lambda: b"no key", "cannot be read"),
    ],
    ids=["another key", "another kind", "no key"],
)
def test_a_key_that_policy_did_not_mean_is_named(model: Path, pem: Callable[[], bytes], named: str) -> None:
    """Only the key named counts, whatever the signature says of itself."""
    with pytest.raises(VerificationFailed, match=named):
        oms.verify(oms.sign(oms.statement("model", manifest(model))), pem(), "baseline/model.sig")


def test_a_release_key_of_p256_signs_models_itself(tmp_path: Path) -> None:
    """No second key where the first one will do."""
    release = keys.private(keys.RELEASE, p256=True)
    assert oms.public_key() == keys.public_key(release)
    assert not (tmp_path / "keys" / "models.pem").exists()
    assert isinstance(keys.load_pem(keys.private("ordinary")), ed25519.Ed25519PrivateKey)

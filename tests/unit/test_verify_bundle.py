"""Laws of the recipient's verifier: its own Ed25519, its command line, and that it stands alone."""

import ast
import json
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

import verify_bundle
from sealrun.evidence import keys
from tests.bundles import Draft, private_key, public_key
from verify_bundle import BASE, NEUTRAL, D, L, P, Point, add, decode_point, double, encode_point

SCRIPT = Path(verify_bundle.__file__)

# RFC 8032, section 7.1: public key, message, signature.
_RFC_8032 = (
    (
        "d75a9801 82b10ab7 d54bfed3 c964073a 0ee172f3 daa62325 af021a68 f707511a",
        "",
        "e5564300 c360ac72 9086e2cc 806e828a 84877f1e b8e5d974 d873e065 22490155"
        "5fb88215 90a33bac c61e3970 1cf9b46b d25bf5f0 595bbe24 65514143 8e7a100b",
    ),
    (
        "3d4017c3 e843895a 92b70aa7 4d1b7ebc 9c982ccf 2ec4968c c0cd55f1 2af4660c",
        "72",
        "92a009a9 f0d4cab8 720e820b 5f642540 a2b27b54 16503f8f b3762223 ebdb69da"
        "085ac1e4 3e15996e 458f3613 d0f11d8c 387b2eae b4302aee b00d2916 12bb0c00",
    ),
    (
        "fc51cd8e 6218a1a3 8da47ed0 0230f058 0816ed13 ba3303ac 5deb9115 48908025",
        "af82",
        "6291d657 deec2402 4827e69c 3abe01a3 0ce548a2 84743a44 5e3680d7 db5ac3ac"
        "18ff9b53 8d16f290 ae67f760 984dc659 4a7c15e9 716ed28d c027bece ea1ec40a",
    ),
)


EDGE_CASES = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "ed25519.json").read_text("utf-8"))["cases"]


def times(scalar: int, point: Point) -> Point:
    """Scalar multiplication."""
    result = NEUTRAL
    for bit in bin(scalar)[2:]:
        result = double(result)
        if bit == "1":
            result = add(result, point)
    return result


def small_order() -> list[Point]:
    """The eight points whose order divides eight."""
    y = next(y for y in range(2, 100) if (point := decode_point(y.to_bytes(32, "little"))) and times(L, point)[0] % P)
    point = decode_point(y.to_bytes(32, "little"))
    assert point is not None
    generator = times(L, point)
    while encode_point(times(4, generator)) == encode_point(NEUTRAL):
        y += 1
        if point := decode_point(y.to_bytes(32, "little")):
            generator = times(L, point)
    return [times(number, generator) for number in range(8)]


class TestEd25519:
    """Verification as in RFC 8032, without the cofactor, strict about encodings."""

    @pytest.mark.parametrize(("key", "message", "signature"), _RFC_8032)
    def test_published_vectors(self, key: str, message: str, signature: str) -> None:
        """The RFC's signatures hold, and no longer when a bit of any part is changed."""
        parts = [bytes.fromhex(part) for part in (key, message, signature)]
        assert verify_bundle.verify_ed25519(*parts)
        for which in range(3):
            for at in range(0, len(parts[which]), 5):
                changed = [bytearray(part) for part in parts]
                changed[which][at] ^= 1
                assert not verify_bundle.verify_ed25519(*map(bytes, changed))

    def test_the_curve(self) -> None:
        """The base point has the order that the RFC says, and lies on the curve."""
        x, y = BASE[0], BASE[1]
        assert (y * y - x * x - 1 - D * x * x * y * y) % P == 0
        assert encode_point(times(L, BASE)) == encode_point(NEUTRAL)
        assert encode_point(double(BASE)) == encode_point(add(BASE, BASE))

    def test_signatures_of_the_library(self) -> None:
        """What `cryptography` signs holds; it and this verifier agree when bits are flipped."""
        for number in range(20):
            key, message = private_key(number + 1), secrets.token_bytes(number)
            signature = bytearray(key.sign(message))
            public = public_key(number + 1)
            assert verify_bundle.verify_ed25519(public.raw, message, bytes(signature))
            signature[secrets.randbelow(64)] ^= 1 << secrets.randbelow(8)
            assert verify_bundle.verify_ed25519(public.raw, message, bytes(signature)) == public.signed(
                message, bytes(signature)
            )

    @pytest.mark.parametrize("case", EDGE_CASES, ids=lambda case: case["about"])
    def test_published_edge_cases(self, case: dict[str, Any]) -> None:
        """Small and mixed orders, encodings and scalars that are not canonical: both verifiers answer alike, and strictly."""
        key, message, signature = (bytes.fromhex(case[name]) for name in ("key", "message", "signature"))
        assert verify_bundle.sound_key(key) == keys._sound(key) == case["sound"]
        assert verify_bundle.verify_ed25519(key, message, signature) == case["verifies"]
        assert keys.PublicKey(raw=key).signed(message, signature) == case["verifies"]

    @pytest.mark.parametrize("first", [0, 1, L - 1, L, L + 1, P - 1, P, P + 1, 2**255 - 1, 2**256 - 1])
    @pytest.mark.parametrize("second", [0, 1, L - 1, L, L + 1, P - 1, P, 2**253, 2**256 - 1])
    def test_special_values_sign_nothing(self, first: int, second: int) -> None:
        """No pair of special values is a signature of anything, in either verifier."""
        signature = first.to_bytes(32, "little") + second.to_bytes(32, "little")
        for message in (b"", b"?", b"hello"):
            assert not verify_bundle.verify_ed25519(public_key().raw, message, signature)
            assert not public_key().signed(message, signature)

    @pytest.mark.parametrize("edit", [lambda s: b"", lambda s: s[:32], lambda s: s[:63], lambda s: s + b"\0", lambda s: s + s,
                                      lambda s: s[32:] + s[:32], lambda s: b"\0" + s, lambda s: s[1:]])  # fmt: skip
    def test_signatures_of_another_length_or_order(self, edit: Callable[[bytes], bytes]) -> None:
        """Cut, longer or rearranged signatures are refused by both, without an error."""
        signature = edit(private_key().sign(b"m"))
        assert not verify_bundle.verify_ed25519(public_key().raw, b"m", signature)
        assert not public_key().signed(b"m", signature)

    def test_a_scalar_that_is_not_reduced(self) -> None:
        """S + L is another encoding of the same signature, and is refused."""
        signature = private_key().sign(b"m")
        more = (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
        assert not verify_bundle.verify_ed25519(public_key().raw, b"m", signature[:32] + more)

    def test_a_first_half_that_is_not_canonical(self) -> None:
        """R in another encoding is refused, also where the equation holds."""
        assert not verify_bundle.verify_ed25519(public_key().raw, b"m", (P + 1).to_bytes(32, "little") + bytes(32))

    def test_keys_that_say_nothing_about_the_signer(self) -> None:
        """The eight points of small order are no keys, in either verifier; nor are encodings that are not canonical."""
        points = small_order()
        encoded = {encode_point(point) for point in points}
        assert len(encoded) == 8
        others = {(P + y).to_bytes(32, "little") for y in range(19)} | {b"\xff" * 32, b"\1" + bytes(30) + b"\x80"}
        for raw in encoded | others:
            assert not verify_bundle.sound_key(raw)
            assert not keys._sound(raw)

    def test_both_verifiers_know_the_same_keys(self) -> None:
        """Of any 32 bytes, both say the same: a key or none."""
        for number in range(300):
            raw = secrets.token_bytes(32) if number > 50 else number.to_bytes(32, "little")
            assert verify_bundle.sound_key(raw) == keys._sound(raw), raw.hex()

    def test_keys_of_mixed_order(self) -> None:
        """With a small part added to the key, both verifiers take the same signatures (without the cofactor)."""
        import hashlib

        agreed = set()
        secret = 2**200 + 12345
        for part in small_order()[1:]:
            raw = encode_point(add(times(secret, BASE), part))
            for number in range(12):
                nonce, message = number + 7, bytes([number])
                first = encode_point(times(nonce, BASE))
                k = int.from_bytes(hashlib.sha512(first + raw + message).digest(), "little") % L
                signature = first + ((nonce + k * secret) % L).to_bytes(32, "little")
                said = verify_bundle.verify_ed25519(raw, message, signature)
                assert said == keys.PublicKey(raw=raw).signed(message, signature)
                agreed.add(said)
        assert agreed == {True, False}


def run(*arguments: object, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the script by itself, isolated from everything installed."""
    argv = [python, "-I", "-S", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


class TestWindows:
    """What differs there, as functions of what the system says."""

    def test_names_have_slashes(self) -> None:
        """A delivered file is named as it was certified, whatever separates folders."""
        folder = PureWindowsPath(r"C:\Users\anna\model")
        assert verify_bundle.relative_name(folder / "tokenizer" / "vocab.json", folder) == "tokenizer/vocab.json"
        assert verify_bundle.relative_name(PurePosixPath("/m/a/b"), PurePosixPath("/m")) == "a/b"

    @pytest.mark.parametrize(
        ("mode", "tag", "kind"),
        [
            (stat.S_IFREG, 0, "file"),
            (stat.S_IFREG, 0x9000001A, "file"),  # kept in the cloud until it is read
            (stat.S_IFDIR, 0, "folder"),
            (stat.S_IFDIR, 0xA0000003, "other"),  # a junction
            (stat.S_IFREG, 0xA000000C, "other"),
            (stat.S_IFLNK, 0, "other"),
            (stat.S_IFIFO, 0, "other"),
            (stat.S_IFCHR, 0, "other"),
        ],
    )
    def test_kinds(self, mode: int, tag: int, kind: str) -> None:
        """Links and junctions lead elsewhere, so they are neither files nor folders."""
        assert verify_bundle.kind_of(mode, tag) == kind


class TestCommandLine:
    """The script alone, without site packages."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Path:
        """A good bundle."""
        return Draft().write(tmp_path)

    def test_a_good_bundle(self, made: Path) -> None:
        """It says what was checked and what that does not prove, on standard error alone."""
        done = run(made, "--fingerprint", public_key().fingerprint)
        assert (done.returncode, done.stdout) == (0, "")
        for text in (
            "every byte",
            "tiny-1.0.0, judged on 2026-01-15: PASSED",
            "research key",
            "NOT PROMOTABLE",
            "does not prove",
        ):
            assert text in done.stderr

    def test_json(self, made: Path, tmp_path: Path) -> None:
        """--json writes the published object to standard output or to a file."""
        done = run(made, "--fingerprint", public_key().fingerprint, "--json")
        value = json.loads(done.stdout)
        assert (value["schema"], value["verdict"], value["exit_code"]) == ("urn:sealrun:result:v1", "passed", 0)
        assert len(value["controls"]) == 13
        run(made, "--fingerprint", public_key().fingerprint, "--json", tmp_path / "result.json")
        assert json.loads((tmp_path / "result.json").read_text("utf-8")) == value

    def test_a_changed_bundle(self, made: Path) -> None:
        """A changed byte: exit 5, one line, no traceback; the JSON says so too."""
        made.write_bytes(made.read_bytes().replace(b"pip-audit", b"pip_audit", 1))
        done = run(made, "--fingerprint", public_key().fingerprint, "--json")
        assert done.returncode == json.loads(done.stdout)["exit_code"] == 5
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_nobody_to_trust(self, made: Path) -> None:
        """Without trust: exit 2 and the fingerprint seen."""
        done = run(made)
        assert done.returncode == 2
        assert public_key().fingerprint in done.stderr

    def test_wrong_use(self, made: Path) -> None:
        """Unknown options and missing files have their own exit codes."""
        assert run(made, "--unknown").returncode == 2
        assert run(made.with_name("none.evidence.tar"), "--fingerprint", public_key().fingerprint).returncode == 3

    def test_modules_beside_the_bundle_are_not_run(self, made: Path, tmp_path: Path) -> None:
        """A `json.py` or `cryptography` that lies beside the verifier is not imported, with or without -I."""
        script = tmp_path / "verify_bundle.py"
        script.write_bytes(SCRIPT.read_bytes())
        for name in ("json.py", "cryptography.py", "stat.py", "typing.py"):
            (tmp_path / name).write_text("raise SystemExit(99)")
        for flags in ([], ["-I"]):
            argv = [sys.executable, *flags, str(script), str(made), "--fingerprint", public_key().fingerprint]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
            assert done.returncode == 0, done.stderr

    def test_with_and_without_a_library(self, made: Path) -> None:
        """The same answer with `cryptography` and by the file alone."""
        argv = [sys.executable, "-I", str(SCRIPT), str(made), "--fingerprint", public_key().fingerprint, "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert json.loads(done.stdout) == json.loads(run(*argv[3:]).stdout)

    def test_a_terminal_is_not_addressed(self, tmp_path: Path) -> None:
        """What a bundle says cannot move the cursor of who reads it."""
        path = Draft(warnings={"release.key": "\x1b[2J\x07 hidden"}).write(tmp_path)
        done = run(path, "--fingerprint", public_key().fingerprint)
        assert done.returncode == 0
        assert "\x1b" not in done.stderr
        assert "\\x1b[2J" in done.stderr


def test_it_stands_alone() -> None:
    """One file: nothing but the standard library of Python 3.9 is needed, `cryptography` is taken where it is, and no program
    or socket."""
    tree = ast.parse(SCRIPT.read_text("utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"argparse", "base64", "datetime", "functools", "hashlib", "json", "os", "re", "stat", "sys", "pathlib", "typing"}
    faster = {"cryptography.exceptions", "cryptography.hazmat.primitives.asymmetric.ed25519"}
    assert imported <= allowed | faster


@pytest.mark.heavy
def test_old_interpreters(tmp_path: Path) -> None:
    """Every Python from 3.9 on that pyenv has here verifies a bundle."""
    path = Draft().write(tmp_path)
    found = [
        python
        for folder in sorted(Path.home().glob(".pyenv/versions/3.*"))
        if tuple(map(int, folder.name.split(".")[:2])) >= (3, 9) and (python := folder / "bin" / "python").exists()
    ]
    if not found:
        pytest.skip("no other interpreter here")
    for python in found:
        done = run(path, "--fingerprint", public_key().fingerprint, python=str(python))
        assert done.returncode == 0, done.stderr


def test_a_python_that_is_too_old_is_wrong_use() -> None:
    """A traceback would end in 1, which means that the bundle was verified and a gate said no."""
    old = "import runpy, sys; sys.version_info = (3, 6, 15); runpy.run_path(sys.argv[1], run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", old, verify_bundle.__file__], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "verify_bundle: got Python 3.6, expected 3.9 or newer\n")

"""The labelled corpus of the secret scan: policy's examples, with secrets that are made up when they are needed."""

import base64
import hashlib
import json
import random
import re
import string
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
THEIRS = ROOT / "tests" / "recorded" / "trufflehog3" / "unpatched.json"
EXAMPLES = ROOT / "policy" / "secrets" / "examples.toml"
_LETTERS = string.ascii_letters + string.digits
_ALPHABETS = {
    "hex": "0123456789abcdef", "HEX": "0123456789ABCDEF", "alnum": _LETTERS, "upper": string.ascii_uppercase + string.digits,
    "lower": string.ascii_lowercase + string.digits, "alpha": string.ascii_letters, "digit": string.digits,
    "base": _LETTERS + "+/",
    "word": _LETTERS + "_-", "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", "pass": _LETTERS + "!*+.-_",
}  # fmt: skip
_WEAK = ("sunshine", "dragonfly", "monkeybar", "letmeinplz", "bluewhale", "oranges")


class Labelled(NamedTuple):
    """A file of the corpus: its number, rule ("" for a lookalike), path and text, and the parts that were made up."""

    number: int
    rule: str
    path: str
    text: str
    made_up: tuple[str, ...]


def corpus(seed: int = 1) -> list[Labelled]:
    """Return every example with its secrets made up from *seed*."""
    said = tomllib.loads(EXAMPLES.read_text("utf-8"))
    entries = [*said["found"], *(["", path, text] for path, text in said["ignored"])]
    return [
        Labelled(number, rule, path, *filled(text, random.Random(f"{seed}-{path}-{text}")))
        for number, (rule, path, text) in enumerate(entries)
    ]


def filled(text: str, source: random.Random) -> tuple[str, tuple[str, ...]]:
    """Return *text* with its places filled, and what they were filled with."""
    made_up: list[str] = []

    def fill(match: re.Match[str]) -> str:
        kind, count = match[1], match[2]
        made = made_of(kind, int(count or 1), source)
        made_up.append(made)
        return base64.b64encode(b"ci:" + made.encode()).decode() if kind == "userpass" else made

    text = re.sub(r"\{(" + "|".join([*_ALPHABETS, "weak", "userpass"]) + r"):([0-9]*)\}", fill, text)
    text = re.sub(r"\{b64:((?:[^{}])*)\}", lambda m: base64.b64encode(m[1].encode()).decode(), text)
    return re.sub(r"\{hexed:([^{}]*)\}", lambda m: m[1].encode().hex(), text), tuple(made_up)


def made_of(kind: str, count: int, source: random.Random) -> str:
    """Return *count* random characters of an alphabet, or a password."""
    if kind == "weak":
        return source.choice(_WEAK) + (str(source.randint(10, 99)) if count else "")
    if kind in ("pass", "userpass"):
        return "".join(source.choices(_ALPHABETS["pass"], k=max(count, 10) - 3)) + "k7Q"
    return "".join(source.choices(_ALPHABETS[kind], k=count))


def haystack(source: random.Random) -> str:
    """Lines with what trufflehog3's rules look for, in every shape that its line breaks and alphabets have."""
    mixed = string.ascii_letters + string.digits
    upper, hexed, any_text = string.ascii_uppercase + string.digits, "0123456789abcdef", mixed + " +/='\"é\x0c\u2028:@.-_"

    def made(alphabet: str, length: int) -> str:
        return "".join(source.choices(alphabet, k=length))

    shapes = [
        lambda: "AKIA" + made(upper, 16),
        lambda: f"github = '{made(mixed, 38)}'",
        lambda: f'https://{made(mixed, 6)}:{made(mixed + "é", 9)}@{made(mixed, 20)}"',
        lambda: "sk_" + "live_" + made(mixed, 26),
        lambda: made(mixed + "+/=", source.randint(18, 24)),
        lambda: made(hexed, source.randint(18, 40)),
        lambda: "-----BEGIN RSA " + "PRIVATE KEY-----",
        lambda: f'api_key: "{made(mixed, 35)}"',
        lambda: "SK" + made(hexed, 32),
        lambda: made(any_text, 60),
    ]
    return "\n".join(
        made(any_text, source.randint(0, 9)) + source.choice(shapes)() + made(any_text, source.randint(0, 9)) for _ in range(60)
    )


def findings_of_trufflehog3(python: Path, scratch: Path) -> dict[str, list[int | str]]:
    """Return what the trufflehog3 beside *python* finds in generated files, each by its count and one digest of all fields."""
    folder = scratch / "haystacks"
    folder.mkdir()
    for seed in range(40):
        (folder / f"{seed:02d}.txt").write_bytes(haystack(random.Random(seed)).encode())
    for entry in corpus(3):
        name = hashlib.sha256(entry.text.encode()).hexdigest()[:16]  # not its number, which others that come in between change
        (folder / f"example-{name}.txt").write_text(entry.text + "\n", "utf-8")
    report = scratch / "report.json"
    argv = [
        python,
        "-I",
        "-B",
        python.with_name("trufflehog3"),
        "--no-history",
        "--ignore-nosecret",
        "-f",
        "JSON",
        "-o",
        report,
        folder,
    ]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=scratch)
    assert done.returncode == 2, done.stderr  # what it ends with when it found something
    found: dict[str, list[str]] = {path.name: [] for path in sorted(folder.iterdir())}
    for issue in json.loads(report.read_bytes()):
        found[issue["path"]].append(json.dumps(issue, sort_keys=True))
    return {name: [len(said), hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest()] for name, said in found.items()}

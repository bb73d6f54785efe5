"""The labelled corpus of the secret scan: policy's examples, with secrets that are made up when they are needed."""

import base64
import random
import re
import string
import tomllib
from typing import NamedTuple

from tests.conftest import ROOT

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
        Labelled(number, rule, path, *filled(text, random.Random(f"{seed}-{number}")))
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
        return source.choice(_WEAK) + str(source.randint(10, 99))
    if kind in ("pass", "userpass"):
        return "".join(source.choices(_ALPHABETS["pass"], k=max(count, 10) - 3)) + "k7Q"
    return "".join(source.choices(_ALPHABETS[kind], k=count))

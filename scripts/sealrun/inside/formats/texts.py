"""Text: UTF-8 without control characters; JSON, JSON lines and CSV are text with rules of their own.

Rules: a file is read in pieces, so that a large one takes no more memory than a small one; what a text hides (encoded pickles),
asks for (remote code, objects by name) or is (a script, whatever it is called) is said.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sealrun.inside.formats import pickles, strict, templates, wishes

MAX_JSON = 256 * 1024 * 1024
MAX_LINE = 64 * 1024 * 1024
_PIECE = 4 * 1024 * 1024
_OVERLAP = 4096
_CONTROL = bytes(sorted({*range(9), 11, *range(14, 32)}))  # DEL is a token of its own in some vocabularies
_MAX_COLUMNS = 1000
_MOST_WRONG = 20  # lines
_MARKUP = re.compile(rb"\A\s*<(?:\?|!|%|(?:html|head|body|script|svg|iframe|pmml|net|project|configuration)\b)", re.IGNORECASE)
# Models of other programs, and archives, that are written as text.
_WRITTEN = re.compile(
    rb"\A(?:tree\r?\nversion=v|(?:svm_type|solver_type) \w+\r?\n|\[net\]|7767517\r?\n|HloModule |\.version \d|!<arch>\n"
    rb"|(?:RD[AX]\d\n)?A\n[23]\n\d+\n|[0-8]\n\d+\n\d+\nV \d+\n)|^[ \t]*(?:func\.func|llvm\.func|stablehlo\.\w+) @",
    re.MULTILINE,
)
_FORMULA = re.compile(
    rb"(?:^|[,;\t\"])[ \t]{0,20}[=+@-][ \t]{0,20}(?:cmd|msexcel|powershell|rundll32|mshta|wscript)[ \t]{0,20}\|",
    re.IGNORECASE | re.MULTILINE,
)
_TEST_VIRUS = b"EICAR-STANDARD-ANTIVIRUS-" + b"TEST-FILE"


def is_text(file: Path) -> bool:
    """Return whether *file* is UTF-8 text without control characters."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as stream:
        try:
            while piece := stream.read(_PIECE):
                if len(piece.translate(None, _CONTROL)) != len(piece):
                    return False
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def kind_of(file: Path) -> str:
    """Return json, jsonl, csv, script, markup, model-text or text; of a text that is none of these its name decides what is
    wrong with it."""
    suffix = file.suffix.lower()
    with file.open("rb") as stream:
        head = stream.read(_PIECE).removeprefix(codecs.BOM_UTF8)
    if head.startswith(b"#!"):
        return "script"
    if suffix != ".md" and _MARKUP.match(head):
        return "markup"
    if suffix != ".md" and _WRITTEN.search(head[:65536]):
        return "model-text"
    named = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
    if suffix in named:
        return named[suffix]
    if not head.lstrip().startswith((b"{", b"[", b'"')):
        return "text"
    if file.stat().st_size <= MAX_JSON and strict.strict_json(file.read_text("utf-8-sig"))[1] is None:
        return "json"
    first, _, more = head.partition(b"\n")
    return "jsonl" if more and strict.strict_json(first.decode("utf-8", "replace"))[1] is None else "text"


def read(file: Path, found: str, details: dict[str, Any], code: list[str]) -> Iterator[str]:
    """Yield what is wrong with a file of text; fill *details*, and *code* with what in it is or asks for code."""
    yield from _hidden(file)
    if found == "json":
        yield from _read_json(file, details, code)
    elif found == "jsonl":
        yield from _read_lines(file, details, code)
    elif found == "csv":
        yield from _read_csv(file, details)
    else:
        code += dict.fromkeys(_asked(file))
        yield from _read_text(file, code)


def _read_text(file: Path, code: list[str]) -> Iterator[str]:
    suffix, size = file.suffix.lower(), file.stat().st_size
    is_template = suffix in (".jinja", ".jinja2", ".j2")
    if is_template and size > 4 * templates.MAX_TEMPLATE:
        yield f"has {size} bytes, expected at most {4 * templates.MAX_TEMPLATE} of a template"
    elif is_template or size <= wishes.LONGEST:
        text = file.read_text("utf-8-sig")
        code += wishes.asked_by_text(text, suffix)
        if suffix != ".md":
            yield from templates.judge(text, strictly=is_template)


def _asked(file: Path) -> Iterator[str]:
    """Yield what a text of any length asks for by names that libraries act on."""
    with file.open("rb") as stream:
        before = b""
        while piece := stream.read(_PIECE):
            yield from wishes.named_objects(before + piece, file.suffix.lower())
            before = piece[-_OVERLAP:]


def _hidden(file: Path) -> Iterator[str]:
    """Yield what no text of a model has any business with."""
    with file.open("rb") as stream:
        before = b""
        while piece := stream.read(_PIECE):
            if _TEST_VIRUS in before + piece:
                yield "holds the test pattern of virus scanners"
                return
            if found := next(pickles.encoded(before + piece), ""):
                yield found
                return
            if b"|" in piece and _FORMULA.search(before + piece):
                yield "holds a formula that starts a program"
                return
            before = piece[-_OVERLAP:]


def _read_json(file: Path, details: dict[str, Any], code: list[str]) -> Iterator[str]:
    if file.stat().st_size > MAX_JSON:
        yield f"has {file.stat().st_size} bytes, expected at most {MAX_JSON} of JSON"
        return
    value, problem = strict.strict_json(file.read_text("utf-8-sig"))
    if problem:
        yield problem
        return
    code += dict.fromkeys(wishes.asked_code(value))
    yield from _pickled_strings(value)
    yield from dict.fromkeys(_templates_in(value))
    if isinstance(value, dict):
        yield from _shards(value.get("weight_map"))
        details |= _architecture(value)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        details |= _table(len(value), {str(key) for row in value for key in row})


def _shards(weight_map: Any) -> Iterator[str]:
    """Yield which file of a sharded model's index lies elsewhere."""
    for name in sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else ():
        if name.startswith(("/", "~")) or "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            yield f"weight_map names {name[:100]!r}, which lies outside the folder"


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a model's configuration says that it is."""
    family, names = config.get("model_type"), config.get("architectures")
    said: dict[str, Any] = {"architecture": family[:100]} if isinstance(family, str) else {}
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        said["architectures"] = [name[:100] for name in names[:10]]
    return said


def _read_lines(file: Path, details: dict[str, Any], code: list[str]) -> Iterator[str]:
    """Yield what is wrong with JSON lines; after the first lines that something is wrong with the others are not read."""
    columns: set[str] = set()
    asked: set[str] = set()
    number = wrong = 0
    with file.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b""), 1):
            if len(line) > MAX_LINE:
                yield f"line {number} has more than {MAX_LINE} bytes"
                return
            value, problem = strict.strict_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if problem and line.strip():
                yield f"line {number}: {problem}"
                return
            found = list(_pickled_strings(value)) if line.strip() else ["is empty"]
            wishes_here = [wish for wish in wishes.asked_code(value) if wish not in asked]
            asked.update(wishes_here)
            code += [f"line {number}: {wish}" for wish in dict.fromkeys(wishes_here)]
            yield from (f"line {number}: {text}" for text in found)
            wrong += len(found) + len(wishes_here)
            if wrong > _MOST_WRONG:
                yield f"the lines behind line {number} were not read"
                return
            if isinstance(value, dict) and len(columns) < _MAX_COLUMNS:
                columns |= value.keys()
    details |= _table(number, columns)


def _pickled_strings(value: Any) -> Iterator[str]:
    """Yield when a string of a JSON value is a pickle, a byte for a character, or a list one, a byte for a number."""
    rest = [value]
    while rest:
        item = rest.pop()
        rest += strict.children(item)
        if isinstance(item, list) and _is_pickled(item):
            yield "a list in it is a pickle, a byte for a number"
            return
        likely = isinstance(item, str) and len(item) > 9 and ("\x80" <= item[0] <= "\xff" or "\n" in item)
        if likely and pickles.is_pickle(io.BytesIO(item.encode("latin-1", "replace"))):
            yield "a text in it is a pickle, a byte for a character"
            return


def _is_pickled(numbers: list[Any]) -> bool:
    if len(numbers) < 10 or any(type(number) is not int or not 0 <= number < 256 for number in numbers[:10]):
        return False
    whole = itertools.takewhile(lambda number: type(number) is int and 0 <= number < 256, numbers)
    return pickles.imports_and_calls(bytes(whole))


def embedded(text: str, *, strictly: bool = False) -> Iterator[str]:
    """Yield what is wrong with a text inside of another format: what it hides, and what it asks for. *strictly*: it is a
    template."""
    yield from pickles.encoded(text.encode("utf-8", "replace"))
    yield from templates.judge(text, strictly=strictly)
    yield from _pickled_strings([text])
    if not strictly:
        yield from wishes.asked_by_text(text, "")
        value, _ = strict.strict_json(text) if text.lstrip()[:1] in ("{", "[") else (None, None)
        yield from wishes.asked_code(value)
        yield from _templates_in(value)


def _read_csv(file: Path, details: dict[str, Any]) -> Iterator[str]:
    with file.open("r", encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            if not header or len(set(header)) != len(header):
                yield "the first row names no columns, or one twice"
                return
            count = 0
            for count, row in enumerate(rows, 1):
                if len(row) != len(header):
                    yield f"row {count} has {len(row)} fields, the first row {len(header)}"
                    return
        except csv.Error as error:
            yield f"row {rows.line_num} is no CSV ({error})"
            return
    details |= _table(count, set(header))


def _table(rows: int, columns: set[str]) -> dict[str, Any]:
    return {"rows": rows, "columns": sorted(columns)[:_MAX_COLUMNS], "encoding": "UTF-8"}


def _templates_in(value: Any) -> Iterator[str]:
    """Yield what is wrong with the templates in a JSON value: those called so, and every text that looks like one."""
    for item in strict.objects({"": value}):
        for key, inner in item.items():
            strictly = "chat_template" in key
            for text in [inner] if isinstance(inner, str) else inner if isinstance(inner, list) else []:
                if isinstance(text, str):
                    yield from templates.judge(text, strictly=strictly)
            if strictly and isinstance(inner, list | dict):
                named = [part.get("template") for part in strict.objects(inner)] + list(strict.children(inner))
                for text in named:
                    if isinstance(text, str):
                        yield from templates.judge(text, strictly=True)

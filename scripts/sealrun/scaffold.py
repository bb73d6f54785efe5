"""Write a `release.toml` that releases at once: `invoke init`.

Rules: what can be read from the folders is read (the model file, the tokenizer, the field that holds the text, every digest);
what cannot be known is marked with `# fill in:`; nothing is overwritten; what is written is loaded back before it is kept.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

from sealrun import digest, files
from sealrun.errors import UsageError
from sealrun.policy.model import Release

_SHARDED = ".safetensors.index.json"
_MAX_LINE = 64 * 1024 * 1024
_TEXT_FIELDS = ("text", "content", "document", "sentence", "prompt")


def init(baseline: Path, candidate: Path, data: Path, name: str, out: Path | None = None, version: str = "0.1.0") -> Path:
    """Write `release.toml` for *candidate* against *baseline* on *data*, and return where.

    *out* is the file to write; by default it goes into the folder that holds all three. Raises UsageError.
    """
    places = {"baseline": baseline.resolve(), "candidate": candidate.resolve(), "data": data.resolve()}
    _check(places)
    target = out.resolve() if out else _common_folder(places)
    target = target / "release.toml" if target.is_dir() else target
    if target.exists():
        raise UsageError(f"init: {target} exists already; remove it or name another file")
    if not target.parent.is_dir():
        raise UsageError(f"init: there is no folder {target.parent}; make it first or name another file")
    text = "".join(_release(places, target.parent, name, version))
    files.convert(tomllib.loads(text), Release, "init")
    files.write_bytes(target, text.encode())
    return target


def _check(places: dict[str, Path]) -> None:
    for role in ("baseline", "candidate"):
        if not places[role].is_dir():
            raise UsageError(f"init: {role}: got {places[role]}, expected the folder of a model")
    if not places["data"].is_file():
        raise UsageError(f"init: data: got {places['data']}, expected a file with one JSON object per line")


def _common_folder(places: dict[str, Path]) -> Path:
    """Return the deepest folder above all three."""
    shared = [folder for folder in places["baseline"].parents if all(p.is_relative_to(folder) for p in places.values())]
    if shared[0] == Path(shared[0].anchor):
        raise UsageError("init: baseline, candidate and data share no folder; copy or link them into one folder first")
    return shared[0]


def _release(places: dict[str, Path], base: Path, name: str, version: str) -> Iterator[str]:
    relative = {role: _relative(path, base, role) for role, path in places.items()}
    yield (
        "# What is released: a candidate, the baseline it must not be worse than, and the data that decides.\n"
        "# Paths are relative to this file.\n"
        'format = "sealrun/release-v1"\n'
        f"name = {_quoted(name)}\n"
        f"version = {_quoted(version)}\n"
        'posture = "research"         # fill in: "production" once this is to be deployed\n'
        'retention = "research"       # fill in: a class of policy/retention.toml, with "production"\n'
    )
    for role in ("baseline", "candidate"):
        yield from _model(role, relative[role], places[role])
    yield (
        "\n[data]\n"
        f"path = {_quoted(relative['data'])}\n"
        f'sha256 = "{digest.of_file(places["data"])}"\n'
        f"{_text_field(places['data'])}"
        'licence = ""                 # fill in: the licence of this data\n'
        "\n[certify]\n"
        'engine = "invarlock-0.17"\n'
        'profile = "release"\n'
        "# heavy = true               # for models in safetensors: allows torch, 2.8 GB to download, to be installed\n"
        f"{_window(places)}"
    )


def _model(role: str, path: str, folder: Path) -> Iterator[str]:
    """Yield the tables of one model."""
    names = list(files.walk_files(folder))
    artifact = _artifact(names, role)
    tokenizer = _one_of([name for name in names if Path(name).name == "tokenizer.json"], role, "a tokenizer.json")
    yield (
        f"\n[{role}]\n"
        f"path = {_quoted(path)}\n"
        f"artifact = {_quoted(artifact)}\n"
        f"tokenizer = {_quoted(tokenizer)}\n"
        'licence = ""                 # fill in: the licence of this model\n'
        f"# fill in, if it was downloaded: [{role}.source] with repository and its full 40-hex revision\n"
        f"\n[{role}.files]\n"
    )
    for name in names:
        yield f"{_quoted(name)} = {_quoted(digest.of_file(files.regular_file(folder, name, f'init: {role}')))}\n"


def _artifact(names: list[str], role: str) -> str:
    """Return the file to run: the ONNX model, else the checkpoint in safetensors. Raises UsageError for none or several."""
    kinds = ([name for name in names if name.endswith(suffix)] for suffix in (".onnx", _SHARDED, ".safetensors"))
    return _one_of(next((found for found in kinds if found), []), role, "an ONNX model (*.onnx) or *.safetensors")


def _relative(path: Path, base: Path, role: str) -> str:
    """Return *path* relative to the release file's folder. Raises UsageError when it lies outside or is that folder."""
    if path == base or not path.is_relative_to(base):
        raise UsageError(
            f"init: {role}: {path} does not lie below {base}; put release.toml into a folder that holds baseline, "
            "candidate and data, or copy them below it"
        )
    return files.relative_name(path.relative_to(base).as_posix(), f"init: {role}").as_posix()


def _one_of(names: list[str], role: str, what: str) -> str:
    """Return the only name, or the one at the top. Raises UsageError for none or several."""
    top = [name for name in names if "/" not in name]
    for found in (names, top, [name for name in top if name in ("model.onnx", "model.safetensors")]):
        if len(found) == 1:
            return found[0]
    if not names:
        raise UsageError(f"init: {role}: its folder lacks {what}; export the model first")
    raise UsageError(f"init: {role}: got {', '.join(names)}, expected one of them; keep {what} to be released apart")


def _text_field(data: Path) -> str:
    """Return the line that names the field of *data* holding the text. Raises UsageError when its first line has none."""
    with data.open("rb") as stream:
        first = stream.readline(_MAX_LINE)
    row = files.parse_json(first, f"init: {data}: line 1")
    texts = [key for key, value in row.items() if isinstance(value, str)] if isinstance(row, dict) else []
    if not texts:
        raise UsageError(f"init: {data}: line 1: no field holds a text; expected a JSON object with one")
    likely = [field for field in _TEXT_FIELDS if field in texts]
    chosen = likely[0] if likely else max(texts, key=lambda key: len(row[key]))
    sure = len(texts) == 1 or chosen == "text"
    return f"text_field = {_quoted(chosen)}" + ("\n" if sure else f"  # fill in: guessed among {', '.join(texts)}\n")


def _window(places: dict[str, Path]) -> str:
    """Return the line that bounds what the models see at once, where their configuration says it."""
    said = []
    for role in ("baseline", "candidate"):
        path = places[role] / "config.json"
        config = files.parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
        said += [v for key in ("max_position_embeddings", "n_positions") if isinstance(v := config.get(key), int)]
    return f"window = {min(said)}\n" if said else "# fill in: window = the most tokens the models take at once (1024)\n"


def _quoted(text: str) -> str:
    """Return *text* as a TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)

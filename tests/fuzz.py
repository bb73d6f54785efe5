"""Hostile variants of a file, the laws that every reader holds on them, and the ONNX reader's own run.

    MODEL-PYTHON -m tests.fuzz COUNT MODEL.onnx...

Rules: the standard library alone, since the ONNX reader runs in the model environment; the same numbers give the same inputs;
a reader ends, within bounds of time and memory, and what it says is short text without a path of the host.
"""

import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

type Reader = Callable[[bytes], Iterable[str]]

SECONDS = 2.0  # of processor time for one input
MEMORY = 768 * 1024**2  # bytes that all inputs together may take on top of what the process has
_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    32,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
)


def variants(data: bytes, others: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield *count* inputs made of *data* by a few edits each; *others* are what may be spliced in."""
    chance = random.Random(seed)
    for _ in range(count):
        found = data
        for _ in range(chance.randint(1, 4)):
            found = _edited(found, others, chance)
        yield found


def _edited(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    reach = at + chance.choice((1, 1, 2, 4, 8, 16, 64))
    width = chance.choice((1, 2, 4, 8))
    number = (chance.choice(_NUMBERS) % 256**width).to_bytes(width, chance.choice(("little", "big")))
    return chance.choice((
        lambda: data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :] if at < len(data) else data,
        lambda: data[:at] + number + data[at + width :],
        lambda: data[:at] + number + data[at:],
        lambda: data[:at] + data[reach:],
        lambda: data[:reach] + data[at:],
        lambda: data[:at],
        lambda: data[:at] + chance.randbytes(reach - at) + data[reach:],
        lambda: data[:at] + (other := chance.choice(others))[chance.randrange(len(other) + 1) :],
    ))()  # fmt: skip


def held(read: Reader, data: bytes) -> bool:
    """Return whether *read* found something wrong with *data*. Raises AssertionError where it breaks a law."""
    started = time.process_time()
    said = list(read(data))
    seconds = time.process_time() - started
    assert seconds < SECONDS, f"{seconds:.1f} s for {data[:200]!r}"
    assert all(isinstance(text, str) and 0 < len(text) < 1000 and "/tests/" not in text for text in said), said
    return bool(said)


@contextmanager
def bounded() -> Iterator[None]:
    """Let this process take MEMORY more than it has; beyond that a reader gets a MemoryError, which no reader may raise."""
    if sys.platform != "linux":
        yield
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def main(count: int, files: Sequence[Path]) -> None:
    """Feed the ONNX reader *count* variants of the models in *files*, and say how many it refused."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
    from sealrun.inside.formats import onnx_file

    folder = files[0].parent
    beside: onnx_file.Pieces = {path: [] for path in folder.iterdir()}

    def read(data: bytes) -> Iterator[str]:
        model = onnx_file.parse(data)
        yield from ["is no ONNX model"] if model is None else onnx_file.read(model, folder, {}, {""}, beside)
        for taken in beside.values():
            taken.clear()

    seeds = [file.read_bytes() for file in files]
    refused = [held(read, seed) for seed in seeds]
    with bounded():
        for number, seed in enumerate(seeds):
            refused += [held(read, data) for data in variants(seed, seeds, count // len(seeds), number)]
    print(len(refused), sum(refused), sum(refused[: len(seeds)]))


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])

"""Score texts with an ONNX language model. Runs inside the `runtime-onnx` environment, never in Sealrun's own.

    python score_onnx.py JOB.json RECORDS.jsonl

What the job and the records hold: `scoring.py`. Rules of this runtime: one thread, sequential, deterministic; a model that
scales its activations anew for each run takes one scale from a whole batch, so any neighbour would change a number: it is
scored one text at a time. `device` is `cpu`, or `cuda` where the installed onnxruntime has that provider.
"""

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

sys.path.append(str(Path(__file__).resolve().parents[2]))

from sealrun.inside import scoring

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DYNAMIC = b"DynamicQuantize"  # begins the name of each operator that does


class Onnx:
    """An ONNX model, opened."""

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, model: Path, device: str) -> None:
        self.session = open_session(model, device)
        inputs = self.session.get_inputs()
        self.names = {entry.name for entry in inputs}
        self.alone = device != "cpu" or isinstance(inputs[0].shape[0], int) or holds(model, _DYNAMIC)

    def logits(self, ids: Any, mask: Any) -> Any:
        """Return floats [texts, tokens, vocabulary]. Raises Unscorable."""
        given = {name: value for name, value in scoring.feeds(ids, mask) if name in self.names}
        try:
            [logits] = self.session.run(["logits"], given)
        except (Fail, InvalidArgument) as problem:
            sys.stderr.write(f"{problem}\n")
            raise scoring.Unscorable(f"the runtime refused {ids.shape[1]} tokens of this case") from problem
        return logits


def open_session(model: Path, device: str) -> Any:
    """Return the model, opened with one thread. Ends the program when its inputs are not understood."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    provider = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        sys.exit(f"device {device}: this onnxruntime has no {provider}; set certify.device to cpu, or lock onnxruntime-gpu")
    session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
    names = {entry.name for entry in session.get_inputs()}
    known = {name for name, _ in scoring.feeds(*(numpy.zeros((1, 1), numpy.int64) for _ in range(2)))}
    if "input_ids" not in names or names - known:
        sys.exit(f"{model.name}: got the inputs {sorted(names)}, expected input_ids and at most attention_mask, "
                 "position_ids, token_type_ids; export the model without a key-value cache")  # fmt: skip
    if "logits" not in {entry.name for entry in session.get_outputs()}:
        sys.exit(f"{model.name}: got no output named logits; export the model with its language-model head")
    return session


def holds(path: Path, wanted: bytes) -> bool:
    """Return whether the bytes *wanted* stand anywhere in the file."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(wanted) >= 0


if __name__ == "__main__":
    scoring.main(lambda job: Onnx(Path(job["model"]), job["device"]), *sys.argv[1:])

"""Score windows of tokens once more with a Hugging Face checkpoint, and read the texts that they were cut from.

    python score_windows.py JOB.json RESULT.json

Runs inside the environment `certify-0.3`, and shares no code with InvarLock. The job names `model` (a file in a folder of
exactly the pinned files), `tokenizer`, `data`, `text_field`, `window`, `device` and `windows`: lists of tokens by id. The
result holds, by id, the mean loss of each window in nats per predicted token, and the windows that begin none of the data's
texts.
"""

import json
import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy
from tokenizers import Tokenizer

from sealrun.inside import scoring
from sealrun.inside.score_transformers import Transformers


def main(job_file: str, result_file: str) -> None:
    """Write what the job asks for."""
    job = json.loads(Path(job_file).read_bytes())
    words = Tokenizer.from_file(job["tokenizer"])
    words.no_padding()
    words.enable_truncation(job["window"])
    texts = [json.loads(line)[job["text_field"]] for line in Path(job["data"]).read_bytes().splitlines()]
    known = {tuple(code.ids) for code in words.encode_batch(texts)}
    model = Transformers(Path(job["model"]).parent, job["device"])
    result = {
        "losses": {identity: loss(model, ids) for identity, ids in job["windows"].items()},
        "foreign": sorted(identity for identity, ids in job["windows"].items() if tuple(ids) not in known),
    }
    Path(result_file).write_text(json.dumps(result, sort_keys=True), encoding="utf-8")


def loss(model: Transformers, ids: list[int]) -> float | None:
    """Return the mean loss of a window, None when there is no finite one."""
    shown = numpy.array([ids], numpy.int64)
    try:
        logits = model.logits(shown, numpy.ones_like(shown))
        terms, _ = scoring.log_probabilities(logits[0], scoring.Piece(ids, 1))
    except scoring.Unscorable:
        return None
    return -math.fsum(terms) / len(terms)


if __name__ == "__main__":
    main(*sys.argv[1:])

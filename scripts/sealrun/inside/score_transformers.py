"""Score texts with a Hugging Face checkpoint in safetensors. Runs inside the `runtime-transformers` environment.

    python score_transformers.py JOB.json RECORDS.jsonl

What the job and the records hold: `scoring.py`; `model` lies in a folder of exactly the pinned files. Rules of this runtime:
weights come from safetensors alone, no code comes from the folder, nothing from a hub; one thread for each worker; weights are
widened to float32, unless the checkpoint is quantised: then the back end that its configuration names must be installed, and
its texts are scored one at a time. `device` is `cpu` or `cuda`.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when CUDA starts: what makes its sums repeatable

import torch
import transformers

sys.path.append(str(Path(__file__).resolve().parents[2]))

from sealrun.inside import scoring


class Transformers:
    """A causal language model, opened."""

    name = "transformers"
    version = transformers.__version__

    def __init__(self, folder: Path, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            sys.exit("device cuda: torch sees no such device; set certify.device to cpu")
        self.device = device
        self.model, self.alone = open_model(folder, device)

    def logits(self, ids: Any, mask: Any) -> Any:
        """Return floats [texts, tokens, vocabulary]. Raises Unscorable."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and ids.shape[1] > limit:
            raise scoring.Unscorable(f"the runtime refused {ids.shape[1]} tokens of this case")
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            found = self.model(**{name: value.to(self.device) for name, value in given.items()}, use_cache=False)
        return found.logits.float().cpu().numpy()


def open_model(folder: Path, device: str) -> tuple[Any, bool]:
    """Return the model in *folder*, and whether it is quantised. Ends the program when transformers cannot build it."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **offline)
        quantised = getattr(config, "quantization_config", None) is not None
        model, said = transformers.AutoModelForCausalLM.from_pretrained(
            folder, config=config, use_safetensors=True, dtype="auto" if quantised else torch.float32,
            output_loading_info=True, **offline,
        )  # fmt: skip
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as problem:
        sys.exit(f"the checkpoint cannot be opened: {type(problem).__name__}: {problem}")
    for what in ("missing_keys", "mismatched_keys"):
        if said[what]:
            sys.exit(
                f"the checkpoint lacks weights of its own model ({what}: {sorted(map(str, said[what]))[:3]}); export it again"
            )
    return model.eval().to(device), quantised


if __name__ == "__main__":
    scoring.main(lambda job: Transformers(Path(job["model"]).parent, job["device"]), *sys.argv[1:])

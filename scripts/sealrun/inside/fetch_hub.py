"""Fetch the files of a job from a hub into its cache. Runs inside the `fetch` environment, with the network open.

    python fetch_hub.py JOB.json

Rules: one repository at one full revision; the files named and nothing else; a hub that answers with another commit is refused.
"""

import json
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError


def main(job_file: str) -> None:
    """Fetch every file of the job."""
    job = json.loads(Path(job_file).read_bytes())
    for name in job["files"]:
        try:
            path = hf_hub_download(
                job["repository"], name, repo_type=job["kind"], revision=job["revision"], cache_dir=job["cache"],
                library_name="sealrun",
            )  # fmt: skip
        except (OSError, ValueError, HfHubHTTPError) as error:
            sys.exit(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if f"/snapshots/{job['revision']}/" not in path:
            sys.exit(f"{name}: the hub answered with another commit than {job['revision']}")
        print(f"fetched {name}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])

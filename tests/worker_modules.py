"""Prepares a clip in a real decoding worker and prints the modules that the worker has loaded, as a JSON list.

    python tests/worker_modules.py CLIP FOLDER

FOLDER is where two directories in the layout of published encoders are written. Their files of weights are empty, since
a worker reads the settings only.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from jmer.features import worker
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.lite import LiteAudio
from jmer.features.extractor import Extractor
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo


def published(folder: Path, **files: Mapping[str, object]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "model.safetensors").touch()
    return str(folder)


def prepare(clip: Path, extractors: dict[str, Extractor]) -> list[str]:
    """Runs in the worker."""
    for key, prepared in worker.prepare(clip, extractors, max_seconds=None).items():
        assert prepared.payload is not None, f"{key}: {prepared.reason}"
    return sorted(sys.modules)


def main(clip: Path, folder: Path) -> None:
    speech = published(folder / "speech", config={"model_type": "whisper", "num_mel_bins": 80}, preprocessor_config={})
    settings = {"do_resize": True, "size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pictures = published(folder / "pictures", config={"model_type": "vit"}, preprocessor_config=settings)
    extractors = {
        "lite audio": LiteAudio(),
        "lite video": LiteVideo(),
        "published audio": HFAudio(model=speech),
        "published video": HFVideo(model=pictures),
    }
    with worker.pool(1) as pool:
        print(json.dumps(pool.submit(prepare, clip, extractors).result()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

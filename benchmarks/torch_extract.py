"""The rival of extract_speed.py: Hugging Face's PyTorch encoders, as feature extraction scripts use them.

Run by the interpreter that has torch, transformers and soundfile; jmer need not be there. `torch_extract.py JOB.json`
encodes the inputs that the job names, `batch` at a time in the order they come in, in float32 or by autocast in
bfloat16, and prints one JSON line.
"""

# pyright: reportMissingImports=false
# ruff: noqa: E402 (the imports are timed)
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START = time.perf_counter()

import numpy as np
import soundfile
import torch
import transformers as hf

RATE = 16_000


def main(file: str) -> None:
    job = json.loads(Path(file).read_text())
    hf.logging.set_verbosity_error()
    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    if job["kind"] == "make":
        make(Path(job["folder"]), layers=job["layers"])
        return
    encode, inputs = KINDS[job["kind"]](Path(job["model"])), job["inputs"]
    if job["kind"] == "vit":
        inputs = list(np.load(job["inputs"]).values())
    size = job["batch"]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=job["bfloat16"]):
        for _ in range(2):
            encode(inputs[:size])
        begun, cpu = time.perf_counter(), time.process_time()
        vectors = np.concatenate([encode(inputs[i : i + size]) for i in range(0, len(inputs), size)])
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    np.save(job["out"], vectors)
    versions = {"torch": torch.__version__, "transformers": hf.__version__, "python": sys.version.split()[0]}
    print(json.dumps({"start": begun - START, "seconds": seconds, "cpu": cpu, "versions": versions}))


def text(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Means over the tokens."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModel.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def encode(texts: list[str]) -> np.ndarray:
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        states = model(**inputs).last_hidden_state.float()
        return ((states * mask).sum(1) / mask.sum(1)).numpy()

    return encode


def whisper(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Means over the frames of sound. The published code takes 30 s, no less."""
    from safetensors.torch import load_file

    extractor = hf.WhisperFeatureExtractor.from_pretrained(folder)
    model = hf.WhisperModel(hf.WhisperConfig.from_pretrained(folder)).encoder.eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))

    def encode(paths: list[str]) -> np.ndarray:
        waves = read(paths)
        with torch.autocast("cpu", enabled=False):  # the spectrogram cannot be made in bfloat16
            mels = extractor(waves, sampling_rate=RATE, return_tensors="pt").input_features
        states = model(mels).last_hidden_state
        return means(states, [-(-len(wave) // 320) for wave in waves])

    return encode


def wav2vec2(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Means over the frames of sound. As published for the base models: padded with zeros, without a mask."""
    extractor = hf.AutoFeatureExtractor.from_pretrained(folder)
    model = hf.AutoModel.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def encode(paths: list[str]) -> np.ndarray:
        waves = read(paths)
        states = model(extractor(waves, sampling_rate=RATE, padding=True, return_tensors="pt").input_values)[0]
        return means(states, [int(model._get_feat_extract_output_lengths(len(wave))) for wave in waves])

    return encode


def vit(folder: Path) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Means of the first token over the pictures of a clip, `[8, height, width, 3]` uint8 each."""
    model = hf.AutoModel.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def encode(clips: list[np.ndarray]) -> np.ndarray:
        pictures = (torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        firsts = model(pixel_values=pictures).last_hidden_state[:, 0].float()
        return torch.stack([part.mean(0) for part in firsts.split([len(clip) for clip in clips])]).numpy()

    return encode


def read(paths: list[str]) -> list[np.ndarray]:
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def means(states: torch.Tensor, frames: list[int]) -> np.ndarray:
    return torch.stack([row[:count].mean(0) for row, count in zip(states.float(), frames, strict=True)]).numpy()


def make(folder: Path, *, layers: int) -> None:
    """Writes random weights in the published format: wav2vec2-base, cut to some layers, and ViT-base."""
    config = hf.Wav2Vec2Config(num_hidden_layers=layers)
    hf.Wav2Vec2Model(config).save_pretrained(folder / "wav2vec2")
    hf.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder / "wav2vec2")
    hf.ViTModel(hf.ViTConfig()).save_pretrained(folder / "vit")
    processing: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "do_normalize": True}
    processing |= {"size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processing |= {"do_rescale": True, "rescale_factor": 1 / 255, "resample": 2}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(processing))


KINDS: dict[str, Callable[[Path], Callable[[list], np.ndarray]]] = {
    "text": text,
    "whisper": whisper,
    "wav2vec2": wav2vec2,
    "vit": vit,
}

if __name__ == "__main__":
    main(sys.argv[1])

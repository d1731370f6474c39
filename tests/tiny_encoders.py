"""Small encoders with random weights, in directories as Hugging Face's hub has them."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file
from tiny import apply

from jmer.encoders import bert, hub, published, vit, whisper
from jmer.encoders.image import ImageEncoder
from jmer.encoders.layers import Sees
from jmer.encoders.text import TextEncoder, parse_config

WORDS = [*"?!.,", "##s", "##ing", "i", "am", "not", "so", "happy", "sad", "today", "oh", "no", "we", "never", "ever"]
WORDS += ["what", "why", "you", "are", "go", "went"]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def save_bert(folder: Path, *, seed: int = 3, half: bool = False, **config: Any) -> Path:
    """Saves a BERT of two layers with its tokenizer.

    half: the weights are stored in float16.
    """
    folder.mkdir(exist_ok=True, parents=True)
    vocabulary = [*_SPECIAL, *WORDS]
    save_bert_tokenizer(folder, vocabulary)
    given = {"model_type": "bert", **_SIZES, "max_position_embeddings": 50, "vocab_size": len(vocabulary)} | config
    return save_text_weights(folder, given, seed=seed, half=half)


def save_bert_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    """Saves a WordPiece tokenizer, as a tokenizer.json and as a vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "do_lower_case": True}
    config |= {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def save_roberta(folder: Path, *, length: int, positions: int) -> Path:
    """Saves a RoBERTa of one layer, and a tokenizer of words with RoBERTa's special tokens.

    length: the tokenizer's own limit. positions: those of config.json, two more than the model can use.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", model_max_length=length,
    )  # fmt: skip
    fast.save_pretrained(folder)
    config = {"model_type": "roberta", "type_vocab_size": 1, "pad_token_id": 1, "vocab_size": len(vocabulary)}
    sizes = _SIZES | {"num_hidden_layers": 1, "max_position_embeddings": positions}
    return save_text_weights(folder, config | sizes, seed=1)


def save_text_weights(folder: Path, config: dict[str, Any], *, seed: int, half: bool = False) -> Path:
    """Saves a config and random weights of a text encoder."""
    (folder / "config.json").write_text(json.dumps(config))
    made = parse_config(folder)
    one = jnp.zeros((1, 1), jnp.int32)
    layers = (made.num_hidden_layers,)
    network = bert.Bert(config=made)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), one, one, one, Sees(segment=one), layers))
    return _save(folder, variables, seed=seed, half=half)


def save_vit(folder: Path) -> Path:
    """Saves a vision transformer of two layers for pictures of 32 x 32, and its processor's settings."""
    folder.mkdir(exist_ok=True, parents=True)
    sizes: dict[str, Any] = _SIZES | {"hidden_size": 12, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", **sizes}))
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    (folder / "preprocessor_config.json").write_text(
        json.dumps(settings | {"image_processor_type": "ViTImageProcessor"})
    )
    network = vit.ViT(config=vit.ViTConfig(model_type="vit", **sizes))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 3, 32, 32)), (2,)))
    return _save(folder, variables, seed=2)


def save_whisper(folder: Path) -> Path:
    """Saves an encoder of Whisper's kind of two layers, without a tokenizer."""
    folder.mkdir(exist_ok=True, parents=True)
    config = {
        "model_type": "whisper", "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "num_mel_bins": 20, "max_source_positions": 1500,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text("{}")
    network = whisper.Whisper(config=whisper.WhisperConfig(**{k: v for k, v in config.items() if k != "model_type"}))
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 2, 20)), jnp.ones(1, jnp.int32), (2,))
    )
    return _save(folder, shapes, seed=4)


def run(network: nn.Module, variables: Any, *inputs: Any) -> Any:
    """Runs a network on arrays of numpy."""
    return apply(network, variables, *jax.tree.map(jnp.asarray, inputs[:-1]), inputs[-1])


def text_states(folder: Path, texts: list, *, limit: int = 50, layer: int = -1) -> list[np.ndarray]:
    """Runs the network in the plain way: one text or pair at a time, without padding or jit."""
    from transformers import AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), TextEncoder(str(folder))
    found = []
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        inputs = tokenizer(*pair, return_tensors="np", truncation=True, max_length=limit)
        ids = np.asarray(inputs["input_ids"], np.int32)
        kind = np.asarray(inputs.get("token_type_ids", np.zeros_like(ids)), np.int32)
        position = np.arange(ids.shape[1], dtype=np.int32)[None]
        layers = tuple(range(encoder.layers + 1))
        sees = Sees(segment=np.ones_like(ids))
        states = run(encoder.network, encoder.params(encoder.layers), ids, position, kind, sees, layers)
        found.append(np.asarray(states[layer][0]))
    return found


def image_states(folder: Path, pixels: np.ndarray, *, layer: int) -> np.ndarray:
    """Runs a vision transformer without jit: `[K, 3, height, width]` -> `[K, T, D]`."""
    encoder = ImageEncoder(str(folder))
    return np.asarray(run(encoder.network, encoder.params(encoder.layers), pixels, (layer,))[0])


def _save(folder: Path, variables: Any, *, seed: int, half: bool = False) -> Path:
    rng, tensors = np.random.default_rng(seed), {}
    for name, (path, shape) in published.named(variables["params"]).items():
        size = shape.shape[::-1] if path[-1] == "kernel" and len(shape.shape) <= 3 else shape.shape
        x = rng.normal(0, 0.3 if len(size) > 1 else 0.1, size) + (path[-1] == "scale")
        tensors[name] = x.astype(np.float16).astype(np.float16 if half else np.float32)
    assert hub.WEIGHTS[1] == "model.safetensors"
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

"""Audio features by an encoder that `jmer.finetune` left: its weights, or adapters beside a public encoder."""

from dataclasses import dataclass
from pathlib import Path

from jmer.encoders import opened
from jmer.features.audio.encoder import HFAudio


@dataclass(frozen=True, kw_only=True)
class TunedAudio(HFAudio):
    """The hidden state of a fine-tuned encoder that its head reads, pooled over the frames."""

    kind = "tuned"
    version = 1
    named_by = "a directory that jmer.finetune left"

    @classmethod
    def reads(cls, model: str) -> bool:
        return (Path(model).expanduser() / opened.NOTE).is_file()

"""MELD, text: an encoder is fine-tuned on whole dialogues; five seeds, of which the best on dev is kept.

    python -m jmer.finetune --config configs/meld/tuned.py --config.root=data/MELD.Raw

The mean over the seeds is a dev weighted F1 of .584 +- .004 and a macro-F1 of .444 +- .008. A seed takes 6 minutes on
2 cores.
"""

from jmer.config import Config, tuned_text


def get_config() -> Config:
    config = tuned_text()
    config.source = "meld"
    config.seeds = 5
    return config

"""Dialogues as the inputs of an exported program."""

from typing import Any

import numpy as np
import tiny

from jmer.base.types import Features

LENGTHS = [1, 100, *range(2, 98, 2)]  # of 50 dialogues


def arrays(dialogues: list[Features], *, sequences: bool = False) -> dict[str, np.ndarray]:
    """Inputs of the program: a row a dialogue, and anything where something is absent."""
    longest = max(map(len, dialogues))

    def rows(values, fill, shape=(), dtype: Any = np.float32):
        made = np.full((len(dialogues), longest, *shape), fill, dtype)
        for row, value in zip(made, values, strict=True):
            row[: len(value)] = value
        return made

    given = {
        "mask": rows([np.ones(len(d), bool) for d in dialogues], False, dtype=bool),
        "speaker": rows([[d.speakers.index(s) for s in d.speakers] for d in dialogues], 7, dtype=np.int32),
    }
    for m, dim in tiny.DIMS.items():
        given[m] = rows([np.where(d.present[m][:, None], d.values[m], np.nan) for d in dialogues], np.nan, (dim,))
        given[f"{m}_present"] = rows([d.present[m] for d in dialogues], True, dtype=bool)
    for m, dim in tiny.SEQUENCE_DIMS.items() if sequences else ():
        frames = np.full((len(dialogues), longest, 5, dim), np.nan, np.float16)
        mask = np.zeros(frames.shape[:3], bool)
        for i, d in enumerate(dialogues):
            for u, sequence in enumerate(d.sequences[m]):
                frames[i, u, : len(sequence)], mask[i, u, : len(sequence)] = sequence, True
        given |= {f"{m}_frames": frames, f"{m}_frame_mask": mask}
    return given

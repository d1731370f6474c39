"""The card of an exported model: what it predicts, what it was trained on, and how it scores, as Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jmer.base.errors import UserError
from jmer.runs.directory import Run
from jmer.training.metrics import SCORES

_LICENCE = """\
## Licence

jmer does not know under which licences this model may be used. Whoever publishes it fills these in:

| of | licence |
|---|---|
| the model | to be filled in |
| the data that it was trained on | to be filled in |
| the encoders that its features come from | to be filled in |
"""


def text_of(run: Run, *, files: Mapping[str, str], size: int) -> str:
    """Returns the card.

    Args:
      files: the name of each file of the export -> what it holds.
      size: how many parameters one seed and epoch has.

    Raises:
      UserError: scores in the run's directory are damaged.
    """
    o, inputs = run.options, run.inputs
    modalities = [
        f"| {name} | {m.dim} | {m.extractor.get('kind', '')} | {_of(m.extractor)} | `{m.fingerprint[:16]}` |"
        for name, m in inputs.modalities.items()
    ]
    parts = [
        f"# Emotions of utterances from {_listed(list(inputs.modalities))}",
        f"This model gives every utterance of a dialogue the probability of each of {len(inputs.labels)} labels: "
        f"{', '.join(inputs.labels)}. It was trained and exported by jmer, and reads these features:",
        _table(["modality", "features", "extractor", "model", "fingerprint"], modalities),
        "## Use",
        _use(run),
        "## Training",
        f"The model was trained on the dataset `{Path(o.dataset).name or 'of the embedded sample'}` (fingerprint "
        f"`{inputs.dataset_fingerprint[:16]}`), with {o.seeds} {'seed' if o.seeds == 1 else 'seeds'} of {size:,} "
        f"parameters each. {_epochs(run)} {_temperatures(run)} Every option is in `config.json`.",
        "## Scores",
        _scores(run),
        _LICENCE.rstrip(),
        "## Files",
        _table(["file", "holds"], [f"| `{name}` | {holds} |" for name, holds in files.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _use(run: Run) -> str:
    given = '"I just got the job!"' if "text" in run.inputs.modalities else '[{"clip": "talk.mp4"}]'
    load = 'predictor = jmer.load("DIR")  # the path of this folder'
    return f"```python\nimport jmer\n\n{load}\nprint(predictor.predict({given})[0].probs)\n```"


def _of(extractor: Mapping[str, Any]) -> str:
    """Returns the name of the encoder that an extractor runs, without the folder in which it lay, and its hash."""
    model = Path(str(extractor.get("options", {}).get("model", ""))).name
    return " ".join([*([model] if model else []), *([f"`{w[:16]}`"] if (w := extractor.get("weights")) else [])]) or "-"


def _epochs(run: Run) -> str:
    by = "the best on dev by weighted F1" if run.options.choose == "best" else "the last ones"
    kept = ["; ".join(str(epoch) for epoch in sorted(set(each) - {0})) for each in run.progress.best_epoch]
    return f"Of {run.progress.epoch} epochs, those that are kept are {by}: {', '.join(kept)} (one entry a seed)."


def _temperatures(run: Run) -> str:
    if not run.directory.calibration.is_file():
        return "The probabilities are not calibrated."
    seeds = ", ".join(f"{t:.3f}" for t in run.calibration.seeds)
    return (
        f"The probabilities are calibrated on dev: their temperature is {seeds} by seed, and "
        f"{run.calibration.vote:.3f} for the vote of all seeds."
    )


def _scores(run: Run) -> str:
    if not (folders := run.directory.evaluations()):
        return "This run had not been evaluated when it was exported."
    rows = []
    for folder in folders:
        try:
            found = json.loads((folder / "metrics.json").read_bytes())
            figures = [f"{found[name]['mean']:.3f} ± {found[name]['std']:.3f}" for name in SCORES]
            rows.append(f"| {folder.name} | {found['n']} | {Path(found['dataset']).name} | {' | '.join(figures)} |")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / 'metrics.json'} is damaged ({error}); evaluate the run again") from error
    heads = ["split", "utterances", "dataset", *(name.replace("_", " ").replace("f1", "F1") for name in SCORES)]
    note = "Each is the mean over the seeds with its standard deviation; a split ending in `-vote` is their vote."
    return f"{note}\n\n{_table(heads, rows)}"


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *rows])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

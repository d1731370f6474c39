"""The layout of a run directory.

    config.json        every option, as it was when the run was last trained
    features.json      format of the run, labels, fingerprint of the dataset; dim, extractor and fingerprint of each
                       modality that the model reads; D' of each sequence that it reads; whether it is calibrated
    environment.json   versions, devices, git revision, fingerprint of the dataset, whether the data was streamed
    classes.json       how often each class occurs, how often it is drawn, and what it weighs
    metrics.jsonl      one line an epoch and seed
    tensorboard/       the same figures as TensorBoard events
    calibration.json   the temperatures of the seeds and of their vote; absent until training ends
    diverged.json      each time training stopped because parameters were not finite; absent where it never did
    checkpoints/       Orbax checkpoints, with hashes
    eval/SPLIT/        the files that jmer.evaluate writes; eval/SPLIT-vote/ for a vote

A folder that jmer.export writes is a run directory too, and is opened as one. It has no log, and instead of the
checkpoints that training goes on from it holds

    export.json        the hash of every file but the card, which epochs are kept, and how far training was
    model.safetensors  parameters and statistics; or `checkpoints/` with an Orbax checkpoint of them alone
    README.md          the card
    model.stablehlo    the model as a program, where that was asked for
    stablehlo.json     the inputs and outputs of that program
    model.onnx         the model as an ONNX file, where that was asked for
    onnx.json          the inputs and outputs of that file

The directory of a cross-validation holds `folds/N/`, each the directory of a run, and the scores of all in `eval/cv/`.

Only this module knows these names.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The files of one run, whether they exist yet or not."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def features(self) -> Path:
        return self.path / "features.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def classes(self) -> Path:
        return self.path / "classes.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def diverged(self) -> Path:
        return self.path / "diverged.json"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def exported(self) -> Path:
        return self.path / "export.json"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def stablehlo(self) -> Path:
        return self.path / "model.stablehlo"

    @property
    def stablehlo_inputs(self) -> Path:
        return self.path / "stablehlo.json"

    @property
    def onnx(self) -> Path:
        return self.path / "model.onnx"

    @property
    def onnx_inputs(self) -> Path:
        return self.path / "onnx.json"

    def fold_path(self, number: int) -> Path:
        """Returns the directory of a fold of a cross-validation."""
        return self.path / "folds" / str(number)

    def evaluation(self, split: str, *, vote: bool) -> Path:
        """Returns the folder for the scores of a split."""
        return self.path / "eval" / (f"{split}-vote" if vote else split)

    def evaluations(self) -> list[Path]:
        """Returns the folders that hold the scores of a split, sorted by name."""
        return sorted(path for path in (self.path / "eval").glob("*") if (path / "metrics.json").is_file())

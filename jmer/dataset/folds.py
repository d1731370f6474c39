"""Folds for cross-validation: the dialogues of a dataset, or of a corpus, in new splits."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold

from jmer.base.errors import UserError
from jmer.base.types import Corpus
from jmer.dataset.store import Dataset


def fold_of(dataset: Dataset, number: int, *, by: str, count: int, dev: bool) -> Dataset:
    """Returns the dataset with the dialogues of one fold in `test` and all others in `train`.

    All dialogues that have a label take part, whatever splits they are stored in. Folds have about equally many
    utterances. Augmented views are those of the dialogues in `train`. A dialogue that was stored in another split has
    no views, and stands for its own.

    Args:
      number: of the fold, from 0.
      by: `speaker`, where no speaker is in two folds, or `dialogue`. Speakers of one name are one speaker.
      count: how many folds there are.
      dev: the next fold becomes `dev`, to choose the epoch on, and is not in `train`.

    Raises:
      UserError: there are too few speakers or dialogues.
    """
    speakers = dataset.labelled
    splits = _splits(list(speakers.values()), number, by=by, count=count, dev=dev, where=str(dataset.path))
    members = {
        name: [place for place, split in zip(speakers, splits, strict=True) if split == name]
        for name in dict.fromkeys(splits)
    }
    sizes = {
        name: {"dialogues": len(places), "utterances": sum(len(speakers[place]) for place in places)}
        for name, places in members.items()
    }
    for view in dataset.views:
        members[view] = [(view if split == "train" else split, i) for split, i in members["train"]]
        sizes[view] = sizes["train"]
    return replace(dataset, members=members, manifest={**dataset.manifest, "splits": sizes})


def fold_of_corpus(corpus: Corpus, number: int, *, by: str, count: int, dev: bool) -> Corpus:
    """Returns the corpus divided as `fold_of` divides the dataset that is extracted from it.

    Raises:
      UserError: there are too few speakers or dialogues.
    """
    found = [
        dialogue
        for dialogues in corpus.splits.values()
        for dialogue in dialogues
        if any(u.label is not None for u in dialogue.utterances)
    ]
    speakers = [tuple(u.speaker for u in dialogue.utterances) for dialogue in found]
    splits = _splits(speakers, number, by=by, count=count, dev=dev, where=corpus.name)
    members = {
        name: tuple(dialogue for dialogue, split in zip(found, splits, strict=True) if split == name)
        for name in dict.fromkeys(splits)
    }
    return replace(corpus, splits=members)


def _splits(speakers: Sequence[Sequence[str]], number: int, *, by: str, count: int, dev: bool, where: str) -> list[str]:
    """Returns the split of each dialogue, given the speakers of its utterances; the arguments are those of `fold_of`.

    where: what is divided, for messages.
    """
    fold = _folds(speakers, by=by, count=count, where=where)
    names = np.full(count, "train", object)
    names[(number + 1) % count] = "dev" if dev else "train"
    names[number] = "test"
    return names[fold].tolist()


def _folds(speakers: Sequence[Sequence[str]], *, by: str, count: int, where: str) -> np.ndarray:
    """Returns the fold of each dialogue."""
    total = len(speakers)
    group = _groups(speakers) if by == "speaker" else np.arange(total)
    groups = len(np.unique(group))
    if groups < count:
        raise UserError(
            f"{where}: config.folds is {count}, but only {groups} "
            + (
                "groups of dialogues have no speaker in common; take fewer folds, or --config.cv=dialogue"
                if by == "speaker"
                else "dialogues have a label; take fewer folds"
            )
        )
    utterance = np.repeat(np.arange(total), list(map(len, speakers)))
    fold = np.empty(total, int)
    for number, (_, test) in enumerate(GroupKFold(count).split(utterance, groups=group[utterance])):
        fold[utterance[test]] = number
    return fold


def _groups(speakers: Sequence[Collection[str]]) -> np.ndarray:
    """Returns the group of each dialogue: those that share a speaker, directly or by way of others, are one group."""
    total = len(speakers)
    number = {name: total + i for i, name in enumerate(dict.fromkeys(name for each in speakers for name in each))}
    edges = np.array([(i, number[name]) for i, each in enumerate(speakers) for name in set(each)]).reshape(-1, 2)
    size = total + len(number)
    graph = coo_matrix((np.ones(len(edges)), tuple(edges.T)), shape=(size, size))
    return connected_components(graph, directed=False)[1][:total]

from collections.abc import Iterable
from pathlib import Path

import pytest
from meld_archive import HEADER
from meld_archive import Row as Line

from jmer.base.errors import UserError
from jmer.base.labels import SENTIMENTS
from jmer.base.types import Corpus, Utterance
from jmer.corpora import csvfile, meld, sample


def write_csv(path: Path, lines: Iterable[Line], *, encoding: str = "utf-8", header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([header, *map(str, lines), ""]).encode(encoding))
    return path


def write_clips(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def load_train(root: Path, *lines: Line, **options: str) -> Corpus:
    write_csv(root / "train_sent_emo.csv", lines, **options)
    return meld.load(root)


def utterances(corpus: Corpus, split: str = "train") -> dict[str, Utterance]:
    return {entry.id: entry for dialogue in corpus.splits[split] for entry in dialogue.utterances}


def note(corpus: Corpus, *words: str) -> str:
    """Returns the note that holds all of `words`; there must be exactly one."""
    (found,) = [note for note in corpus.notes if all(word in note for word in words)]
    return found


def test_reads_rows(tmp_path: Path):
    corpus = load_train(
        tmp_path,
        Line(number=1, text="Oh, no!", speaker="Rachel", emotion="sadness"),
        Line(number=0, text='He said ""hi""', start="0:00:59,9", end="0:01:00,0"),
        Line(dialogue=1, emotion="surprise"),
    )

    assert corpus.name == "meld"
    assert corpus.labels == ("neutral", "joy", "anger", "disgust", "sadness", "fear", "surprise")
    assert [dialogue.id for dialogue in corpus.splits["train"]] == ["dia0", "dia1"]
    first, second = corpus.splits["train"][0].utterances
    assert first.text == 'He said "hi"'
    assert (first.id, second.id) == ("dia0_utt0", "dia0_utt1"), "in the order of the ids"
    assert (second.text, second.speaker, second.label) == ("Oh, no!", "Rachel", "sadness")
    assert (second.clip, second.notes) == (None, ())
    assert second.max_seconds == pytest.approx(2 * 2.5 + 10)
    assert first.max_seconds == pytest.approx(2 * 0.1 + 10)
    assert list(corpus.splits) == ["train"]
    assert note(corpus, "no test_sent_emo.csv")
    assert note(corpus, "only text")


def test_sentiments(tmp_path: Path):
    lines = [Line(number=i, sentiment=name) for i, name in enumerate(["negative", "Neutral", "POSITIVE", ""])]
    assert [row.sentiment for row in utterances(load_train(tmp_path, *lines)).values()] == [*SENTIMENTS, None]
    absent = load_train(tmp_path, Line(), header=HEADER.replace("Sentiment", "Mood"))
    assert utterances(absent)["dia0_utt0"].sentiment is None


@pytest.mark.parametrize("csv_below", [False, True])
@pytest.mark.parametrize("clips_below", [False, True])
def test_finds_both_layouts(tmp_path: Path, csv_below: bool, clips_below: bool):
    for split, folder in meld.CLIP_FOLDERS.items():
        below = tmp_path / split
        write_csv((below if csv_below else tmp_path) / f"{split}_sent_emo.csv", [Line()])
        write_clips((below if clips_below else tmp_path) / folder, ["dia0_utt0.mp4"])

    corpus = meld.load(tmp_path)

    assert list(corpus.splits) == ["train", "dev", "test"]
    for split in corpus.splits:
        clip = utterances(corpus, split)["dia0_utt0"].clip
        assert clip is not None
        assert clip.exists()
        assert split in clip.parts or not clips_below
    assert [text for text in corpus.notes if "occur in several splits" not in text] == []


def test_clips_missing_and_stray(tmp_path: Path):
    write_csv(tmp_path / "train_sent_emo.csv", [Line()])
    write_csv(tmp_path / "dev_sent_emo.csv", [Line(number=6), Line(number=7)])
    write_csv(tmp_path / "test_sent_emo.csv", [Line()])
    stray = [f"final_videos_testdia{number}_utt0.mp4" for number in range(9)]
    write_clips(tmp_path / "dev_splits_complete", ["dia0_utt6.mp4"])
    write_clips(tmp_path / "output_repeated_splits_test", ["dia0_utt0.mp4", "._dia0_utt0.mp4", *stray])

    corpus = meld.load(tmp_path)

    dev = utterances(corpus, "dev")
    assert dev["dia0_utt6"].clip == tmp_path / "dev_splits_complete/dia0_utt6.mp4"
    assert dev["dia0_utt7"].clip is None
    assert dev["dia0_utt7"].missing_clip == "dia0_utt7.mp4"
    assert note(corpus, "dev", "1 of 2 clips are missing")
    assert note(corpus, "test", "10 files", "._dia0_utt0.mp4, final_videos_testdia0_utt0.mp4", "and 5 more")
    assert note(corpus, "train", "no clip folder train_splits")
    assert utterances(corpus)["dia0_utt0"].missing_clip == "", "a split without clips is no fault of its rows"


def test_ids_with_gaps(tmp_path: Path):
    write_csv(tmp_path / "dev_sent_emo.csv", [Line(dialogue=2), Line(dialogue=5)])
    corpus = load_train(tmp_path, Line(dialogue=0), Line(dialogue=2, number=0), Line(dialogue=2, number=3))

    assert note(corpus, "train", "dialogue ids skip dia1")
    assert note(corpus, "train", "utterance ids skip numbers in 1 dialogues (dia2)")
    assert note(corpus, "dev", "dialogue ids skip dia0, dia1, dia3, dia4")
    assert note(corpus, "1 dialogue ids occur in several splits")
    assert [len(dialogue.utterances) for dialogue in corpus.splits["train"]] == [1, 2]


def test_times_not_to_be_believed(tmp_path: Path):
    corpus = load_train(
        tmp_path,
        Line(number=0, start="00:10:00,000", end="00:09:58,000"),
        Line(number=1, start="00:10:00,000", end="00:15:05,000"),
        Line(number=2, start="00:10:00,000", end="00:10:41,040"),
        Line(number=3, start="", end="soon"),
        Line(number=4, start="00:59:59,500", end="01:00:01,250"),
    )

    rows = list(utterances(corpus).values())
    assert [row.max_seconds for row in rows] == [60, 60, 92.08, 60, 13.5]
    assert [bool(row.notes) for row in rows] == [True, True, False, True, False]
    assert "ends before it starts" in rows[0].notes[0]
    assert "305 s" in rows[1].notes[0]
    assert {row.label for row in rows} == {"joy"}, "labels stay"


def test_damaged_quotes(tmp_path: Path):
    corpus = load_train(
        tmp_path,
        Line(number=0, text="it\x92s \x93fine\x94\x85"),
        Line(number=1, text="itâ€™s â€œfineâ€\x9d"),
        Line(number=2, text="it’s “fine” – déjà vu…"),
    )

    texts = [row.text for row in utterances(corpus).values()]
    assert texts == ["it’s “fine”…", "it’s “fine”", "it’s “fine” – déjà vu…"]
    assert note(corpus, "repaired in 2 rows")


def test_bytes_that_are_cp1252(tmp_path: Path):
    corpus = load_train(tmp_path, Line(text="it’s déjà vu…"), Line(number=1), encoding="cp1252")
    assert utterances(corpus)["dia0_utt0"].text == "it’s déjà vu…"
    assert note(corpus, "1 lines of train_sent_emo.csv are not UTF-8")

    path = tmp_path / "train_sent_emo.csv"  # a mixture: a line in each encoding, and one in both
    lines = [HEADER.encode(), str(Line(text="it’s")).encode(), str(Line(number=1, text="it’s")).encode("cp1252")]
    lines.append(str(Line(number=2, text="é @")).encode().replace(b"@", b"\x92"))
    path.write_bytes(b"\r\n".join(lines))
    assert [row.text for row in utterances(meld.load(tmp_path)).values()] == ["it’s", "it’s", "é ’"]


def test_byte_order_mark(tmp_path: Path):
    header = HEADER.replace("Sr No.,Utterance", "Utterance")
    path = write_csv(tmp_path / "train_sent_emo.csv", [], encoding="utf-8-sig", header=header)
    path.write_bytes(path.read_bytes() + str(Line(text="Hé")).removeprefix("1,").encode())

    assert utterances(meld.load(tmp_path))["dia0_utt0"].text == "Hé"


INTACT = [
    "I’m “fine” — ‘really’… naïve café, Ñandú, Größe, São",
    "“MENÜ”",
    "MAÇÃ»",
    "Â",
    "Ã",
    "fiancé…”",
    "â€",
    "âge, pâte",
    "日本語 😂 Привет",
    "5 € ™",
    "line\nbreak\u2028end",
]


@pytest.mark.parametrize("text", INTACT)
def test_intact_text_is_left_alone(text: str):
    assert csvfile.repair(text) == text


@pytest.mark.parametrize("text", ["it’s “so” – odd…", "café à Zoë", "😂 ha", "£5", "a\xa0b", "‘x’ — y"])
@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_mojibake_is_undone(text: str, wrong: str):
    damaged = "".join(
        bytes([byte]).decode(wrong) if wrong == "latin-1" or byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
        for byte in text.encode()
    )
    assert damaged != text
    assert csvfile.repair(damaged) == text
    assert csvfile.repair(csvfile.repair(damaged)) == text


def test_errors_name_the_place(tmp_path: Path):
    def fails(*words: str) -> None:
        with pytest.raises(UserError) as caught:
            meld.load(tmp_path)
        message = str(caught.value)
        assert "\n" not in message
        for word in words:
            assert word in message

    fails(str(tmp_path), "train_sent_emo.csv", "--config.root", "fetch MELD")
    path = tmp_path / "train_sent_emo.csv"
    write_csv(path, [Line(), Line(number=1), Line(number=0)])
    fails(f"{path}:4", "dia0_utt0", f"{path}:2")
    write_csv(path, [Line(), Line(number=1, emotion="joyful")])
    fails(f"{path}:3", "'joyful'", "did you mean 'joy'?")
    write_csv(path, [Line(), Line(number=1, emotion="bored")])
    fails(f"{path}:3", "'bored'", "read a corpus with other labels by --config.source=table")
    write_csv(path, [Line(), Line(number=1, sentiment="meh")])
    fails(f"{path}:3", "Sentiment is 'meh'", "expected negative, neutral, positive or nothing")
    write_csv(path, [Line()], header=HEADER.replace("Emotion", "Feeling").replace("EndTime", "End"))
    fails(str(path), "columns Emotion, EndTime", "found: Sr No., Utterance, Speaker, Feeling")
    path.write_text(HEADER + '\n1,"open,Ross,joy,positive,0,0,1,1,"00:00:01,0","00:00:02,0"\n')
    fails(f"{path}:2", "not well-formed", "quotes")
    path.write_text(HEADER + "\n1,a,b,Ross,joy,positive,0,0,1,1,x,y\n")
    fails(f"{path}:2", "12 cells", "11")
    path.write_text(HEADER + "\n1,a,Ross,joy,positive,zero,0,1,1,x,y\n")
    fails(f"{path}:2", "Dialogue_ID", "'zero'")
    path.write_text(HEADER + "\n")
    fails(str(path), "no rows")
    path.write_text("")
    fails(str(path), "empty")
    path.write_text(HEADER, encoding="utf-16")
    fails(str(path), "UTF-16")


def test_real_meld(shared: Path):
    corpus = meld.load(shared / "datasets/meld")

    train, dev = corpus.splits["train"], corpus.splits["dev"]
    assert (len(train), len(utterances(corpus))) == (1038, 9989)
    assert (len(dev), len(utterances(corpus, "dev"))) == (114, 1109)
    assert max(len(dialogue.utterances) for dialogue in train) == 24
    assert note(corpus, "train: dialogue ids skip dia60")
    assert note(corpus, "train: utterance ids skip numbers in 72 dialogues (dia1, dia3,")
    assert note(corpus, "dev: utterance ids skip numbers in 2 dialogues (dia49, dia66)")
    assert not [text for text in corpus.notes if "repaired" in text], "this copy's quotes are intact"
    rows = [*utterances(corpus).values(), *utterances(corpus, "dev").values()]
    assert not [row for row in rows if row.notes]
    assert max(row.max_seconds or 0 for row in rows) == pytest.approx(2 * 41.04 + 10)
    assert {row.sentiment for row in rows} == set(SENTIMENTS)
    counts = {label: sum(row.label == label for row in utterances(corpus).values()) for label in corpus.labels}
    assert (counts["disgust"], counts["sadness"], counts["fear"]) == (271, 683, 268)


def test_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_csv(tmp_path / "data/sample/train_sent_emo.csv", [Line()])
    corpus = sample.load(tmp_path / "data/sample")
    assert (corpus.name, len(utterances(corpus))) == ("sample", 1)

    monkeypatch.chdir(tmp_path)  # the corpus that comes with jmer is found from any folder
    assert len(utterances(sample.load())) > 100
    with pytest.raises(UserError, match=r"leave --config\.root out to take the corpus that comes with jmer"):
        sample.load(tmp_path)


def test_inventory(tmp_path: Path):
    assert meld.lacking(tmp_path) == (
        *(f"{split}_sent_emo.csv" for split in ("train", "dev", "test")),
        *meld.CLIP_FOLDERS.values(),
    )
    write_csv(tmp_path / "train_sent_emo.csv", [Line(), Line(number=1)])
    write_csv(tmp_path / "dev/dev_sent_emo.csv", [Line(number=3), Line(number=2)])
    write_csv(tmp_path / "test_sent_emo.csv", [Line()])
    write_clips(tmp_path / "train_splits", ["dia0_utt1.mp4", "dia0_utt1.mp3", "notes"])
    write_clips(tmp_path / "test/output_repeated_splits_test", ["dia0_utt0.mp4"])
    assert meld.lacking(tmp_path) == ("dev_splits_complete",)

    train, dev, test = meld.inventory(tmp_path)
    assert train == meld.Inventory(split="train", rows=2, missing=("dia0_utt0.mp4",), stray=("dia0_utt1.mp3", "notes"))
    assert dev == meld.Inventory(split="dev", rows=2, missing=("dia0_utt2.mp4", "dia0_utt3.mp4"), stray=())
    assert test == meld.Inventory(split="test", rows=1, missing=(), stray=())

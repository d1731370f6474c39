"""Word vectors from their files."""

from pathlib import Path

import numpy as np
import pytest

from jmer.base.errors import UserError
from jmer.base.types import Turn
from jmer.features import registry
from jmer.features.text.glove import Glove, tokens

WORDS = ["do", "n't", "i", "love", "it", "'s", ".", "...", "!", "café", "well-known"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 4)).round(5).astype(np.float32)


@pytest.fixture(params=["plain.txt", "counted.txt", "arrays.npz"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".npz":
        np.savez(path, words=np.array(WORDS), vectors=VECTORS)
    else:
        head = [f"{len(WORDS)} 4"] if path.stem == "counted" else []
        lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, VECTORS, strict=True)]
        path.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
    return path


def test_words_as_glove_has_them():
    assert tokens("I don't love it... It's well-known!") == [
        *("i", "do", "n't", "love", "it", "...", "it", "'s", "well-known", "!"),
    ]
    assert tokens("We’re 20% off, U.S. café") == ["we", "'re", "20", "%", "off", ",", "u.s", ".", "café"]


def test_pooled_vectors_of_the_known_words(file: Path):
    glove = Glove(model=str(file), pooling="mean,std", sequence_frames=4)
    assert (glove.dim, glove.frame_dim) == (8, 4)
    prepared = [glove.prepare([Turn("a", "zzz"), Turn("b", text)]) for text in ("I don't love Paris", "Café!", "zzz")]
    assert (prepared[2].payload, prepared[2].status) == (None, "degraded")
    encoded = glove.encode([p.payload for p in prepared[:2]])
    for row, words in zip(encoded, (["i", "do", "n't", "love"], ["café", "!"]), strict=True):
        vectors = np.stack([VECTORS[WORDS.index(word)] for word in words])
        np.testing.assert_allclose(row.vector, np.concatenate([vectors.mean(axis=0), vectors.std(axis=0)]), atol=1e-6)
        np.testing.assert_allclose(np.asarray(row.sequence), vectors, atol=1e-3)


def test_a_file_is_chosen_by_its_name_and_known_by_its_content(file: Path):
    glove = registry.from_options("text", registry.options_of("text")(model=str(file)), sequence_frames=0)
    assert isinstance(glove, Glove)
    assert registry.build(glove.spec) == glove
    file.write_bytes(file.read_bytes() + b"new 1 2 3 4\n")
    with pytest.raises(UserError, match="have changed since the features were made"):
        registry.build(glove.spec)


def test_files_that_are_no_vectors(tmp_path: Path):
    for name, content in [("a.txt", b""), ("b.txt", b"word\n"), ("c.txt", b"a x y\nb 1 2\n"), ("d.npz", b"no")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} holds no word vectors"):
            _ = Glove(model=str(tmp_path / name)).dim
    np.savez(tmp_path / "e.npz", words=np.array(["a"]), vectors=VECTORS)
    with pytest.raises(UserError, match="do not fit"):
        _ = Glove(model=str(tmp_path / "e.npz")).dim
    with pytest.raises(UserError, match=r"there is no file .*f.txt"):
        _ = Glove(model=str(tmp_path / "f.txt")).dim
    (tmp_path / "g.txt").write_text("a 1 2\nb 1 2 3\n")
    glove = Glove(model=str(tmp_path / "g.txt"))
    with pytest.raises(UserError, match="'b' has 3 figures, others have 2"):
        glove.encode([["b"]])


@pytest.mark.parametrize(
    ("figure", "message"), [("x", "a figure of 'b' is no number"), ("nan", "'b' is NaN or infinite")]
)
def test_a_later_line_with_a_wrong_figure(tmp_path, figure, message):
    (tmp_path / "w.txt").write_text(f"a 1 2\nb 1 {figure}\n")
    glove = Glove(model=str(tmp_path / "w.txt"))
    assert glove.dim == 2
    with pytest.raises(UserError, match=message):
        glove.encode([["b"]])

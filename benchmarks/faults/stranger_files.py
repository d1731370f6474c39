"""The files of `strangers.py` that could do harm: pickles under other names, and headers that lie."""

import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgpack import ExtType, packb

from benchmarks.faults.stranger_scene import Scene, Trap, adapters, bert, case, encoder, ready, words
from jmer.features import readyfile
from jmer.features.video.embedding import OnnxVideo

# ---- pickles ---------------------------------------------------------------------------------------------------------


def pickle_case(name: str, file: str, open_it: Callable[[Path], Callable[[], object]], *, says: str) -> None:
    """Adds a case of a file that is a pickle under another suffix."""

    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        (scene.folder / file).write_bytes(scene.pickled)
        return open_it(scene.folder / file)


for suffix in readyfile.SUFFIXES:
    pickle_case(f"a pickle named {suffix}, as ready features", f"f{suffix}", ready, says=rf"f{suffix}")
for suffix in (".npz", ".txt"):
    pickle_case(f"a pickle named {suffix}, as word vectors", f"w{suffix}", words, says=rf"w{suffix} holds no word vec")
pickle_case("a pickle named .onnx", "f.onnx", lambda f: lambda: OnnxVideo(model=str(f)).dim, says=r"f\.onnx")


def weights_case(name: str, file: str, content: Callable[[Scene], bytes], *, says: str, tensors: bool = False) -> None:
    """Adds a case of one file of an encoder. tensors: whether the weights themselves stay."""

    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        folder = bert(scene)
        if not tensors:
            (folder / "model.safetensors").unlink()
        (folder / file).write_bytes(content(scene))
        return encoder(folder)


def pickled(scene: Scene) -> bytes:
    return scene.pickled


weights_case("an encoder as a pickle", "pytorch_model.bin", pickled, says="has only pytorch_model.bin; expected")
weights_case("a pickle named .safetensors", "model.safetensors", pickled, says=r"model\.safetensors cannot be read")
weights_case("a pickle named .msgpack", "flax_model.msgpack", pickled, says=r"flax_model\.msgpack cannot be read")
weights_case("a pickle as index of shards", "model.safetensors.index.json", pickled, says=r"index\.json cannot be read")
weights_case("a pickle as config.json", "config.json", pickled, says=r"config\.json cannot be read", tensors=True)
weights_case("a pickle as tokenizer.json", "tokenizer.json", pickled, says="cannot be loaded", tensors=True)
weights_case("a pickle beside good weights", "pytorch_model.bin", pickled, says="", tensors=True)


@case("objects in an npz of ready features", says=r"f\.npz, array 'a_1': cannot be read \(Object arrays")
def _objects(scene: Scene) -> Callable[[], object]:
    np.savez(scene.folder / "f.npz", a_1=np.array([Trap(scene.trace)], object))
    return ready(scene.folder / "f.npz")


def words_case(name: str, arrays: Callable[[Scene], Mapping[str, Any]], *, says: str) -> None:
    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        np.savez(scene.folder / "w.npz", **arrays(scene))
        return words(scene.folder / "w.npz")


NO_WORDS = r"w\.npz holds no word vectors"
HELLO = np.array(["hello"])
words_case(
    "objects among word vectors", lambda s: {"words": HELLO, "vectors": np.array([[Trap(s.trace)]])}, says=NO_WORDS
)
words_case(
    "objects among words", lambda s: {"words": np.array([Trap(s.trace)]), "vectors": np.ones((1, 2))}, says=NO_WORDS
)


@case("an array of objects, by itself, as word vectors", says=NO_WORDS)
def _npy(scene: Scene) -> Callable[[], object]:
    np.save(scene.folder / "w.npy", np.array([Trap(scene.trace)]), allow_pickle=True)
    return words((scene.folder / "w.npy").rename(scene.folder / "w.npz"))


@case("a numpy array by itself as word vectors", says=NO_WORDS)
def _plain_npy(scene: Scene) -> Callable[[], object]:
    np.save(scene.folder / "w.npy", np.ones((2, 2)))
    return words((scene.folder / "w.npy").rename(scene.folder / "w.npz"))


@case("adapters as a pickle", says=r"adapter_model\.safetensors cannot be read")
def _adapters(scene: Scene) -> Callable[[], object]:
    return encoder(adapters(scene, content=scene.pickled))


# ---- headers that lie ------------------------------------------------------------------------------------------------


def tensors(header: Any, *, length: int | None = None, body: int = 64) -> bytes:
    """Returns a file of safetensors. length: what it says of its header; None for the truth."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + bytes(body)


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"a_1": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


LIES = {
    "a header of 2^63 bytes": tensors(entry(), length=1 << 63),
    "a header of a terabyte": tensors(entry(), length=1 << 40),
    "a header that reaches beyond the end": tensors(entry(), length=1000),
    "offsets beyond the end": tensors(entry(shape=(1 << 40,), offsets=(0, 1 << 42))),
    "offsets backwards": tensors(entry(offsets=(16, 0))),
    "negative offsets": tensors(entry(offsets=(-16, 0))),
    "a shape that its bytes do not fill": tensors(entry(shape=(1 << 62, 1 << 62))),
    "a shape of a text": tensors(entry(shape="4")),
    "a type that does not exist": tensors(entry(dtype="PYTHON")),
    "types of four bits": tensors(entry(dtype="F4", shape=(32,))),
    "a hole between tensors": tensors(entry() | {"b_1": entry(offsets=(32, 48))["a_1"]}),
    "a header of nested lists": tensors(b"[" * 100_000),
    "no header": tensors(b""),
}
for lie, content in LIES.items():
    pickle_free = lambda scene, content=content: content  # noqa: E731 (one for each lie)
    weights_case(f"weights with {lie}", "model.safetensors", pickle_free, says=r"model\.safetensors")

    @case(f"ready features with {lie}", says=r"f\.safetensors")
    def _ready(scene: Scene, content: bytes = content) -> Callable[[], object]:
        (scene.folder / "f.safetensors").write_bytes(content)
        return ready(scene.folder / "f.safetensors")

    @case(f"adapters with {lie}", says=r"adapter_model\.safetensors")
    def _adapter_lies(scene: Scene, content: bytes = content) -> Callable[[], object]:
        return encoder(adapters(scene, content=content))


def npy_header(text: str, *, length: int | None = None) -> bytes:
    head = text.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(head) if length is None else length) + head


def npz(file: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def bomb(file: Path, name: str, shape: tuple[int, ...], *, others: Mapping[str, np.ndarray] | None = None) -> Path:
    """Writes an archive with an array of float32 zeros."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other, values in (others or {}).items():
            with archive.open(f"{other}.npy", "w") as stream:
                np.lib.format.write_array(stream, values)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            stream.write(npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"))
            left, piece = 4 * int(np.prod(shape, dtype=object)), bytes(1 << 20)
            for begin in range(0, left, 1 << 20):
                stream.write(piece[: left - begin])
    return file


@case("ready features that unpack to gigabytes", says=r"f\.npz, array 'a_1': .*which is more than jmer reads")
def _bomb(scene: Scene) -> Callable[[], object]:
    return ready(bomb(scene.folder / "f.npz", "a_1", (scene.size // 4000, 1000)))


@case("word vectors that unpack to gigabytes", says=r"w\.npz.*which is more than jmer reads")
def _word_bomb(scene: Scene) -> Callable[[], object]:
    return words(bomb(scene.folder / "w.npz", "vectors", (scene.size // 4000, 1000), others={"words": HELLO}))


NPY_LIES = {
    "a shape of terabytes": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,)}"),
    "a shape of gigabytes": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}"),
    "a shape that overflows": npy_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({1 << 62}, 8)}}"),
    "a negative shape": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    "items of a gigabyte": npy_header("{'descr': '|S1000000000', 'fortran_order': False, 'shape': (10,)}"),
    "a header of 4 GiB": npy_header("{", length=(1 << 32) - 1),
    "nested brackets as header": npy_header("(" * 5000),
    "code as header": npy_header("{'descr': __import__('os').system('touch TRACE'), 'shape': (1,)}"),
    "an object type": npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + bytes(64),
}
for lie, content in NPY_LIES.items():

    @case(f"an npz of ready features with {lie}", says=r"f\.npz, array 'a_1'")
    def _npz_lies(scene: Scene, content: bytes = content) -> Callable[[], object]:
        named = content.replace(b"TRACE", str(scene.trace).encode())
        return ready(npz(scene.folder / "f.npz", {"a_1.npy": named}))

    @case(f"an npz of word vectors with {lie}", says=NO_WORDS)
    def _word_lies(scene: Scene, content: bytes = content) -> Callable[[], object]:
        named = content.replace(b"TRACE", str(scene.trace).encode())
        return words(npz(scene.folder / "w.npz", {"words.npy": named, "vectors.npy": named}))


def flax(tree: Any) -> Callable[[Scene], bytes]:
    return lambda scene: packb(tree) or b""


def array(shape: Any, dtype: Any, content: bytes = bytes(16)) -> ExtType:
    """Returns an array as Flax writes it."""
    return ExtType(1, packb((shape, dtype, content)))


NO_FLAX = r"flax_model\.msgpack"
nested: Any = {"a": 1.0}
for _ in range(400):
    nested = {"a": nested}
chunks = {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 40}, "chunks": {"0": array((4,), "float32")}}
for lie, tree in {
    "an array of objects": {"a": array((2,), "object")},
    "an array of a type that does not exist": {"a": array((4,), "os.system")},
    "a shape that its bytes do not fill": {"a": array((1 << 40,), "float32")},
    "chunks of a terabyte": {"a": chunks},
    "texts for arrays": {"a": "hello"},
    "a list for a tree": [1, 2],
    "400 levels": nested,
}.items():
    weights_case(f"Flax weights with {lie}", "flax_model.msgpack", flax(tree), says=NO_FLAX)
weights_case("Flax weights with a million levels", "flax_model.msgpack", lambda s: b"\x91" * 1_000_000, says=NO_FLAX)

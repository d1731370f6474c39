"""An extractor's identity: fingerprints that cached features and trained runs refer to stay what they are."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import fakes
import pytest

from jmer.base.errors import UserError
from jmer.base.options import option
from jmer.features import registry
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.lite import MFCC, LiteAudio, LogMel, Prosody
from jmer.features.extractor import FILE, Extractor
from jmer.features.text.encoder import HFText
from jmer.features.text.lite import LiteText, Vader
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo
from jmer.features.views import AudioView, TextView


def encoder(cls: Any, **given: Any) -> Extractor:
    """An extractor by a published encoder, whose weights have a hash of their own."""
    made = cls(model="x", **given)
    vars(made)["_encoder"] = SimpleNamespace(sha256="ab" * 32, dim=16, layers=2)
    vars(made)["_config"] = {"model_type": "whisper"}
    return made


LEXICON = {"glad": ("happy",), "happy": ("glad",)}

# Computed before options were declared by `option`, at revision fe4febb.
GOLDEN: list[tuple[Extractor, str]] = [
    (LiteText(), "72c690c900837786ece15990a4330828a14f08e49df02beb3561c5631186e691"),
    (LiteText(sequence_frames=4), "1e5841107b976e53948e522b2cb26b326bbbd2868fe076bebbd1f946f8aff965"),
    (Vader(), "cb22a7d71e6f517239028199d3486ac3ddf4577fca64dba38d6b6961e4ab2e74"),
    (LiteAudio(), "3da20f0954e7044d0de5c5e8bca56e7d7ac367e793cd84d7db429e6f55b5e9df"),
    (LiteAudio(sequence_frames=4), "4988952975344fb3a21535a5c496365faf880aa2fa90381c94b72bc38bb7a5f1"),
    (MFCC(), "b9dcfe6807a397088518a1febf52e5f79d9f42d5d32d34a1764b7b612712929b"),
    (LogMel(), "919dc88a91cc38839ad16229b767f6b1584158006eacaf74e96e35e40eebe9ed"),
    (Prosody(), "05d0999d3cdadbc17f28e54c33a3153fe7c1112826d0e62d58e5eb9c3c6e4abd"),
    (LiteVideo(), "5d4e719b51201c7c4c82884e338507e086ff79a9eb5a8731873979e3ca49474c"),
    (LiteVideo(frames=4, crop="speaker"), "87d160a1989b0178aa9385b378a4ed4a48e2d6ce9119e351ecb3486ffee4d9f3"),
    (
        encoder(HFText, pooling="mean,cls", context=2),
        "38f58cbc93b95f0f133dadbc67ca90333eeb9a637de976d707377bdfe89bb4d2",
    ),
    (encoder(HFAudio, window=0, layers="3"), "89296a0816d65a26d55511f657cefa1641fb5a24ffff22a977af1b7906b0f06a"),
    (encoder(HFVideo, crop="frame"), "a8646aeb74e554fa7ea9c03169961a3d240e5dbacd78213b197dd23425c7109b"),
    (
        TextView(base=LiteText(), number=1, seed=3, lexicon=LEXICON),
        "a9fa8bdf91298102a30be223c9748b297cd3efacfa3ff62b91e9a635326c1b90",
    ),
    (
        AudioView(base=LiteAudio(), number=2, seed=3),
        "eb848d95584794e2ac6fc3826f0e97932367be4657371892113164ee52be30e7",
    ),
]


@pytest.mark.parametrize(("extractor", "fingerprint"), GOLDEN, ids=lambda x: type(x).__name__)
def test_fingerprints_stay(extractor: Extractor, fingerprint: str):
    assert extractor.fingerprint == fingerprint


def test_spec_of_a_lite_extractor():
    assert LiteVideo(frames=4).spec == {
        "modality": "video",
        "kind": "lite",
        "version": 1,
        "options": {"sequence_frames": 0, "frames": 4, "crop": "face", "detector": "", "detector_sha256": ""},
        "weights": "e3f06ccaf0631d299b3c92b0bbf997e4f018f1bef49c5285721bebc48aea8f55",
    }


@dataclass(frozen=True, kw_only=True)
class Weighted(fakes.Loudness):
    """An extractor whose option `place` says where its weights lie; without a scale it has no weights."""

    place: str = field(default="here", metadata=FILE)

    kind = "weighted"

    @property
    def weights(self) -> str:
        return "cd" * 32 if self.scale else ""


def test_the_place_of_the_weights_is_no_part_of_the_identity():
    assert Weighted(place="here").fingerprint == Weighted(place="there").fingerprint
    assert Weighted(place="here", scale=2.0).fingerprint != Weighted(place="here").fingerprint
    assert Weighted(place="there").spec["options"]["place"] == "there"
    views = [AudioView(base=Weighted(place=place), number=1) for place in ("here", "there")]
    assert views[0].fingerprint == views[1].fingerprint
    without = [Weighted(place=place, scale=0.0) for place in ("here", "there")]
    assert without[0].fingerprint != without[1].fingerprint  # no hash stands for the file


@dataclass(frozen=True, kw_only=True)
class Bounded(fakes.Loudness):
    kind = "bounded"

    octaves: int = option(3, "Octaves that are counted.", at_least=1, at_most=9)

    def check(self) -> None:
        super().check()
        if self.octaves > 5 and not self.scale:
            raise UserError("too many octaves of nothing")


def test_options_are_checked_when_an_extractor_is_made():
    with pytest.raises(UserError, match=r"^config\.audio\.octaves is 10; expected at least 1 and at most 9$"):
        Bounded(octaves=10)
    with pytest.raises(UserError, match=r"^config\.sequence_frames is -1; expected at least 0$"):
        Bounded(sequence_frames=-1)
    with pytest.raises(UserError, match="too many octaves"):
        Bounded(octaves=6, scale=0.0)


def test_a_spec_that_does_not_fit_this_jmer_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "EXTRACTORS", (*registry.EXTRACTORS, Bounded))
    spec = json.loads(json.dumps(Bounded(octaves=4).spec))
    assert registry.build(spec) == Bounded(octaves=4)
    wrong = (
        ({"kind": "nowhere"}, "this jmer has no audio extractor 'nowhere'"),
        ({"version": 7}, "has version 1 here, and the features were made by version 7"),
        ({"options": spec["options"] | {"tuning": 1}}, "has no option 'tuning' here"),
        ({"weights": "ef" * 32}, "have changed since the features were made"),
        ({"normalises": True}, "would give other features than those that were recorded"),
    )
    for change, message in wrong:
        with pytest.raises(UserError, match=message):
            registry.build(spec | change)

"""Speaks a line by espeak-ng with the prosody of the line's emotion, and shapes the sound in numpy.

A voice shows which of four groups the emotion belongs to: neutral or disgust, sadness, joy or anger, surprise or fear.
"""

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16_000

# Speaker -> espeak-ng voice and its pitch at rest (0 to 99).
VOICES = {
    "Ada": ("en-us+f4", 45),
    "Bruno": ("en-us+m3", 45),
    "Chidi": ("en-us+m7", 30),
    "Dora": ("en-us+f5", 45),
    "Emil": ("en-gb+m1", 50),
    "Farah": ("en-us+linda", 45),
    "Greta": ("en-gb+steph", 45),
    "Hugo": ("en-gb+m4", 40),
}


@dataclass(frozen=True, kw_only=True)
class Prosody:
    """How a group of emotions speaks.

    pitch: steps above the speaker's pitch at rest.
    spread: width of the melody; 100 is the synthesiser's own.
    speed: words a minute.
    level: root mean square of the speech.
    tilt: share of the wave's derivative that is mixed in, which sounds bright and pressed; if negative, the share of
      its running mean, which sounds dull and soft.
    tremor: depth of a variation of the loudness at 6 Hz.
    breath: level of breath noise, relative to the speech.
    """

    pitch: float
    spread: float
    speed: float
    level: float
    tilt: float
    tremor: float = 0.0
    breath: float = 0.0


REST = Prosody(pitch=0, spread=60, speed=170, level=0.06, tilt=0.0)
PROSODY = {
    "neutral": REST,
    "disgust": REST,
    "sadness": Prosody(pitch=-12, spread=25, speed=130, level=0.03, tilt=-0.8),
    "joy": Prosody(pitch=18, spread=200, speed=195, level=0.14, tilt=0.6),
    "anger": Prosody(pitch=18, spread=200, speed=195, level=0.14, tilt=0.6),
    "surprise": Prosody(pitch=40, spread=120, speed=180, level=0.08, tilt=0.0, tremor=0.7, breath=0.25),
    "fear": Prosody(pitch=40, spread=120, speed=180, level=0.08, tilt=0.0, tremor=0.7, breath=0.25),
}
# The prosody of clips whose voice must tell nothing: half way between the groups.
WEAK = Prosody(pitch=12, spread=100, speed=170, level=0.075, tilt=0.0, tremor=0.2, breath=0.06)


def check() -> None:
    """Ends the program if espeak-ng is not installed, and tells the user how to install it."""
    if not shutil.which("espeak-ng"):
        raise SystemExit(
            "espeak-ng not found: install it (Debian, Ubuntu: apt install espeak-ng; macOS: brew install espeak-ng)"
        )


def speak(text: str, *, speaker: str, emotion: str, weak: bool, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Returns `[seconds * SAMPLE_RATE]` float32: the line with a short pause around it, over faint room noise.

    weak: the voice tells nothing about the emotion.
    """
    prosody = WEAK if weak else PROSODY[emotion]
    voice, rest = VOICES[speaker]
    pitch = float(np.clip(rest + prosody.pitch + rng.normal(0, 3), 0, 99))
    spread = prosody.spread * rng.uniform(0.85, 1.15)
    speed = prosody.speed * rng.uniform(0.95, 1.05)
    room = round(seconds * SAMPLE_RATE)
    speech = _espeak(text, voice=voice, pitch=pitch, spread=spread, speed=speed)
    while len(speech) > room - SAMPLE_RATE // 10:  # the table gives the duration, so speak faster until it fits
        speed *= 1.04
        speech = _espeak(text, voice=voice, pitch=pitch, spread=spread, speed=speed)
    speech = _shape(speech, prosody=prosody, level=prosody.level * 10 ** (rng.normal(0, 1) / 20), rng=rng)
    lead = int((room - len(speech)) * rng.uniform(0.3, 0.5))
    wave_ = rng.normal(0, 0.0015, room)
    wave_[lead : lead + len(speech)] += speech
    return np.clip(wave_, -1, 1).astype(np.float32)


def _espeak(text: str, *, voice: str, pitch: float, spread: float, speed: float) -> np.ndarray:
    """Returns the speech as `[T]` float64 at `SAMPLE_RATE`, without the silence at either end."""
    command = ["espeak-ng", "--stdout", "-m", "-z", "-v", voice, "-p", f"{pitch:.0f}", "-s", f"{speed:.0f}"]
    marked = f'<speak><prosody range="{spread:.0f}%">{text}</prosody></speak>'
    made = subprocess.run(command, input=marked.encode(), capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(made)) as file:
        rate, header = file.getframerate(), 44  # the length in the header of piped output is wrong, so it is not used
    speech = np.frombuffer(made[header:], "<i2").astype(np.float64) / 2**15
    times = np.arange(int(len(speech) * SAMPLE_RATE / rate)) * (rate / SAMPLE_RATE)
    speech = np.interp(times, np.arange(len(speech)), speech)
    loud = np.flatnonzero(np.abs(speech) > 0.01)
    return speech[loud[0] : loud[-1] + 1]


def _shape(speech: np.ndarray, *, prosody: Prosody, level: float, rng: np.random.Generator) -> np.ndarray:
    """Applies spectral tilt, breath, tremor and loudness."""
    if prosody.tilt > 0:
        shaped = (1 - prosody.tilt) * speech + prosody.tilt * 3 * np.diff(speech, prepend=0.0)
    else:
        mean = np.convolve(speech, np.full(8, 1 / 8), mode="same")
        shaped = (1 + prosody.tilt) * speech - prosody.tilt * mean
    loudness = np.sqrt(np.convolve(shaped**2, np.full(800, 1 / 800), mode="same"))
    shaped = shaped + prosody.breath * loudness * rng.normal(0, 1, len(shaped))
    times = np.arange(len(shaped)) / SAMPLE_RATE
    shaped = shaped * (1 - prosody.tremor * (0.5 + 0.5 * np.sin(2 * np.pi * 6 * times)))
    return shaped * (level / np.sqrt(np.mean(shaped**2)))

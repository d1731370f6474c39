"""Clips with known sound and pictures, for the tests."""

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def sine(frequency: float, *, seconds: float, rate: int, peak: float = 0.5) -> np.ndarray:
    """Returns a sine of `frequency` Hz as `[T]` float32."""
    return (peak * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, *, rate: int) -> Path:
    """Writes 16-bit PCM, without PyAV. samples: `[T]` or `[channels, T]` float in [-1, 1]."""
    samples = np.atleast_2d(samples)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples.T * 32767).astype("<i2").tobytes())
    return path


def write_clip(
    path: Path,
    *,
    colours: Sequence[tuple[int, int, int]] = (),
    fps: int = 25,
    size: tuple[int, int] = (96, 64),
    video_codec: str = "libx264",
    samples: np.ndarray | None = None,
    rate: int = 16_000,
    layout: str = "mono",
    audio_codec: str = "aac",
    options: dict[str, str] | None = None,
    video_delay: float = 0.0,
    audio_delay: float = 0.0,
) -> Path:
    """Writes a video or audio file.

    colours: each makes one frame of that colour, with its top left quarter black; none makes a file without video.
    size: width and height.
    samples: `[T]` float32; None makes a file without sound.
    video_delay, audio_delay: seconds from the beginning of the file to the start of the track.
    """
    with av.open(str(path), mode="w", options=options or {}) as container:
        video = container.add_stream(video_codec, rate=fps) if colours else None
        audio = container.add_stream(audio_codec, rate=rate, layout=layout) if samples is not None else None
        if isinstance(video, av.VideoStream):
            video.width, video.height = size
            video.pix_fmt = "yuv420p"
            for index, colour in enumerate(colours):
                pixels = np.full((size[1], size[0], 3), colour, np.uint8)
                pixels[: size[1] // 2, : size[0] // 2] = 0
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = index + round(video_delay * fps), Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if isinstance(audio, av.AudioStream) and samples is not None:
            resampler = av.AudioResampler(
                format=audio.format, layout=layout, rate=rate, frame_size=audio.codec_context.frame_size or None
            )
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate = rate
            frame.pts, frame.time_base = round(audio_delay * rate), Fraction(1, rate)
            for chunk in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(audio.encode(chunk))
            container.mux(audio.encode(None))
    return path

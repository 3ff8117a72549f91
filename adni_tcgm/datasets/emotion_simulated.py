"""A simulated stand-in for IEMOCAP and MOSI: the same shapes, lengths and gaps, and nothing else of them.

Restricted recordings cannot be shipped; this lets every command run without them. Sizes are those of the aligned files
that go around (recalled, not read from them). Words, voice and face are independent given the label and the speaker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Share of "yes" and sizes: recalled.
SHARE_YES = {"sentiment": 0.53, "neutral": 0.38, "happy": 0.15, "sad": 0.2, "angry": 0.24}
VOCABULARY = 400
SHORTEST = 3


@dataclass(frozen=True)
class Shape:
    """utterances and speakers (or videos): of train, validation and test.

    >>> IEMOCAP.utterances
    (2717, 798, 938)
    """

    steps: int
    text: int
    audio: int
    video: int
    utterances: tuple[int, int, int]
    speakers: tuple[int, int, int]


IEMOCAP = Shape(steps=20, text=300, audio=74, video=35, utterances=(2717, 798, 938), speakers=(6, 2, 2))
MOSI = Shape(steps=50, text=300, audio=74, video=47, utterances=(1284, 229, 686), speakers=(52, 10, 31))


@dataclass(frozen=True)
class StandIn:
    """How hard it is.

    scale: share of the real number of utterances. speaker_effect: SD of what a speaker adds to all three modalities
        alike, in units of the noise; at 0 they are independent given the label. missing: share of utterances that lack
        one of the modalities, drawn at random.
    text_effect: how much more often a "yes" word is said in a "yes" utterance, as a difference of log-odds.
    audio_effect, video_effect: distance of the class means of an utterance, in units of its noise.

    >>> StandIn(speaker_effect=3).missing
    0.0
    """

    scale: float = 1.0
    speaker_effect: float = 0.5
    missing: float = 0.0
    text_effect: float = 1.2
    audio_effect: float = 2.0
    video_effect: float = 1.5

    def __post_init__(self) -> None:
        for name in ("speaker_effect", "text_effect", "audio_effect", "video_effect"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be >= 0")
        if self.scale <= 0 or not 0 <= self.missing < 1:
            raise ValueError(f"scale {self.scale} must be > 0 and missing {self.missing} from 0 to below 1")


def simulate(design: StandIn, task: str, seed: int) -> dict[str, np.ndarray]:
    """Arrays named and padded like a feature file: `{split}/text` (N, T, D), audio, vision, labels and id.

    The seed draws the population too: words, directions and speakers.

    >>> arrays = simulate(StandIn(scale=0.05), "happy", seed=0)
    >>> sorted({name.split("/")[1] for name in arrays})
    ['audio', 'id', 'labels', 'speaker', 'text', 'vision']
    """
    shape = MOSI if task == "sentiment" else IEMOCAP
    rng = np.random.default_rng([seed, 7])
    world = _World(shape, design, rng)
    arrays: dict[str, np.ndarray] = {}
    first = 0
    for split, size, speakers in zip(("train", "valid", "test"), shape.utterances, shape.speakers, strict=True):
        size = max(round(size * design.scale), 4 * speakers)
        part = world.draw(size, np.arange(first, first + speakers), SHARE_YES[task], rng)
        arrays |= {f"{split}/{name}": values for name, values in part.items()}
        arrays[f"{split}/id"] = np.array(_names(part["speaker"], task))
        first += speakers
    return arrays


class _World:
    """What all utterances of one seed have in common."""

    def __init__(self, shape: Shape, design: StandIn, rng: np.random.Generator) -> None:
        self.shape, self.design = shape, design
        self.words = rng.normal(0, 0.4, (VOCABULARY, shape.text)).astype(np.float32)
        # A quarter of the words is said more often with one label, a quarter more often by some speakers; as in real
        # embeddings, such words lie a little to one side.
        self.tilt = np.zeros((2, VOCABULARY))
        for kind, words in enumerate((slice(0, VOCABULARY // 4), slice(VOCABULARY // 4, VOCABULARY // 2))):
            self.tilt[kind, words] = rng.choice([-0.5, 0.5], VOCABULARY // 4)
        sides = np.linalg.qr(rng.normal(size=(shape.text, 2)))[0].T
        self.words += (2 * self.tilt.T @ sides).astype(np.float32)
        self.commonness = rng.normal(0, 0.5, VOCABULARY)
        sizes = {"audio": shape.audio, "vision": shape.video}
        # Of voice and face: unit vectors of label and speaker, and the units of each feature, as odd as real ones.
        self.directions = {name: np.linalg.qr(rng.normal(size=(size, 2)))[0].T for name, size in sizes.items()}
        self.units = {name: np.exp(rng.normal(0, 2, size)) for name, size in sizes.items()}
        self.speakers = rng.normal(size=sum(shape.speakers))

    def draw(
        self, size: int, speakers: np.ndarray, share_yes: float, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """text, audio, vision (size, T, D) with zeros behind the last step; labels and speaker (size,)."""
        labels = (rng.random(size) < share_yes).astype(np.int64)
        labels[:2] = (0, 1)
        speaker = speakers[np.sort(rng.integers(len(speakers), size=size))]
        rng.shuffle(labels)
        shift = self.design.speaker_effect * self.speakers[speaker]
        lengths = rng.integers(SHORTEST, self.shape.steps + 1, size=size)
        real = np.arange(self.shape.steps) < lengths[:, None]
        part = {"text": self._say(labels, shift, real, rng)}
        for name, effect in (("audio", self.design.audio_effect), ("vision", self.design.video_effect)):
            part[name] = self._move(name, effect * (labels - 0.5), shift, real, rng)
        absent = rng.integers(3, size=size)
        gone = rng.random(size) < self.design.missing
        for place, values in enumerate(part.values()):
            values[gone & (absent == place)] = 0
        # Trackers fail now and then: NaN in a face, an infinite logarithm in a voice.
        part["vision"][(rng.random(real.shape) < 0.02) & real] = np.nan
        part["audio"][(rng.random(real.shape) < 0.01) & real, 0] = -np.inf
        return part | {"labels": labels, "speaker": speaker}

    def _say(self, labels: np.ndarray, shift: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # In a word's log-odds, so that `text_effect` is the difference between "yes" and "no" utterances.
        tilt = 2 * self.design.text_effect * (labels - 0.5)[:, None] * self.tilt[0] + shift[:, None] * self.tilt[1]
        chance = np.exp(self.commonness + tilt)
        limits = np.cumsum(chance / chance.sum(1, keepdims=True), axis=1)
        text = np.zeros((*real.shape, self.shape.text), dtype=np.float32)
        for row, limit in enumerate(limits):
            said = np.minimum(np.searchsorted(limit, rng.random(real[row].sum())), VOCABULARY - 1)
            text[row, real[row]] = self.words[said]
        return text

    def _move(
        self, name: str, effect: np.ndarray, shift: np.ndarray, real: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """What an utterance says as a whole, and steps that vary around it."""
        whole = rng.normal(size=(len(real), len(self.units[name])))
        whole += effect[:, None] * self.directions[name][0] + shift[:, None] * self.directions[name][1]
        steps = whole[:, None, :] + rng.normal(size=(*real.shape, whole.shape[1]))
        return (steps * self.units[name] * real[:, :, None]).astype(np.float32)


def _names(speaker: np.ndarray, task: str) -> list[str]:
    """Named as in the real files, so that speakers and videos are found by the same rule."""
    if task == "sentiment":
        return [f"video{who:03d}$_${row}" for row, who in enumerate(speaker)]
    sessions = [(1 + who // 2, "FM"[who % 2]) for who in speaker]
    return [f"Ses{session:02d}F_impro01_{sex}{row:04d}" for row, (session, sex) in enumerate(sessions)]

"""Pretrained encoders kept on disk: trained once for all runs that would train the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from adni_tcgm.files import whole_file
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoders


def encoder_key(settings: Sequence[Any], modalities: Sequence[Modality], train: MultimodalBatch) -> str | None:
    """Names everything that decides the weights of encoders that read no label: settings, samples and their values.

    settings: of the pretraining, its networks, augmentation, seed and place. None where some of them are no plain
    dataclass (a network by somebody's own function): nothing then says whether two of them are the same.

    >>> batch = MultimodalBatch(["a"], {"mri": torch.ones(1, 2)}, torch.ones(1, 1).bool(), torch.tensor([-1]))
    >>> modalities = [Modality("mri", (2,))]
    >>> len(encoder_key([modalities[0], 0], modalities, batch)), encoder_key([print], modalities, batch)
    (40, None)
    """
    described = [_describe(part) for part in (*settings, *modalities, torch.__version__)]
    if any(part is None for part in described):
        return None
    found = hashlib.blake2b(json.dumps([described, train.sample_ids]).encode(), digest_size=20)
    for name, values in (*train.inputs.items(), *train.targets.items(), ("present", train.present)):
        found.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        for rows in values.split(64):  # they may lie on the disk
            found.update(rows.contiguous().cpu().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _describe(part: Any) -> Any:
    """In JSON's terms; None where it holds what JSON has no word for."""
    if isinstance(part, dict):
        values = {name: _describe(value) for name, value in part.items()}
        return None if None in values.values() else values
    if is_dataclass(part) and not isinstance(part, type):
        try:
            return [type(part).__qualname__, json.dumps(asdict(part))]
        except TypeError:
            return None
    return part if isinstance(part, str | int | float | bool) else None


class EncoderStore:
    """Encoders in `folder`, a file each.

    >>> from tempfile import TemporaryDirectory
    >>> def blank():
    ...     return Encoders({"mri": torch.nn.Linear(2, 1)}, {"mri": 1})
    >>> with TemporaryDirectory() as folder:
    ...     first = EncoderStore(Path(folder)).get("a key", blank, train=blank)
    ...     again = EncoderStore(Path(folder)).get("a key", blank, train=None)  # nothing is trained
    >>> torch.equal(first.nets["mri"].weight, again.nets["mri"].weight)
    True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str, blank: Callable[[], Encoders], train: Callable[[], Encoders]) -> Encoders:
        """Those of that key; of several processes that ask for it, one trains and the others wait for it.

        blank: encoders of the same networks, whose weights are replaced. What cannot be read is trained anew.
        """
        file = self.folder / f"{key}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{key}.lock"):
            weights = _read(file, key)
            if weights is not None:
                encoders = blank()
                encoders.load_state_dict(weights)
                return encoders
            encoders = train()
            tensors = {name: value.detach().cpu().contiguous() for name, value in encoders.state_dict().items()}
            with whole_file(file) as partial:
                save_file(tensors, str(partial), metadata={"key": key})
        return encoders


def _read(file: Path, key: str) -> dict[str, torch.Tensor] | None:
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), "pt") as content:
            if (content.metadata() or {}).get("key") != key:
                return None
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except SafetensorError:
        return None

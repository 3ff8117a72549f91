"""A training kept on disk while it goes on: a checkpoint, to go on from after a kill, and its history, to look at.

The checkpoint is one safetensors file, its plain values as JSON in the header: it appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from time import monotonic

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from adni_tcgm.files import whole_file
from adni_tcgm.storage import history_table
from adni_tcgm.tcgm.checkpoint import Checkpoint

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.tsv"


class CheckpointFile:
    """Keeps one training in `folder`.

    key: names the settings and data of the training; the checkpoint of another one is not read.
    every_s: seconds between two saves. What is kept decides when a kill costs work, never what comes out.
    writes: false for the processes beside the first, which read the same checkpoint and write nothing.
    tensorboard: a folder for TensorBoard's logs of the same rows, an optional package.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = CheckpointFile(folder, key="these settings")
    ...     file.restore() is None  # nothing was saved
    True
    """

    def __init__(
        self,
        folder: str | Path,
        key: str,
        every_s: float = 60.0,
        writes: bool = True,
        tensorboard: Path | None = None,
    ) -> None:
        self.folder, self.key, self.every_s, self.writes = Path(folder), key, every_s, writes
        self.board = _open_board(tensorboard) if tensorboard and writes else None
        self.saved = monotonic()
        self.rows: list[Mapping[str, float]] = []

    def restore(self) -> Checkpoint | None:
        """The checkpoint that was saved last. Raises ValueError where the file is damaged."""
        file = self.folder / CHECKPOINT
        if not file.is_file():
            return None
        try:
            with safe_open(str(file), "pt") as content:
                header = content.metadata()
                if header["key"] != self.key:
                    return None
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file}: this is no checkpoint of a training ({error}); delete it to start anew"
            ) from error
        values = json.loads(header["values"])
        self.rows = list(values["history"])
        return Checkpoint(tensors, values)

    def record(self, row: Mapping[str, float]) -> None:
        """Rewrites the table of all rows so far, a few kilobytes."""
        self.rows.append(row)
        if self.writes:
            _replace(
                self.folder / HISTORY,
                lambda file: history_table(self.rows).to_csv(file, sep="\t", index=False, lineterminator="\n"),
            )

        if self.board:
            for name, value in row.items():
                if name != "round" and isfinite(value):
                    self.board.add_scalar(name, value, row["round"])
            self.board.flush()

    def is_due(self) -> bool:
        return self.writes and monotonic() - self.saved >= self.every_s

    def save(self, checkpoint: Checkpoint) -> None:
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in checkpoint.tensors.items()}
        # Python's JSON: its floats survive to the last bit, infinity and NaN included.
        header = {"key": self.key, "values": json.dumps(checkpoint.values)}
        _replace(self.folder / CHECKPOINT, lambda file: save_file(tensors, str(file), metadata=header))
        self.saved = monotonic()

    def remove(self) -> None:
        """Once the result stands elsewhere."""
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)


def _open_board(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed; pip install 'adni-tcgm[tensorboard]'") from error
    return SummaryWriter(str(folder))


def _replace(file: Path, write: Callable[[Path], object]) -> None:
    """Write a whole file or nothing; it takes its name after its bytes have reached the disk."""
    with whole_file(file) as partial:
        write(partial)
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())

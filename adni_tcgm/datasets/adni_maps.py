"""Cut the named crops from prepared maps, and keep them beside the maps so that the next run starts at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm import tqdm

from adni_tcgm.files import whole_file

# modality -> the manifest column with its map: grey-matter volume in template space, and SUVR
MODALITIES = {"mri": "gm_path", "pet": "pet_path"}
SPACING_MM = 2.0
THREADS = 2


@dataclass(frozen=True)
class Crop:
    """A box in template space: its size in 2 mm voxels, the centre of its first voxel in mm (left, back, down), and the
    voxels that are kept around it for random shifts unless told otherwise.

    >>> CROPS["paper64"].shape
    (64, 64, 64)
    """

    shape: tuple[int, int, int]
    origin_mm: tuple[float, float, float]
    margin: int


CROPS = {
    "hippocampi": Crop((48, 32, 32), (-48.0, -54.0, -42.0), margin=2),
    # Shifts of up to 6 mm, with which both hippocampi always stay inside.
    "paper64": Crop((64, 64, 64), (-64.0, -86.0, -76.0), margin=3),
}


def cut(image: nib.Nifti1Image, crop: Crop, margin: int, name: str) -> np.ndarray:
    """The crop with `margin` voxels around it, found by the image's affine: float32 of shape `crop.shape` + 2 margin.

    Raises ValueError when the image is not a 2 mm RAS+ grid that has a voxel at the crop's corner, or is too small.
    """
    if not np.allclose(image.affine[:3, :3], SPACING_MM * np.eye(3), atol=1e-4):
        raise ValueError(f"{name}: affine {image.affine[:3, :3].tolist()}; a prepared map is RAS+ with 2 mm voxels")
    exact = (np.array(crop.origin_mm) - image.affine[:3, 3]) / SPACING_MM - margin
    first = np.rint(exact).astype(int)
    last = first + crop.shape + 2 * margin
    if not np.allclose(exact, first, atol=1e-3):
        raise ValueError(
            f"{name}: no voxel lies at {crop.origin_mm} mm; the nearest is {np.abs(exact - first).max()} off"
        )
    if (first < 0).any() or (last > image.shape).any():
        raise ValueError(f"{name}: voxels {first.tolist()} to {last.tolist()} are wanted; the map has {image.shape}")
    return np.asarray(image.dataobj, dtype=np.float32)[tuple(map(slice, first, last))]


# Fewer people of a folder are read from their maps, where there is no cache yet: making one would read everybody.
SMALL_SHARE = 0.25


def read_crops(
    path: str | Path, people: pd.DataFrame, modality: str, crop_name: str, margin: int, kept_in: str = "memory"
) -> np.ndarray:
    """(N, *crop.shape + 2 margin), rows in the order of `people`, zeros where the modality is absent.

    kept_in: "memory" (float32) or "disk": float16 in a file without a name beside the maps, whose pages the system
    takes out of memory and reads again as it needs to.
    The crops of all people in the manifest are kept in `crop-<name>-margin<n>-<modality>-<key>.npy` beside it. The key
    covers the manifest, the crop, and size and time of every map, so a map that was written again is read again.
    """
    path, column = Path(path), MODALITIES[modality]
    crop = CROPS[crop_name]
    manifest = pd.read_csv(path / "manifest.tsv", sep="\t", dtype=str, keep_default_na=False)
    names = (manifest.participant_id + "_" + manifest.session_id).tolist()
    # Everybody who passed quality control, whoever is asked for now: another seed asks for others.
    files = [path / file if file else None for file in manifest[column].where(manifest.qc != "fail", "")]
    wanted = pd.Series(range(len(names)), index=names)[people.sample_id].to_numpy()
    key = _key(path, files, crop, margin)
    shape = tuple(size + 2 * margin for size in crop.shape)
    cache = path / f"crop-{crop_name}-margin{margin}-{modality}-{key}.npy"
    if not cache.is_file():
        if len(wanted) < SMALL_SHARE * len(files) or not os.access(path, os.W_OK):
            rows = [files[row] for row in wanted]
            return _fill(_zeros((len(wanted), *shape), kept_in, path), rows, crop, margin, modality)
        for stale in path.glob(f"crop-{crop_name}-margin{margin}-{modality}-*.npy"):
            stale.unlink(missing_ok=True)
        _write(cache, shape, files, crop, margin, modality)
    return _read_rows(cache, wanted, _zeros((len(wanted), *shape), kept_in, path))


def _zeros(shape: tuple[int, ...], kept_in: str, folder: Path) -> np.ndarray:
    if kept_in == "memory":
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile(dir=folder if os.access(folder, os.W_OK) else None) as file:
        _allocate(file.fileno(), prod(shape) * np.dtype(np.float16).itemsize)
        return np.memmap(file, np.float16, "r+", shape=shape)


def _allocate(descriptor: int, size: int) -> None:
    """A full disk is an error here; met later, in a mapped file, it would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _read_rows(cache: Path, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One after the other: a memory map of the whole cache would count towards the memory of 2,000 people once more."""
    one = np.empty(values.shape[1:], np.float32)
    with cache.open("rb") as handle:
        np.lib.format.read_magic(handle)
        np.lib.format.read_array_header_1_0(handle)
        start = handle.tell()
        for position, row in enumerate(rows.tolist()):
            handle.seek(start + row * one.nbytes)
            if handle.readinto(one) != one.nbytes:
                raise OSError(f"{cache}: ends within row {row}; delete it and it will be written anew")
            values[position] = one
    return values


def _write(
    cache: Path, shape: tuple[int, ...], files: list[Path | None], crop: Crop, margin: int, modality: str
) -> None:
    """Fill a file under a name of its own, then rename it: another run sees the whole cache or none."""
    with whole_file(cache) as unfinished:
        stored = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(len(files), *shape))
        with unfinished.open("r+b") as handle:
            _allocate(handle.fileno(), unfinished.stat().st_size)
        _fill(stored, files, crop, margin, modality)
        stored.flush()
        del stored


def _fill(values: np.ndarray, files: list[Path | None], crop: Crop, margin: int, modality: str) -> np.ndarray:
    def fill(row: int) -> None:
        values[row] = cut(nib.load(files[row]), crop, margin, str(files[row]))

    rows = [row for row, file in enumerate(files) if file]
    with ThreadPoolExecutor(THREADS) as pool:
        # `delay`: nothing is drawn for what is done within two seconds.
        for _ in tqdm(pool.map(fill, rows), f"read {modality} maps", len(rows), unit="map", delay=2, leave=False):
            pass
    return values


def _key(path: Path, files: list[Path | None], crop: Crop, margin: int) -> str:
    digest = hashlib.sha256((path / "manifest.tsv").read_bytes())
    digest.update(repr((crop, margin)).encode())
    for line in _states(files):
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def _states(files: list[Path | None]) -> Iterator[str]:
    for file in files:
        if file and file.is_file():
            state = file.stat()
            yield f"{state.st_size} {state.st_mtime_ns}\n"
        else:
            yield "absent\n"

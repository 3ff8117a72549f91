"""Displacement fields as ITK's HDF5 transforms (`_xfm.h5`), which ANTs, Slicer and SimpleITK read.

A field in NIfTI would be an image to BIDS, which has no name for it.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from preprocessing.steps import lazy_ants as ants

TYPE = "DisplacementFieldTransform_float_3_3"
GROUP = "TransformGroup/0"
# Sorting bytes by significance makes the file smaller and the quickest level do.
COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_field(field: ants.ANTsImage, path: Path) -> None:
    """Write a displacement field, (X, Y, Z) with 3 components in mm: the same bytes for the same field."""
    grid = [*field.shape, *field.origin, *field.spacing, *np.ravel(field.direction)]
    displacements_mm = np.transpose(field.numpy(), (2, 1, 0, 3)).ravel().astype(np.float32)  # ITK: x runs fastest
    with h5py.File(path, "w") as file:  # h5py keeps no times
        for name in ("ITKVersion", "HDFVersion", "OSName", "OSVersion"):
            file[name] = [b"unknown"]
        group = file.create_group(GROUP)
        group["TransformType"] = np.array([TYPE], dtype=h5py.string_dtype("ascii"))
        group["TransformFixedParameters"] = np.array(grid, dtype=np.float64)
        group.create_dataset("TransformParameters", data=displacements_mm, **COMPRESSION)


def read_field(path: Path) -> ants.ANTsImage:
    """What `write_field` wrote."""
    with h5py.File(path) as file:
        grid = file[GROUP]["TransformFixedParameters"][:]
        displacements_mm = file[GROUP]["TransformParameters"][:].astype(np.float32)
    size, origin, spacing, direction = np.split(grid, [3, 6, 9])
    values = displacements_mm.reshape(*size[::-1].astype(int), 3).transpose(2, 1, 0, 3)
    frame = {"origin": tuple(origin), "spacing": tuple(spacing), "direction": direction.reshape(3, 3)}
    return ants.from_numpy(np.ascontiguousarray(values), **frame, has_components=True)

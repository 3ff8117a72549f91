"""`predict --dicom`: the report and the segmentation as DICOM objects of the scanned patient, in a folder of its own.

Only a T1 that came as DICOM has the patient, study and frame of reference that such objects must carry.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import ndimage

from pipelines.restoring import Refused
from preprocessing.intake.dicom import choose_series
from preprocessing.intake.dicom_series import Grid, find_series, grid_of, without_copies
from preprocessing.intake.formats import NIFTI
from preprocessing.steps.hippocampus import Box, segment_hippocampi
from preprocessing.steps.orient import ScanError, read_scan
from preprocessing.subject.folder import SubjectFolder
from preprocessing.subject.plan import SubjectTask
from reports.dicom import (
    FOLDER,
    PDF_FILE,
    SEGMENTATION_FILE,
    STRUCTURES,
    Masks,
    read_headers,
    segmentation,
    wrap_pdf,
    write_dicom,
)


def check_source(t1: Path | None) -> None:
    """Raises Refused where no DICOM can be written for this T1 (None: one of a BIDS data set), or by this set-up."""
    if t1 is None or t1.name.lower().endswith(NIFTI):
        name = "a scan of a BIDS data set" if t1 is None else t1.name
        raise Refused(
            f"--dicom: {name} is no DICOM series, and only from one come the patient, study and frame of reference "
            "that DICOM objects must carry"
        )
    if find_spec("highdicom") is None:
        raise Refused("--dicom: highdicom is not installed; pip install 'adni-tcgm[dicom]'")


def export_dicom(
    t1: Path, task: SubjectTask, prepared: Path, pdf: Path, out: Path, *, identifiers: bool, failed: bool
) -> list[Path]:
    """Write the PDF and the segmentation below `out`/FOLDER; returns the paths.

    t1: the DICOM folder or multi-frame file; task: the person as prepared from it; identifiers: whether the PDF shows
    ids; failed: in quality control. A scan that failed, or whose headers have no frame of reference, gets no
    segmentation, and a warning. Raises Refused where the series cannot be read.
    """
    try:
        slices = without_copies(choose_series(find_series(t1), "mri"))
        grid = grid_of(slices)
    except ScanError as error:
        raise Refused(f"--dicom: {error.message}") from error
    multiple = len(slices) == 1
    files = [slices[0].path] if multiple else [slices[number].path for number in grid.order]
    headers = read_headers(files)
    objects = {PDF_FILE: wrap_pdf(pdf.read_bytes(), headers[0], identifiers)}
    missing = "the scan failed quality control" if failed else ""
    missing = missing or ("" if "FrameOfReferenceUID" in headers[0] else "the headers have no frame of reference")
    if missing:
        print(f"warning: no {SEGMENTATION_FILE}: {missing} ({t1})", file=sys.stderr)
    else:
        scan = read_scan(task.t1, task.recipe.header)
        boxes = segment_hippocampi(scan, SubjectFolder(task, prepared).transforms)
        objects[SEGMENTATION_FILE] = segmentation(masks_on(grid, boxes, multiple), headers)
    return write_dicom(objects, out / FOLDER)


def masks_on(grid: Grid, boxes: dict[str, Box], multiple: bool) -> Masks:
    """Where each region is more probable than not, (slices, rows, columns) bool by (region, side).

    Slices in the order of the grid, or, of a multi-frame file (`multiple`), in that of its frames.
    """
    order = np.argsort(grid.order) if multiple else slice(None)
    masks = {}
    for region in STRUCTURES:
        for side, box in boxes.items():
            matrix = np.linalg.inv(box.affine) @ grid.affine
            values = ndimage.affine_transform(
                box.probability[region], matrix[:3, :3], matrix[:3, 3], grid.shape, order=1
            )
            masks[region, side] = (values > 0.5).transpose(2, 1, 0)[order]
    return masks

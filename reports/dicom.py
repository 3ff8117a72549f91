"""A person's report and segmentation as DICOM, for a picture archive: Encapsulated PDF and Segmentation.

Both carry the patient, study and (the segmentation) frame of reference of the T1's series: whoever has them knows who
the person is. They belong in a folder of their own, `FOLDER`, and `privacy_check` reports every one of them.

Codes are those of the lists 7150 (categories) and 7140 (brain structures for volumetric measurement) of DICOM PS3.16,
as pydicom carries them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import adni_tcgm
from adni_tcgm.files import write_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

FOLDER = "dicom-identifiable"
PDF_FILE, SEGMENTATION_FILE = "report.dcm", "segmentation.dcm"
NAME = "adni-tcgm"
NOTICE = "Research use only, not a diagnosis"
# Names of pydicom's dictionary of SNOMED CT, by what is segmented.
STRUCTURES = {
    "hippocampus": "Hippocampus",
    "amygdala": "Amygdala",
    "inferior_lateral_ventricle": "InferiorHornOfLateralVentricle",
}
SIDES = {"left": "Left", "right": "Right"}
# Far above the numbers of a scanner's series.
SERIES_NUMBERS = {PDF_FILE: 9001, SEGMENTATION_FILE: 9002}

# Of patient and study; a header may leave them out although it may not, and empty they may be.
MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

Masks = Mapping[tuple[str, str], np.ndarray]


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """The headers of a series' files, with every element of patient and study that DICOM lets be empty."""
    from pydicom import dcmread

    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    for header in headers:
        for name in MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
    return headers


def wrap_pdf(pdf: bytes, source: Dataset, identifiers: bool) -> Dataset:
    """An Encapsulated PDF object of the patient and study of `source`, a header of the T1's series.

    identifiers: whether the page itself shows them.
    """
    import highdicom
    from pydicom.uid import EncapsulatedPDFStorage

    document = highdicom.base.SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        specific_character_set="ISO_IR 192",
        series_description="Report",
        **_equipment(PDF_FILE),
    )
    document.copy_patient_and_study_information(source)
    now = datetime.now()
    document.ContentDate, document.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    document.AcquisitionDateTime = ""
    document.ConversionType = "WSD"  # by a workstation
    document.BurnedInAnnotation = "YES" if identifiers else "NO"
    document.DocumentTitle = NOTICE
    document.ConceptNameCodeSequence = []
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    document.EncapsulatedDocumentLength = len(pdf)
    return document


def segmentation(masks: Masks, sources: Sequence[Dataset]) -> Dataset:
    """A Segmentation object on the grid of the T1's series.

    masks: (slices or frames, rows, columns) bool by (region of STRUCTURES, side); sources: the headers of the slices in
    the same order, or the one header of a multi-frame file.
    """
    import highdicom

    segments = [_describe(number, *names) for number, names in enumerate(masks, start=1)]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack([*masks.values()], axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        instance_number=1,
        content_label="SEGMENTATION",
        content_description=NOTICE,
        series_description="Hippocampi and what adjoins them",
        **_equipment(SEGMENTATION_FILE),
    )


def write_dicom(objects: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Write each object by its file name and return the paths."""
    written = []
    for name, content in objects.items():
        buffer = io.BytesIO()
        content.save_as(buffer, enforce_file_format=True)
        write_bytes(folder / name, buffer.getvalue())
        written.append(folder / name)
    return written


def _equipment(file: str) -> dict[str, object]:
    """New series and object identifiers, and the software that made them."""
    from highdicom import UID

    return {
        "series_instance_uid": UID(),
        "sop_instance_uid": UID(),
        "series_number": SERIES_NUMBERS[file],
        "manufacturer": NAME,
        "manufacturer_model_name": NAME,
        "software_versions": adni_tcgm.__version__,
        "device_serial_number": "none",
    }


def _describe(number: int, region: str, side: str) -> Dataset:
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=f"{NAME} hippocampus", family=codes.DCM.ArtificialIntelligence, version=adni_tcgm.__version__
    )
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"{side.capitalize()} {region.replace('_', ' ')}",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=getattr(codes.SCT, STRUCTURES[region]),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    laterality = highdicom.sr.CodedConcept.from_code(getattr(codes.SCT, SIDES[side]))
    described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [laterality]
    return described

"""Methods in words, for a paper: what ran, with which versions, and references of what was used. As NiPreps do it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jinja2

from adni_tcgm import __version__
from adni_tcgm.files import write_text
from adni_tcgm.methods.registry import METHODS
from adni_tcgm.storage import Run
from preprocessing.intake.labels import LabelRule
from preprocessing.subject.plan import Recipe

PACKAGES = ("torch", "antspyx", "SimpleITK", "nibabel", "nilearn", "numpy", "scipy", "scikit-learn", "pandas")
REFERENCE_REGIONS = {
    "pons": "the pons (the brainstem of CerebrA from z = -44 to z = -24 mm)",
    "pons_vermis": "the hotter half of the voxels of pons and vermis",
    "cerebellum": "the whole cerebellum",
}
REFERENCES = {
    "bids": "Gorgolewski KJ, et al. The brain imaging data structure, a format for organizing and describing outputs "
    "of neuroimaging experiments. Scientific Data 2016;3:160044.",
    "apps": "Gorgolewski KJ, et al. BIDS Apps: improving ease of use, accessibility, and reproducibility of "
    "neuroimaging data analysis methods. PLoS Computational Biology 2017;13(3):e1005209.",
    "synthseg": "Billot B, et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without "
    "retraining. Medical Image Analysis 2023;86:102789.",
    "unet": "Ronneberger O, Fischer P, Brox T. U-Net: Convolutional networks for biomedical image segmentation. MICCAI "
    "2015.",
    "mixture": "Van Leemput K, Maes F, Vandermeulen D, Suetens P. Automated model-based tissue classification of MR "
    "images of the brain. IEEE Transactions on Medical Imaging 1999;18(10):897-908.",
    "n4": "Tustison NJ, et al. N4ITK: Improved N3 bias correction. IEEE Transactions on Medical Imaging "
    "2010;29(6):1310-1320.",
    "syn": "Avants BB, Epstein CL, Grossman M, Gee JC. Symmetric diffeomorphic image registration with "
    "cross-correlation. Medical Image Analysis 2008;12(1):26-41.",
    "template": "Fonov V, et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage "
    "2011;54(1):313-327.",
    "cerebra": "Manera AL, Dadar M, Fonov V, Collins DL. CerebrA, registration and manual label correction of "
    "Mindboggle-101 atlas for MNI-ICBM152 template. Scientific Data 2020;7:237.",
    "smoothing": "Joshi A, Koeppe RA, Fessler JA. Reducing between scanner differences in multi-center PET studies. "
    "NeuroImage 2009;46(1):154-159.",
    "muller-gartner": "Müller-Gärtner HW, et al. Measurement of radiotracer concentration in brain gray matter using "
    "positron emission tomography. Journal of Cerebral Blood Flow and Metabolism 1992;12(4):571-583.",
    "tcgm": "Sun X, Xu Y, Cao P, Kong Y, Hu L, Zhang S, Wang Y. TCGM: An information-theoretic framework for "
    "semi-supervised multi-modality learning. ECCV 2020. doi:10.1007/978-3-030-58580-8_11",
    "canonical": "Hotelling H. Relations between two sets of variates. Biometrika 1936;28(3/4):321-377.",
    "shrinkage": "Ledoit O, Wolf M. A well-conditioned estimator for large-dimensional covariance matrices. Journal of "
    "Multivariate Analysis 2004;88(2):365-411.",
    "combat": "Johnson WE, Li C, Rabinovic A. Adjusting batch effects in microarray expression data using empirical "
    "Bayes methods. Biostatistics 2007;8(1):118-127.",
    "combat-brain": "Fortin JP, et al. Harmonization of cortical thickness measurements across scanners and sites. "
    "NeuroImage 2018;167:104-120.",
}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Methods and citations</title></head><body>
<h1>Methods and citations</h1>
{% for title, paragraphs in sections %}<h2>{{ title }}</h2>
{% for text in paragraphs %}<p>{{ text }}</p>
{% endfor %}{% endfor %}<h2>References</h2>
<ol>{% for reference in references %}<li>{{ reference }}</li>
{% endfor %}</ol></body></html>
"""
Section = tuple[str, list[str]]


def write_boilerplate(folder: Path, recipe: Recipe, rule: LabelRule, runs: Sequence[Run] = ()) -> list[Path]:
    """Write `CITATION.md` and `CITATION.html` below `folder`. runs: what was trained; none at participant level."""
    cited: list[str] = []
    sections = [
        (title, [_number(text, cited) for text in paragraphs])
        for title, paragraphs in (*describe_preparation(recipe), *describe_training(runs, rule))
    ]
    lines = ["# Methods and citations", ""]
    for title, paragraphs in sections:
        lines += [f"## {title}", "", *(part for text in paragraphs for part in (text, ""))]
    lines += ["## References", "", *(f"{number}. {text}" for number, text in enumerate(cited, 1)), ""]
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(PAGE)
    contents = {"md": "\n".join(lines), "html": page.render(sections=sections, references=cited)}
    for ending, content in contents.items():
        write_text(folder / f"CITATION.{ending}", content)
    return [folder / f"CITATION.{ending}" for ending in contents]


def describe_preparation(recipe: Recipe) -> list[Section]:
    """What this recipe does to scans; [key] stands for an entry of REFERENCES."""
    t1 = (
        "Each T1 was reoriented to RAS, and the head, its tissues and the space inside the skull were "
        "segmented by a U-Net [unet] that was trained on images drawn from label maps [synthseg]. Slow shading was "
        "removed by the model of N4 [n4], fitted by least squares. Cortex, white matter and outer fluid were then told "
        "apart anew, a millimeter at a time, by a mixture of Gaussians with the network's answer as prior [mixture]. "
        "The network's tissues were registered to the "
        "template ICBM 152 2009c symmetric [template] by an affine map and SyN [syn] in ANTs, with iterations "
        f"{' x '.join(map(str, recipe.syn_iterations))}. Grey matter was multiplied by the Jacobian determinant of the "
        "whole map. Hippocampus and amygdala were segmented on the T1 itself by a second network of the same kind; the "
        "other regions are labels of CerebrA [cerebra] in template space."
    )
    first, last = recipe.pet_frames_min
    pet = (
        f"Of dynamic FDG-PETs the frames from {first:g} to {last:g} minutes after injection were averaged. Each PET "
        "was registered to its T1 by a rigid map (mutual information), taken to the template by one linear "
        "interpolation "
    )
    if recipe.pet_resolution_mm:
        pet += f"and smoothed to {recipe.pet_resolution_mm:g} mm FWHM where it resolved finer [smoothing]. "
    else:
        pet += "and left at its own resolution. "
    if recipe.partial_volume != "none":
        pet += "Uptake of grey matter was corrected for partial volume [muller-gartner]. "
    pet += f"SUVR is relative to {REFERENCE_REGIONS[recipe.reference]}."
    extra = " and, further, at 1 mm" if recipe.resolution_mm == 1 else ""
    maps = f"Maps lie on the template's grid at 2 mm{extra}. Recipe {recipe.hash}."
    software = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    apps = f"adni-tcgm {__version__} ran as a BIDS-App [apps] on a BIDS data set [bids], with {software}."
    return [("Software", [apps]), ("T1", [t1]), ("FDG-PET", [pet]), ("Maps", [maps])]


def describe_training(runs: Sequence[Run], rule: LabelRule) -> list[Section]:
    """Labels and trainings, from the records of the finished runs; nothing where there are none."""
    if not runs:
        return []
    labels = (
        "People with mild cognitive impairment at the scan who were diagnosed with dementia within "
        f"{rule.horizon_months:g} months are converters; those without at or after that time are stable; follow-up "
        "that ended before leaves a person unlabeled."
    )
    return [("Labels", [labels]), ("Classifiers", [_describe_run(run) for run in runs])]


def _describe_run(run: Run) -> str:
    metrics, data = run.metrics, run.config["data"]
    visible = metrics["labels"]["train_visible"]
    text = (
        f"{'SIMULATED data. ' if metrics['simulated'] else ''}{run.path.name}: one classifier for each modality on "
        f"{metrics['features']}, by {_cite_method(metrics['method'])}; {visible} visible labels (rate "
        f"{metrics['label_rate']:g}) among {metrics['n']['train']} training people, {metrics['n']['validation']} for "
        f"validation, {metrics['n']['test']} for the test; seed {metrics['seed']}."
    )
    if data["harmonize"] != "none":
        how = "ComBat [combat] [combat-brain]" if data["harmonize"] == "site" else data["harmonize"]
        text += f" Sites were harmonized by {how}, fitted on training people."
    if data["adjust"] == "tiv_age_sex":
        text += " Head size, age and sex were regressed out of volumes, age and sex out of SUVRs."
    if data.get("shared_limit") is not None:
        text += (
            " Directions in which MRI and PET correlated within diagnoses beyond "
            f"{data['shared_limit']:g} (canonical correlation [canonical], shrunk covariances [shrinkage]) were damped."
        )
    return text


def _cite_method(name: str) -> str:
    """The method and its reference: the one that its own module gives, where it is not in REFERENCES."""
    if name == "ce":
        return "cross-entropy on labeled people alone"
    if name in REFERENCES:
        return f"{name.upper()} [{name}]"
    about = importlib.import_module(METHODS[name].__module__).__doc__ if name in METHODS else ""
    found = re.search(r"Reference: (.+?)(?:\n\n|$)", about or "", re.DOTALL)
    return name + (f" ({' '.join(found[1].split()).rstrip('.')})" if found else "")


def _number(text: str, cited: list[str]) -> str:
    """[key] becomes [1]: the place of its reference in `cited`, to which it is added."""

    def place(found: re.Match[str]) -> str:
        reference = REFERENCES[found[1]]
        if reference not in cited:
            cited.append(reference)
        return f"[{cited.index(reference) + 1}]"

    return re.sub(r"\[([a-z][a-z0-9-]*)\]", place, text)

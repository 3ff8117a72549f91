"""What TRIPOD+AI and CLAIM ask to be reported: where this report says it, or why it does not.

Topics are in our words. TRIPOD+AI: Collins et al., BMJ 2024;385:e078378; its 27 items stand without numbers, as no
text of the list itself was at hand. CLAIM: Mongan, Moy & Kahn, Radiology: Artificial Intelligence 2020;2:e200029; its
numbers as far as they are listed by Koçak et al., Diagnostic and Interventional Radiology 2025;31:440 (1 to 20), and by
Gao et al., Journal of Evidence-Based Medicine 2026, doi 10.1111/jebm.70141 (33, 34, 41, 42).
"""

from __future__ import annotations

from dataclasses import dataclass

TRIPOD, CLAIM = "TRIPOD+AI", "CLAIM"


@dataclass(frozen=True)
class Item:
    """A topic, the guidelines that ask for it, and the answer: `where` in this report, or else `why_not`.

    claim: numbers in CLAIM, "" where CLAIM asks for it and the number was not at hand, None where it does not ask.
    """

    topic: str
    tripod: bool
    claim: str | None
    where: str = ""
    why_not: str = ""

    @property
    def asked_by(self) -> str:
        """The guidelines, with the number where one is known."""
        names = [TRIPOD] if self.tripod else []
        if self.claim is not None:
            names.append(f"{CLAIM} {self.claim}".strip())
        return ", ".join(names)


OURS = "a manuscript's; this is the report of a run"
ITEMS = (
    Item("title: kind of study, model, outcome, people", True, "1", "page 1, title: learned model, conversion, scans"),
    Item("structured abstract", True, "2", "page 1: five questions, each answered in words and one figure"),
    Item("medical background, intended use and users", True, "3", "README, footer: research only, no diagnosis"),
    Item("known health inequalities", True, None, why_not="not known of the people given; see For whom"),
    Item("objectives, hypotheses", True, "4", "page 1, How well, Against what"),
    Item("prospective or retrospective; goal", False, "5, 6", "retrospective, on finished follow-up; a model is made"),
    Item("source of data", True, "7", "Sources; for ADNI its acknowledgement"),
    Item("dates of accrual and follow-up", True, None, why_not="days are removed (privacy); follow-up is in months"),
    Item("setting and centers", True, None, "For whom: larger and smaller sites, field strength"),
    Item("eligibility; who was left out, and why", True, "8", "Who is in it; every scan in ledger.tsv"),
    Item("treatments received", True, None, why_not="not read from the tables"),
    Item("preparation of data", True, "9", "How well, first note; recipe.json; docs/guides/dicom.md"),
    Item("selection of subsets", False, "10", "Who is in it: flow; chosen_scans.tsv says why each scan"),
    Item("definitions of data elements; predictors", True, "11", "docs/reference/files.md; regions.tsv"),
    Item("removal of identifiers", False, "12", "pseudonyms here; docs/guides/privacy.md"),
    Item("missing data", True, "13", "without PET: MRI alone; missing clinical scores at the mean"),
    Item("outcome, reference standard, and why this one", True, "14, 15", "Who is in it: label definitions; Limits"),
    Item("who made the labels, with which tools", False, "16, 17", "clinicians of the cohort, at visits; not by us"),
    Item(
        "variability of the labels",
        False,
        "18",
        why_not="one diagnosis a visit is known; Does it hang on the label rule?",
    ),
    Item("sample size", True, "19", why_not="that of the cohort; page 1 says how wide this leaves the interval"),
    Item("partition of the data", True, "20", "Split and label budget"),
    Item("partitions disjoint by person", False, "", "Split and label budget: groups in two splits"),
    Item("model, inputs and outputs, software", True, "", "How well, first note; config.yaml, environment.json"),
    Item("initialization, training, choice of the final model", True, "", "How well, first note; history.tsv"),
    Item("imbalance of classes", True, None, "Split and label budget; Is it worth acting on, at a prevalence"),
    Item("fairness between groups", True, None, "For whom: age, sex, head size; not ethnicity or schooling"),
    Item("measures of performance, and their uncertainty", True, "", "All numbers; 95 % intervals throughout"),
    Item("robustness, sensitivity analyses", False, "", "Does it hang on the label rule?; docs/results.md"),
    Item("explainability", False, "", "reports of single people: what carried it"),
    Item("test on external data", True, "", why_not="not in this report: pipelines.validate writes one of its own"),
    Item("flow of participants", True, "33", "page 1; Who is in it"),
    Item("characteristics of participants", True, "34", "Table 1, by outcome; not by partition"),
    Item("discrimination and calibration", True, "", "How well; Can the probability be believed?"),
    Item("clinical usefulness", True, None, "Is it worth acting on?: decision curve"),
    Item("updating of the model", True, None, why_not="nothing was updated"),
    Item("failures: who is misclassified", False, "", "For whom; QC and failures in ledger.tsv, qc.html"),
    Item("full model, so that others can use it", True, None, "weights.safetensors; pipelines.predict"),
    Item("interpretation", True, "", why_not=OURS),
    Item("limitations, generalizability", True, "", "page 1, What limits it; Limits"),
    Item("ethical approval", True, None, why_not="that of the cohort; its owners' to state"),
    Item("protocol, registration", True, "41", why_not="not registered"),
    Item("access to data and code", True, "41", "code: this software, by the model's hash; data: their owners"),
    Item("funding, conflicts of interest", True, "42", why_not=OURS),
    Item("patients and the public involved", True, None, why_not=OURS),
)


def checklist_rows() -> list[dict[str, str]]:
    """A row per topic: topic, asked_by, answer, and whether it is answered here ("yes" or "no")."""
    return [
        {
            "topic": item.topic,
            "asked_by": item.asked_by,
            "answer": item.where or f"No: {item.why_not}",
            "answered": "yes" if item.where else "no",
        }
        for item in ITEMS
    ]

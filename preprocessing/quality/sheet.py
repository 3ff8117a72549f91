"""One page over a whole cohort: `prepared/qc.html`, a row per person with verdicts, numbers and pictures."""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from adni_tcgm.files import write_bytes
from preprocessing.quality import overrides, pictures, rating

FILE = "qc.html"
VERDICTS = ("fail", "failed", "warn", "pass")  # worst first; "failed": no maps at all

SHOWN_CHECKS = 3

STYLE = """
:root { color-scheme: light; font: 14px/1.45 system-ui, sans-serif; color: #1c2127; background: #f6f7f9 }
body { margin: 0 auto; max-width: 1500px; padding: 1.2rem }
h1 { font-size: 1.3rem; margin: 0 0 .2rem }
header p { margin: .2rem 0; color: #4d5661; max-width: 70rem }
nav { position: sticky; top: 0; z-index: 1; background: #f6f7f9; padding: .6rem 0; display: flex; flex-wrap: wrap;
  gap: .4rem }
button { font: inherit; padding: .25rem .8rem; border: 1px solid #c3c9d1; border-radius: 1rem; background: #fff;
  cursor: pointer }
button[aria-pressed=true] { background: #1c2127; color: #fff; border-color: #1c2127 }
article { background: #fff; border: 1px solid #dde1e6; border-left: 6px solid #98a2ad; border-radius: 6px;
  margin: .7rem 0; padding: .7rem .9rem; scroll-margin-top: 3.5rem }
article[hidden] { display: none }
article:focus { outline: 3px solid #2166ac }
.said { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem 2rem; align-items: start }
summary { cursor: pointer; color: #4d5661; font-size: .85rem }
article.pass { border-left-color: #2f8f5b } article.warn { border-left-color: #d69a1f }
article.fail, article.failed { border-left-color: #c63d3d }
h2 { font-size: 1rem; margin: 0 0 .3rem; overflow-wrap: anywhere }
.badge { font-size: .8rem; padding: .05rem .5rem; border-radius: .8rem; color: #fff; background: #6a737d }
.badge.pass { background: #267549 } .badge.warn { background: #8a5f00 }
.badge.fail, .badge.failed { background: #c63d3d }
ul { margin: .3rem 0; padding-left: 1.1rem; overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums }
td, th { padding: .05rem .7rem .05rem 0; text-align: left; font-weight: normal }
td:nth-child(2) { text-align: right }
tr.warn { color: #8a5f00; font-weight: 600 } tr.fail { color: #b02a2a; font-weight: 600 }
figure { margin: .6rem 0 0 } figcaption { font-size: .78rem; color: #4d5661 }
.key { display: inline-block; width: .8rem; height: .35rem; margin: 0 .3rem 0 .2rem; outline: 1px solid #98a2ad }
img { display: block; width: 100%; height: auto; background: #000; border-radius: 3px }
kbd { border: 1px solid #c3c9d1; border-radius: 3px; padding: 0 .3em; background: #fff }
@media (max-width: 900px) { .said { grid-template-columns: minmax(0, 1fr) } }
@media (max-width: 640px) {
  nav { position: static } article { scroll-margin-top: 0 }
  .picture { overflow-x: auto } .picture img { width: 900px }
}
"""

SCRIPT = """
const filters = document.querySelectorAll("nav button[data-verdict]");
for (const button of filters) button.onclick = () => {
  for (const other of filters) other.setAttribute("aria-pressed", other === button);
  const wanted = button.dataset.verdict;
  for (const row of document.querySelectorAll("article"))
    row.hidden = wanted !== "all" && !row.classList.contains(wanted);
};
const choices = { p: "pass", w: "warn", f: "fail" };
document.addEventListener("keydown", (event) => {
  if (/INPUT|SELECT/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
  const shown = [...document.querySelectorAll("article:not([hidden])")];
  const at = shown.indexOf(document.activeElement.closest("article"));
  if (event.key === "j" || event.key === "k") {
    const next = shown[Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), shown.length - 1)];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView(); }
  } else if (event.key in choices && at >= 0) {
    const field = shown[at].querySelector("fieldset");
    if (!field) return;
    field.querySelector("select").value = choices[event.key];
    field.dispatchEvent(new Event("change", { bubbles: true }));
    field.querySelector("input").focus();
    event.preventDefault();
  }
});
"""


def write_contact_sheet(prepared: Path, said: overrides.Overrides | None = None) -> Path:
    """Write `prepared/qc.html` from manifest, ledger, `*_qc.json` and the pictures; returns its path.

    The page needs no network: style and script are inside, pictures lie beside it and are named relative to it, so
    that a cohort of hundreds stays quick to open. It shows people, not summaries: it is as private as the scans.
    said: the verdicts of people, which the page shows beside those of the checks, and lets a reader change and save.
    """
    said = said or overrides.Overrides({})
    manifest, ledger = (
        pd.read_csv(prepared / f"{name}.tsv", sep="\t", dtype=str, keep_default_na=False)
        for name in ("manifest", "ledger")
    )
    raw = manifest.kind == "raw"
    scanned = ledger[(ledger.status == "failed") & (ledger.modality == "mri")]
    scanned = pd.concat([manifest[raw], scanned])[["participant_id", "session_id"]].drop_duplicates()
    people = [tuple(row) for row in scanned.itertuples(index=False)]
    rows_of = {key: ledger[(ledger.participant_id == key[0]) & (ledger.session_id == key[1])] for key in people}
    verdicts = {key: _verdict(rows) for key, rows in rows_of.items()}
    order = sorted(verdicts, key=lambda key: (_rank(verdicts[key]), key))
    rows = [_row(prepared, key, verdicts[key], rows_of[key], said) for key in order]
    path = prepared / FILE
    write_bytes(path, _page(rows, Counter(verdicts.values()), int((~raw).sum()), said).encode())
    return path


def _verdict(ledger: pd.DataFrame) -> str:
    """The worst that the rows of one person's visit say."""
    if ((ledger.status == "failed") & (ledger.modality == "mri")).any():
        return "failed"
    verdicts = {overrides.verdict_of(row) for row in ledger.itertuples()}
    if (ledger.status == "failed").any() or "fail" in verdicts:
        return "fail"
    return "warn" if "warn" in verdicts else "pass"


def _rank(verdict: str) -> int:
    return VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS)


def _page(rows: list[str], counts: Counter[str], given: int, said: overrides.Overrides) -> str:
    buttons = [("all", sum(counts.values())), *((v, counts[v]) for v in sorted(counts, key=_rank))]
    filters = "".join(
        f'<button data-verdict="{escape(verdict)}" aria-pressed="{str(verdict == "all").lower()}">'
        f"{escape(verdict)} {number}</button>"
        for verdict, number in buttons
    )
    arrived = f" Arrived prepared, without scans to look at: {given}." if given else ""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quality control</title>
<style>{STYLE}{rating.STYLE}</style>
<header>
<h1>Quality control of the preprocessing</h1>
<p>Worst first. The person's right is shown on the left, as the header has it: no check can tell a scan whose header
has left and right exchanged, unless its PET disagrees.{arrived}</p>
<p>This page shows data of single participants: do not redistribute.</p>
<p>You may set another verdict, with a reason: save the file below into this folder, and the next run obeys it.
Keys: <kbd>j</kbd> and <kbd>k</kbd> step through people, <kbd>p</kbd>, <kbd>w</kbd> and <kbd>f</kbd> set the first scan
to pass, warn or fail and ask for the reason.</p>
{rating.problems(said)}</header>
<nav>{filters}{rating.controls()}</nav>
<main>
{"".join(rows)}</main>
<script>{SCRIPT}</script>
{rating.script(said)}
</html>
"""


def _row(prepared: Path, visit: tuple[str, str], verdict: str, ledger: pd.DataFrame, said: overrides.Overrides) -> str:
    participant, session = visit
    folder, name = prepared / participant / session, f"{participant}_{session}"
    remarks = "".join(
        f"<li>{escape(row.modality)} {escape(row.status)}: {escape(row.reason)}</li>"
        for row in ledger.itertuples()
        if row.reason
    )
    marks = "".join(
        rating.marks(row, said.by_scan.get((*visit, row.modality)))
        for row in ledger.itertuples()
        if overrides.has_maps(row)
    )
    return (
        f'<article class="{escape(verdict)}" id="{escape(participant)}" tabindex="-1">\n'
        f"<h2>{escape(participant)} {escape(session)} "
        f'<span class="badge {escape(verdict)}">{escape(verdict)}</span></h2>\n'
        f"{f'<ul>{remarks}</ul>' if remarks else ''}"
        f'<div class="said"><div>{_numbers(folder / f"{name}_qc.json")}</div><div>{marks}</div></div>\n'
        f"{_pictures(prepared, folder / 'figures' / name)}</article>\n"
    )


def _numbers(path: Path) -> str:
    """The three checks that matter most, and the rest folded away; nothing where there are none."""
    if not path.is_file():
        return ""
    checks = sorted(json.loads(path.read_text(encoding="utf-8"))["Checks"], key=_urgency)
    rest = checks[SHOWN_CHECKS:]
    folded = f"<details><summary>{len(rest)} more checks</summary>{_table(rest)}</details>" if rest else ""
    return f"{_table(checks[:SHOWN_CHECKS])}{folded}"


def _urgency(check: dict) -> tuple[int, float]:
    """Worst verdict first, then nearest to its limit: the distance to the warning in units of warning to failing."""
    limits = check["threshold"]
    room = abs(limits["warn"] - limits["fail"]) or 1.0
    return _rank(check["verdict"]), abs(check["value"] - limits["warn"]) / room


def _table(checks: list[dict]) -> str:
    lines = []
    for check in checks:
        limits = check["threshold"]
        sign = "≥" if limits["warn"] >= limits["fail"] else "≤"
        cells = (check["name"].replace("_", " "), f"{check['value']:.4g}", f"{sign} {limits['warn']:g}")
        lines.append(f'<tr class="{escape(check["verdict"])}">{"".join(f"<td>{escape(c)}</td>" for c in cells)}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _pictures(prepared: Path, prefix: Path) -> str:
    figures = []
    for name, picture in pictures.PICTURES.items():
        path = pictures.path_of(prefix, name)
        if path.is_file():
            source = quote(path.relative_to(prepared).as_posix())
            figures.append(
                f'<figure><div class="picture"><img loading="lazy" src="{escape(source)}" '
                f'alt="{escape(picture.caption)}"></div>'
                f"<figcaption>{escape(picture.caption)}: {_legend(picture)}</figcaption></figure>"
            )
    return "".join(figures) or "<p>No pictures.</p>"


def _legend(picture: pictures.Picture) -> str:
    return ", ".join(
        f'<span class="key" style="background:{color}"></span>{escape(words)}' for color, words in picture.contours
    )

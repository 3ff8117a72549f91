"""The part of the contact sheet in which a person sets verdicts and saves them as `qc_overrides.tsv`, without a server.

The page cannot write into the prepared folder: the browser saves a download, which the person puts there.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape

from preprocessing.ledger import LedgerRow
from preprocessing.quality import overrides
from preprocessing.quality.limits import VERDICTS

STYLE = """
fieldset { border: 0; margin: .5rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: .4rem;
  align-items: baseline; min-width: 0 }
fieldset input { flex: 1; min-width: 5rem } select, input { font: inherit; padding: .1rem .3rem }
nav label { margin-left: auto } .problems { color: #b02a2a }
"""

# `overridesText` stands alone, so that it can be run without a page.
SCRIPT = """
function overridesText(columns, said, marks, rater, unread) {
  const plain = (text) => text.replace(/\\s+/g, " ").trim();
  const key = (row) => [row.participant_id, row.session_id, row.modality].join("\\t");
  const rows = new Map(said.map((row) => [key(row), row]));
  for (const mark of marks) {
    const before = rows.get(key(mark));
    if (!mark.verdict) rows.delete(key(mark));
    else if (!before || before.verdict !== mark.verdict || before.reason !== plain(mark.reason)) {
      if (!plain(mark.reason) || !plain(rater)) throw new Error(
        `${mark.participant_id} ${mark.session_id}: a verdict needs ${plain(mark.reason) ? "a rater" : "a reason"}`);
      rows.set(key(mark), {...mark, reason: plain(mark.reason), rater: plain(rater)});
    }
  }
  const lines = [...rows.values()].map((row) => columns.map((name) => row[name]).join("\\t"));
  return [columns.join("\\t"), ...lines, ...unread].join("\\n") + "\\n";
}
"""
PAGE_SCRIPT = """
{
  const data = JSON.parse(document.getElementById("said").textContent);
  const fields = document.querySelectorAll("fieldset");
  let changed = false;
  for (const field of fields) field.onchange = () => { changed = true; };
  document.getElementById("save").onclick = () => {
    const marks = [...fields].map((field) => ({...field.dataset, participant_id: field.dataset.participant,
      session_id: field.dataset.session, verdict: field.querySelector("select").value,
      reason: field.querySelector("input").value}));
    let text;
    try {
      text = overridesText(data.columns, data.said, marks, document.getElementById("rater").value, data.unread);
    } catch (error) { alert(error.message); return; }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "text/tab-separated-values"}));
    link.download = data.file;
    link.click();
    changed = false;
  };
  window.onbeforeunload = (event) => { if (changed) event.preventDefault(); };
}
"""


def controls() -> str:
    """Who rates, and the button that saves."""
    return (
        '<label>Rater <input id="rater" size="8"></label>'
        f'<button id="save" type="button" title="Put it into this folder and run again">Save {overrides.FILE}</button>'
    )


def marks(row: LedgerRow, said: overrides.Override | None) -> str:
    """The choice of a verdict on one scan, as it was last made."""
    checks = f"as the checks say ({row.automatic})" if row.automatic else "not rated"
    chosen, reason = (said.verdict, said.reason) if said else ("", "")
    options = "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{escape(value or checks)}</option>'
        for value in ("", *VERDICTS)
    )
    ids = f'data-participant="{escape(row.participant_id)}" data-session="{escape(row.session_id)}"'
    scan = "T1" if row.modality == "mri" else "PET"
    return (
        f'<fieldset {ids} data-modality="{escape(row.modality)}">{scan}'
        f'<select aria-label="verdict on the {scan}">{options}</select>'
        f'<input aria-label="reason" placeholder="reason" value="{escape(reason)}"></fieldset>'
    )


def problems(found: overrides.Overrides) -> str:
    """The lines of the file that are not obeyed, with what is wrong."""
    lines = "".join(f"<li>{escape(str(problem))}</li>" for problem in found.problems)
    return f'<p class="problems">Not obeyed in {overrides.FILE}:</p><ul class="problems">{lines}</ul>' if lines else ""


def script(found: overrides.Overrides) -> str:
    """All that saving needs: the verdicts of the file, scan by scan, and the lines that could not be read."""
    said = [asdict(override) | {"modality": scan[2]} for scan, override in found.by_scan.items()]
    unread = [problem.text for problem in found.problems if not problem.read]
    data = {"file": overrides.FILE, "columns": overrides.COLUMNS, "said": said, "unread": unread}
    content = json.dumps(data).replace("<", "\\u003c")
    return f'<script type="application/json" id="said">{content}</script>\n<script>{SCRIPT}{PAGE_SCRIPT}</script>'

"""Pages in a headless browser that reaches no host."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

# `contrasts()`: of every text that is shown, folded or not, its WCAG 2 contrast with what it stands on, and the
# contrast that AA wants: 3 for large text (24 px, or 18.66 px and bold), 4.5 for all other.
# `requests()`: what the page asked for that was not in it. `press(key, place)`: a key, as if it were struck there.
TOOLS = """
const rgba = (text) => { const found = text.match(/^rgba?[(](.*)[)]$/)[1].split(",").map(Number); return found.length < 4 ? [...found, 1] : found; };
const over = ([r, g, b, a], under) => [r, g, b].map((value, i) => a * value + (1 - a) * under[i]);
const luminance = (color) => color.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => element ? over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255];
function contrasts() {
  document.querySelectorAll("details").forEach((folded) => { folded.open = true; });
  const found = [];
  const look = (text, element, style) => {
    const under = ground(element), [dark, bright] = [luminance(under), luminance(over(rgba(style.color), under))].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    found.push({ text: text.trim().slice(0, 60), contrast: (bright + 0.05) / (dark + 0.05), wanted: large ? 3 : 4.5 });
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() && element.checkVisibility({ visibilityProperty: true })) look(walker.currentNode.data, element, getComputedStyle(element));
  }
  for (const field of document.querySelectorAll("input[placeholder]")) look(field.placeholder, field, getComputedStyle(field, "::placeholder"));
  return found;
}
const requests = () => performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !/^(data|blob):/.test(name));
const press = (key, place) => place.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
"""  # noqa: E501 (a script)


def dump(page: Path, profile: Path, size: str = "1000,1500") -> str:
    """The page's DOM after its scripts have run. The browser's narrowest window is 500 wide."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
    command += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--virtual-time-budget=60000", f"--window-size={size}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout


def probe(page: Path, script: str, profile: Path, ready: str = "true", size: str = "1000,1500") -> dict[str, Any]:
    """What `script`, with TOOLS at hand, left in `found` once `ready` held in the page."""
    before, end, after = page.read_text(encoding="utf-8").rpartition("</body>")  # the viewer's script has one, too
    if not end:
        before, end, after = page.read_text(encoding="utf-8").rpartition("</html>")
    added = f"""<script>{{{TOOLS}
const waiting = setInterval(() => {{
  if (!({ready})) return;
  clearInterval(waiting);
  const found = {{}};
  try {{ {script} }} catch (error) {{ found.error = String(error); }}
  const probe = document.createElement("div");
  probe.id = "probe";
  probe.textContent = JSON.stringify(found);
  document.body.append(probe);
}}, 100);
}}</script>"""
    probed = page.with_name(f"probed_{page.name}")
    probed.write_text(before + added + end + after, encoding="utf-8")
    found = json.loads(unescape(re.search(r'<div id="probe">([^<]*)', dump(probed, profile, size))[1]))
    assert "error" not in found, found["error"]
    return found


def too_faint(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `contrasts()` below what WCAG AA wants."""
    return [text for text in found if text["contrast"] < text["wanted"]]

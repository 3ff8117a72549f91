"""What the site needs beyond Markdown: pages from outside docs/, links between them, and equations without a script."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages of the site as well.
RESULTS = ("benchmarks/RESULTS.md", "benchmarks/history.md")
OUTSIDE = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", *RESULTS)
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)((?:#[^)]*)?\))")
EQUATION = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    for name in OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links are written as GitHub reads them, relative to a file's place in the repository; equations as ```math."""
    here = page.file.src_uri
    in_repository = here if here in OUTSIDE else f"docs/{here}"

    def to_site(found: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), found[2]))
        if target not in OUTSIDE and not target.startswith("docs/"):
            return found[0]
        return found[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here)) + found[3]

    markdown = EQUATION.sub(lambda found: convert(found[1].strip(), display="block") + "\n", markdown)
    return LINK.sub(to_site, markdown)

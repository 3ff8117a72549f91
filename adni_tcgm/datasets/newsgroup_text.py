"""Usenet posts of 20 Newsgroups, from wherever they lie, as lists of words."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from sklearn.datasets import fetch_20newsgroups
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

ENCODING = "latin-1"
# The longest of the 18,846 posts has 0.2 MB; an archive may claim anything.
MAX_POST_BYTES = 16 * 2**20
SUBJECT = re.compile(r"^subject:(.*)$", re.IGNORECASE | re.MULTILINE)
WORD = re.compile(r"\b[a-z]{3,}\b")
# What names a class inside a text: lines of forwarded headers, also behind quote marks, and names of groups.
NAMES_A_GROUP = re.compile(
    r"^[ \t>|:]*(?:newsgroups|xref|path|followup-to)[ \t]*:.*$|\b(?:alt|comp|misc|rec|sci|soc|talk)(?:\.[a-z0-9+-]+)+",
    re.IGNORECASE | re.MULTILINE,
)

Posts = dict[str, dict[str, list[str]]]


def read_posts(path: str, groups: Sequence[str]) -> Posts:
    """group -> post id -> its words, both sorted, for posts that belong to one of the groups alone and have words.

    path: a folder or a tar archive (compressed or not) with files `…/<group>/<post id>`, or "" for scikit-learn's
    `fetch_20newsgroups`, which downloads once and keeps its own copy. Archives are read member by member; nothing
    is extracted. A post that went to two of the groups has no class of its own and is left out; of the same text sent
    to a group twice, one stays.

    Raises FileNotFoundError where the path is missing, ValueError for an unreadable archive or a group without posts.
    """
    source = _fetch(groups) if not path else _scan(Path(path), set(groups))
    texts: Posts = {group: {} for group in groups}
    for group, post_id, text in source:
        texts[group][post_id] = words(body(text))
    posts = _drop_repeated({group: dict(sorted(found.items())) for group, found in texts.items()})
    for group, found in posts.items():
        if not found:
            raise ValueError(f"{path or 'fetch_20newsgroups'}: no posts of {group}; expected files …/{group}/<post id>")
    return posts


def body(post: str) -> str:
    """The subject line and the text below the header, which ends at the first empty line.

    The rest of the header goes: its "Newsgroups:" line names the class. Names of groups go wherever they stand. Quotes
    and signatures stay, as they seem to have in the published data: with them, views built here have about as many
    non-zeros a document as NGs.mat.
    """
    header, _, text = post.replace("\r\n", "\n").partition("\n\n")
    return NAMES_A_GROUP.sub("", "\n".join([*SUBJECT.findall(header), text]))


def words(text: str) -> list[str]:
    """Lower-case words of three letters or more, in order, without the English stop words of scikit-learn.

    >>> words("The Shuttle was launched in 1990, and it flew")
    ['shuttle', 'launched', 'flew']
    """
    return [word for word in WORD.findall(text.lower()) if word not in ENGLISH_STOP_WORDS]


def _drop_repeated(posts: Posts) -> Posts:
    homes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for group, found in posts.items():
        for text in found.values():
            homes[tuple(text)].add(group)
    kept: Posts = {}
    for group, found in posts.items():
        first: dict[tuple[str, ...], str] = {}
        for name, text in found.items():
            first.setdefault(tuple(text), name)
        kept[group] = {name: list(text) for text, name in first.items() if text and len(homes[text]) == 1}
    return kept


def _fetch(groups: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    found = fetch_20newsgroups(subset="all", categories=list(groups), shuffle=False, remove=())
    for text, target, file in zip(found.data, found.target, found.filenames, strict=True):
        yield found.target_names[target], Path(file).name, text


def _scan(path: Path, groups: set[str]) -> Iterator[tuple[str, str, str]]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: nothing here; expected the posts as a folder or a .tar.gz, or an NGs.mat")
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.parent.name in groups and file.is_file():
                yield file.parent.name, file.name, file.read_text(ENCODING)
        return
    try:
        # Not as a pipe ("r|*"), which takes a file cut short for a shorter one.
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.parent.name in groups and member.isfile():
                    if member.size > MAX_POST_BYTES:
                        raise ValueError(f"{path}: {name} has {member.size} bytes; no post is that long")
                    yield name.parent.name, name.name, archive.extractfile(member).read().decode(ENCODING)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as a tar archive of posts: {error}") from error

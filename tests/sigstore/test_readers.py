"""Who reads whose signatures: the table in docs/sigstore.md, cell by cell, in both registries.

``SIGSTORE_TABLE=write .venv/bin/pytest tests/sigstore/test_readers.py`` writes the table as it comes out.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from countersign.console.config import ROOT
from tests.sigstore.signatures import READERS, SIGNERS, SUBJECTS, Scene

pytestmark = pytest.mark.interop
DOCUMENT = ROOT / "docs" / "sigstore.md"
BETWEEN = re.compile(r"(?<=<!-- who reads whose signatures -->\n).*?(?=<!-- end -->)", re.DOTALL)
Cells = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def cells() -> Iterator[Cells]:
    """Gather what came out, and write it where that is asked for."""
    found: Cells = defaultdict(lambda: defaultdict(set))
    yield found
    if os.environ.get("SIGSTORE_TABLE") == "write":
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(BETWEEN.sub(lambda _: table(found), text), encoding="utf-8")


def table(found: Cells) -> str:
    lines = [("signed by", *READERS), ("---",) * (1 + len(READERS))]
    lines += [(row, *(" / ".join(sorted(each[reader])) for reader in READERS)) for row, each in found.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def documented(row: str, reader: str) -> str:
    """Return a cell of the table in the document."""
    written = BETWEEN.search(DOCUMENT.read_text(encoding="utf-8"))
    assert written
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in written[0].splitlines())
    return next((each[head.index(reader)] for each in rows if each[0] == row), "nothing")


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("signer", SIGNERS)
def test_each_reads_what_the_table_says(scene: Scene, signer: str, subject: str, cells: Cells) -> None:
    SIGNERS[signer](scene, SUBJECTS[subject])
    row = f"{signer}: {subject}"
    for reader, reads in READERS.items():
        why = reads(scene, scene.expects(SUBJECTS[subject]))
        cell = f"no: {why}" if why else "yes"
        cells[row][reader].add(cell)
        if os.environ.get("SIGSTORE_TABLE") != "write":
            assert cell == documented(row, reader), f"{reader}, of {row}"

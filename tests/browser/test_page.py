"""The report in a real browser: what its scripts make of it, and that they may do nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab.report.browser import run
from lab.report.write import HERE, write


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with one document of two rows, of which one failed."""
    folder = tmp_path / "report"
    folder.mkdir()
    rows = [
        {
            "id": f"{image}/pull",
            "image": image,
            "way": "cached before the policy was tightened, then started under another name",
            "layer": {"expected": "pull", "actual": "pull"},
            "allow": {"expected": False, "actual": bool(differences)},
            "code": {"expected": "UNSIGNED", "actual": "UNSIGNED"},
            "cri_ms": 1.0,
            "gate_ms": 1.0,
            "by": {"expected": "", "actual": ""},
            "excused": "" if differences else "pull decides: an engine that reads no bundles says otherwise",
            "message": "<script>document.title = 'hacked'</script>",
            "differences": differences,
            "repeat": f"./inv containerd.test --only {image}/pull",
        }
        for image, differences in (("good", []), ("bad", ["it started"]))
    ]
    document = {
        "version": "countersign.trials/v1",
        "kind": "matrix",
        "runtime": "containerd",
        "node": "n1",
        "rows": rows,
    }
    (folder / "containerd-n1.json").write_text(json.dumps(document))
    return tmp_path


def test_the_page_works_and_shows_every_row(state: Path) -> None:
    page = run(write(state), ["--dump-dom"])
    assert "<title>countersign: 2 trials, 1 failed</title>" in page
    assert len(re.findall(r"<tr[^>]* data-kind=", page)) == 2
    assert len(re.findall(r'<tr class="failed"', page)) == 1
    assert '<form aria-label="Filter">' in page  # its own script took `hidden` away
    assert page.count(">copy</button>") == 2


@pytest.mark.parametrize(
    ("act", "hidden"),
    [
        ("form.elements.failures.checked = true", ["good"]),
        ("form.elements.image.value = 'good'", ["bad"]),
        ("form.elements.text.value = 'BAD/pull'", ["good"]),
        ("", []),
    ],
)
def test_filters_hide_what_does_not_fit(
    state: Path, monkeypatch: pytest.MonkeyPatch, act: str, hidden: list[str]
) -> None:
    changed = state / "changed"
    changed.mkdir()
    for name in ("page.html.j2", "page.css"):
        (changed / name).write_bytes((HERE / name).read_bytes())
    (changed / "page.js").write_text(f"{(HERE / 'page.js').read_text()}\n{act};\nfilter();\n")
    monkeypatch.setattr("lab.report.write.HERE", changed)
    page = run(write(state), ["--dump-dom"])
    rows = re.findall(r"<tr([^>]*) data-kind=[^>]*data-image=\"(\w+)\"([^>]*)>", page)
    assert [image for before, image, after in rows if "hidden" in before + after] == hidden
    assert f'<span id="shown">{2 - len(hidden)}</span>' in page


def test_a_script_that_is_not_the_pages_own_does_not_run(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write(state)
    page.write_text(page.read_text().replace("</main>", "</main><script>document.title = 'hacked'</script>"))
    assert "<title>countersign: 2 trials, 1 failed</title>" in run(page, ["--dump-dom"])


@pytest.mark.parametrize("width", [420, 800, 1100, 1101, 1400, 1600])
def test_the_page_fits_and_shows_the_whole_command(state: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """What the page's own script measures at a width, told in the title: nothing lies beyond the edge."""
    document = json.loads((state / "report" / "containerd-n1.json").read_text())
    document["node"] = "a-machine-with-quite-a-long-name.lab.example"
    for row in document["rows"]:
        row["repeat"] = "./inv containerd.test --on ssh://operator@a-machine.lab.example --only " + "x/" * 40
        row["differences"] = ["expected " + "sha256:" + "a" * 64]
    (state / "report" / "containerd-n1.json").write_text(json.dumps(document))
    changed = state / "changed"
    changed.mkdir()
    for name in ("page.html.j2", "page.css"):
        (changed / name).write_bytes((HERE / name).read_bytes())
    measure = """
    document.documentElement.style.width = "WIDTHpx";  // a window is not narrower than 500
    const beyond = [...document.querySelectorAll("body *")].filter(
      (each) => each.getBoundingClientRect().right > WIDTH
        || (each.tagName === "CODE" && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0));
    document.title = `${window.innerWidth} ${beyond.map((each) => each.tagName).join()} `
      + `${document.querySelectorAll("td.repeat code").length}`;
    """
    (changed / "page.js").write_text((HERE / "page.js").read_text() + measure.replace("WIDTH", str(width)))
    monkeypatch.setattr("lab.report.write.HERE", changed)
    page = run(write(state), ["--dump-dom", f"--window-size={width},900", "--hide-scrollbars"])
    [title] = re.findall(r"<title>(.*?)</title>", page)
    assert title == f"{max(width, 500)}  2"

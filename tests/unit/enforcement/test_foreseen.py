"""A plan says what a node runs that would be refused, and leaves nothing on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement import foreseen
from countersign.enforcement.layout import Layout
from countersign.nodes.host import HostNode

RUNS = {
    "container": "c1",
    "namespace": "shop",
    "pod": "web",
    "name": "app",
    "image": "registry.example/app:v1",
    "allow": False,
    "code": "UNSIGNED",
    "message": "…",
    "scope": "registry.example",
    "remedy": "pinned: [registry.example/app@sha256:aa]",
}
CACHED = {"image": "quay.example/tool:v2", "allow": False, "code": "NO_SCOPE", "message": "…"}
GOOD = {"image": "registry.example/good:v1", "allow": True, "code": "OK", "message": "…"}


def document(containers: list[Any], images: list[Any], **more: Any) -> dict[str, Any]:
    return {"version": foreseen.VERSION, "containers": containers, "images": images, "notJudged": 0, **more}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(**{name: f"{tmp_path}/{name}" for name in Layout.__dataclass_fields__})


@pytest.fixture
def asked(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> foreseen.AuditRequest:
    (tmp_path / "nodes").mkdir()
    monkeypatch.setattr(foreseen, "FOLDER", f"{tmp_path}/nodes")
    return foreseen.AuditRequest(layout, tmp_path / "gate", b"{}", b'{"auths": {}}', "crio", "/run/crio.sock")


def gate(asked: foreseen.AuditRequest, answer: object, code: int) -> None:
    """Have a program in the place of the gate that keeps its arguments and what they name."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    asked.program.with_suffix(".answer").write_text(text)
    asked.program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked.program}.argv\nls "$TMPDIR" > {asked.program}.files\n'
        f"cat {asked.program}.answer\necho 'error: audit: no such socket' >&2\nexit {code}\n"
    )


def argv(asked: foreseen.AuditRequest) -> list[str]:
    return Path(f"{asked.program}.argv").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 1])
def test_a_node_without_a_gate_is_asked_by_what_set_up_would_bring(asked: foreseen.AuditRequest, code: int) -> None:
    answer = document([RUNS], [GOOD])
    gate(asked, answer, code)
    assert foreseen.audit(HostNode(), asked) == answer
    given = argv(asked)
    assert given[given.index("--runtime") + 1 : given.index("--runtime") + 2] == ["crio"]
    assert given[given.index("--socket") + 1] == "/run/crio.sock"
    assert "--certs-dir" not in given
    assert "--config" not in given
    assert set(Path(f"{asked.program}.files").read_text().split()) == {"countersign-gate", "policy.json", "docker.json"}
    assert list(Path(foreseen.FOLDER).iterdir()) == []


def test_a_node_with_a_gate_is_asked_with_its_evidence(asked: foreseen.AuditRequest) -> None:
    Path(asked.layout.gate_config).parent.mkdir(parents=True)
    Path(asked.layout.gate_config).write_text("{}")
    gate(asked, document([], []), 0)
    foreseen.audit(HostNode(), asked)
    given = argv(asked)
    assert given[given.index("--config") + 1] == asked.layout.gate_config
    assert "--runtime" not in given


def test_the_nodes_own_registries_are_used(asked: foreseen.AuditRequest) -> None:
    Path(asked.layout.certs).mkdir(parents=True)
    gate(asked, document([], []), 0)
    foreseen.audit(HostNode(), asked)
    assert argv(asked)[-2:] == ["--certs-dir", asked.layout.certs]


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (document([], []), 4, "no such socket"),
        (document([], []) | {"version": "countersign.audit/v9"}, 0, "countersign.audit/v9"),
        ("panic", 0, "expected countersign.audit/v1"),
    ],
)
def test_what_is_no_answer_is_told_and_nothing_is_left(
    asked: foreseen.AuditRequest, answer: object, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gate(asked, answer, code)
    with pytest.raises(InfrastructureError, match=says):
        foreseen.audit(HostNode(), asked)
    assert list(Path(foreseen.FOLDER).iterdir()) == []
    foreseen.show(HostNode(), asked)
    assert says.rpartition(" ")[2] in capsys.readouterr().err


def test_what_would_be_refused_is_listed_by_scope_with_the_line_that_would_allow_it() -> None:
    assert list(foreseen.lines(document([RUNS], [CACHED, GOOD], notJudged=2))) == [
        "with this policy 1 of 1 running containers and 1 of 2 cached images would be refused",
        "  no scope:",
        "    cached quay.example/tool:v2: NO_SCOPE",
        "  registry.example:",
        "    running shop/web/app: registry.example/app:v1: UNSIGNED",
        "      would be allowed by pinned: [registry.example/app@sha256:aa]",
        "  2 more were not judged",
    ]


def test_where_nothing_would_be_refused_that_is_said() -> None:
    assert list(foreseen.lines(document([], [GOOD]))) == [
        "with this policy none of 0 running containers and 1 cached images is refused"
    ]

"""rollout.report: what runs, by workload, and what a policy makes of it; what pods say is hostile."""

from __future__ import annotations

import csv
import io
import json
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.errors import UsageError
from countersign.nodes.api_server import ApiServer, connect
from rollout import report as reporting
from rollout import report_tasks, workloads
from rollout.report import Judged, Report
from rollout.workloads import Use, judged, uses
from signing.verify import Access

DIGEST = f"sha256:{'a' * 64}"
EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


@dataclass
class Fake:
    """An API server that has these pods."""

    pods: list[dict[str, Any]]
    asked: list[str] = field(default_factory=list)
    address: str = "https://cluster.test:6443"

    def paged(self, path: str, most: int) -> tuple[list[dict[str, Any]], bool]:
        self.asked.append(path)
        return self.pods[:most], len(self.pods) > most


def pod(name: str, image: str, owner: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "labels": {"pod-template-hash": "abc12"}}
    if owner:
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    spec = {"containers": [{"name": "main", "image": image}], **more.pop("spec", {})}
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "imageID": f"any/repo@{DIGEST}"}]}
    return {"metadata": metadata, "spec": spec, "status": {**status, **more}}


def found(*pods: dict[str, Any]) -> dict[Use, int]:
    return uses(Fake(list(pods)))[0]  # type: ignore[arg-type]


def test_pods_of_a_deployment_are_one_workload_and_counted() -> None:
    owner = {"kind": "ReplicaSet", "name": "web-abc12"}
    (use,) = found(pod("web-abc12-x", "a.test/web:1", owner), pod("web-abc12-y", "a.test/web:1", owner)).items()
    assert use == (Use("shop", "Deployment/web", "main", "container", "a.test/web:1", f"a.test/web@{DIGEST}"), 2)


@pytest.mark.parametrize(
    ("owner", "workload"),
    [
        (None, "Pod/p"),
        ({"kind": "Node", "name": "n"}, "Pod/p"),
        ({"kind": "DaemonSet", "name": "agent"}, "DaemonSet/agent"),
        ({"kind": "ReplicaSet", "name": "web-other"}, "ReplicaSet/web-other"),
    ],
)
def test_a_workload_is_what_controls_the_pod(owner: Mapping[str, Any] | None, workload: str) -> None:
    (use,) = found(pod("p", "a.test/web:1", owner))
    assert use.workload == workload


def test_every_kind_of_container_counts_and_what_has_ended_does_not() -> None:
    more = {
        "initContainers": [{"name": "first", "image": "a.test/init:1"}],
        "ephemeralContainers": [{"name": "debug", "image": "a.test/debug:1"}],
        "volumes": [{"name": "data", "image": {"reference": "a.test/data:1"}}, {"name": "tmp", "emptyDir": {}}],
    }
    ended = pod("old", "a.test/old:1")
    ended["status"]["phase"] = "Succeeded"
    assert {(use.role, use.judged) for use in found(pod("p", "a.test/web:1", spec=more), ended)} == {
        ("container", f"a.test/web@{DIGEST}"),
        ("init", "a.test/init:1"),
        ("ephemeral", "a.test/debug:1"),
        ("volume", "a.test/data:1"),
    }


@pytest.mark.parametrize(
    ("image", "image_id", "wanted"),
    [
        ("busybox", f"docker.io/library/busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        ("busybox", "sha256:abc", "docker.io/library/busybox:latest"),  # imported: no registry's digest
        ("a.test/web:1", f"evil.test/other@{DIGEST}", f"a.test/web@{DIGEST}"),  # the written name picks the scope
        ("a.test/web:1", "a.test/web@sha256:short", "a.test/web:1"),
        ("NOT A NAME", f"a@{DIGEST}", "NOT A NAME"),
    ],
)
def test_what_is_judged_is_the_written_name_by_the_digest_that_runs(image: str, image_id: str, wanted: str) -> None:
    assert judged(image, image_id) == wanted


def test_more_pods_than_are_looked_at_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "MOST", 1)
    api = Fake([pod("a", "a.test/a:1"), pod("b", "a.test/b:1")])
    assert uses(api, "shop")[1] is True  # type: ignore[arg-type]
    assert api.asked == ["/api/v1/namespaces/shop/pods"]


def made() -> Report:
    uses_ = {
        Use("shop", "Deployment/web", "main", "container", EVIL, "a.test/web:1"): 2,
        Use("shop", "Pod/p", "main", "container", "=cmd()", "a.test/p:1"): 1,
        Use("infra", "Pod/q", "main", "container", "a.test/q:1", "a.test/q:1"): 1,
    }
    says = {
        "a.test/web:1": Judged(False, "UNSIGNED", "a.test", message=EVIL),
        "a.test/p:1": Judged(True, "OK", "a.test", "team", ("✓ team",)),
        "a.test/q:1": Judged(None, "REGISTRY_AUTH"),
    }
    return Report("https://cluster.test", "policy.yaml", uses_, says)


def test_what_would_break_comes_first_and_namespaces_are_summed() -> None:
    assert [row[7] for row in made().rows()] == ["would be refused", "not known", "starts"]
    assert made().namespaces == [("infra", 1, 0, 1), ("shop", 2, 1, 0)]
    assert made().as_json()["breaks"] == 1


def test_the_page_escapes_and_cleans_and_loads_nothing() -> None:
    page = reporting.as_html(made())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not {"\x1b", "\u202e"} & set(page)
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "").replace("https://cluster.test", "")


def test_no_cell_of_the_csv_is_a_formula_or_breaks_a_line() -> None:
    text = reporting.as_csv(made())
    head, *rows = csv.reader(io.StringIO(text))
    assert tuple(head) == reporting.COLUMNS
    assert len(rows) == 3
    assert "'=cmd()" in {row[5] for row in rows}
    assert not {"\x1b", "\u202e"} & set(text)


GATE = """#!/bin/sh
case "$1 $*" in
verify*good.test*) echo '{"allow": true, "code": "OK", "scope": "good.test", "root": "team",
  "repository": "good.test/a", "message": "m"}' ;;
verify*away.test*) echo '{"allow": false, "code": "REGISTRY_ERROR", "message": "m"}'; exit 1 ;;
verify*broken.test*) echo 'error: verify: no room' >&2; exit 4 ;;
verify*) echo '{"allow": false, "code": "UNSIGNED", "repository": "bad.test/a", "message": "m"}'; exit 1 ;;
inspect*good.test*) echo '{"version": "countersign.inspected/v1", "digests": [{"signatures": [
  {"attestation": false, "signer": {}, "roots": [{"root": "team", "ok": true}]},
  {"attestation": false, "signer": {"names": ["eve@evil.test"]}, "roots": [{"root": "team", "ok": false}]},
  {"attestation": true, "signer": {}, "roots": []}]}]}' ;;
*) echo '{"version": "countersign.inspected/v1", "digests": []}' ;;
esac
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    path.write_text(GATE)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_gates_engine_judges_and_says_who_signed(gate: Path) -> None:
    images = ["good.test/a", "bad.test/a", "away.test/a", "broken.test/a"]
    told: list[str] = []
    found = reporting.judge(images, gate, b"{}", Access(), told.append)
    assert found["good.test/a"] == Judged(True, "OK", "good.test", "team", ("✓ team", "eve@evil.test"), "m")
    assert found["bad.test/a"] == Judged(False, "UNSIGNED", message="m")
    assert (found["away.test/a"].allow, found["away.test/a"].code) == (None, "REGISTRY_ERROR")
    assert (found["broken.test/a"].allow, found["broken.test/a"].code) == (None, reporting.NOT_JUDGED)
    assert told[-1] == "4 of 4 images"


def test_images_beyond_the_bound_are_not_known(gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MOST", 1)
    found = reporting.judge(["a.test/a", "b.test/b"], gate, b"{}", Access(), lambda _: None)
    assert [each.allow for each in found.values()] == [False, None]


@pytest.fixture
def cluster(gate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockContext:
    """A cluster with one pod of each kind; the gate is the script above."""
    api = Fake([pod("a", "good.test/a:1"), pod("b", "bad.test/b:1")])
    monkeypatch.setattr("countersign.nodes.api_server.connect", lambda _: api)
    monkeypatch.setattr("signing.verify.program", lambda _: gate)
    (tmp_path / "config").write_text("")
    (tmp_path / "policy.json").write_text('{"version": "countersign.policy/v1"}')
    monkeypatch.chdir(tmp_path)
    return MockContext()


def test_the_task_writes_page_csv_and_document(
    cluster: MockContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_tasks.report(cluster, kubeconfig="config", policy="policy.json", out=str(tmp_path), json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["version"], document["breaks"]) == ("countersign.rollout-report/v1", 1)
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kubeconfig": "none"}, "there is no such file"),
        ({"kubeconfig": "config", "out": "none"}, "there is no such folder"),
        ({"kubeconfig": "config", "policy": "none.yaml"}, "cannot be read"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_is_asked(
    cluster: MockContext, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(Exit, match=says) as raised:
        report_tasks.report(cluster, **given)
    assert raised.value.code == UsageError.exit_code


def serving(pages: list[dict[str, Any]]) -> Any:
    """Return a server that answers one page after the other, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(pages[min(len(asked), len(pages)) - 1]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, asked


def api_of(server: Any, folder: Path) -> ApiServer:
    url = f"http://127.0.0.1:{server.server_port}"
    config = {
        "apiVersion": "v1",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    return connect(folder / "kubeconfig")


@pytest.mark.parametrize(("most", "names", "more"), [(10, ["a", "b", "c"], False), (2, ["a", "b"], True)])
def test_lists_are_read_page_by_page_and_no_further_than_asked(
    most: int, names: list[str], more: bool, tmp_path: Path
) -> None:
    first = {"items": [{"name": "a"}, {"name": "b"}], "metadata": {"continue": "to/ken"}}
    server, asked = serving([first, {"items": [{"name": "c"}], "metadata": {}}])
    try:
        found, cut = api_of(server, tmp_path).paged("/api/v1/pods", most)
    finally:
        server.shutdown()
        server.server_close()
    assert ([each["name"] for each in found], cut) == (names, more)
    assert asked[0] == "/api/v1/pods?limit=500"
    assert asked[1:] == ([] if more else ["/api/v1/pods?limit=500&continue=to/ken"])

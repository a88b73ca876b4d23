"""The loop in a cluster: countersign, released here, comes to nodes that enforce, which judge it by who released it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.oci import layout
from countersign.oci.access import etc, registry
from countersign.oci.reference import parse
from countersign.tools.resolver import tool
from lab.trials import authority
from lab.trials.authority import Authority
from release import flow
from release import version as versions
from release.load import load
from release.made import Image, State
from signing import sign as signing
from tests.interop.conftest import running
from tests.release.test_identity import Workflow
from tests.rollout.site import GOOD, NAME, NAMESPACE, OTHER, OURS, SCOPES, Site, inv, until

SUBJECT = "https://github.com/countersign/countersign/.github/workflows/release.yml@refs/tags/v*"


@dataclass(frozen=True)
class Released:
    """A release, in a registry that the nodes reach.

    Attributes:
        work: how it was made.
        state: what it consists of.
        sigstore: issued the certificate that signed it.
        netloc: the registry.
    """

    work: flow.Work
    state: State
    sigstore: Authority
    netloc: str

    @property
    def chart(self) -> Path:
        """The chart's archive."""
        return self.work.folder.file(f"{NAME}-{self.work.version}.tgz")

    @property
    def image(self) -> Image:
        """The gate's."""
        return next(each for each in self.state.release.images if each.name == "countersign-gate")


@pytest.fixture(scope="module")
def netloc(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry at this host's address in the nodes' network."""
    address = site.worker.run(["sh", "-c", "ip -4 route show default | cut -d' ' -f3"]).text
    with socket.socket() as probe:
        probe.bind((address, 0))
        found = f"{address}:{probe.getsockname()[1]}"
    for node in (site.control, site.worker):
        node.run(["mkdir", "-p", f"/etc/containerd/certs.d/{found}"])
        node.put(f'server = "http://{found}"\n'.encode(), f"/etc/containerd/certs.d/{found}/hosts.toml")
    folder = str(tmp_path_factory.mktemp("registry"))
    with running([str(tool("registry", load_settings())), "--any-address", "--address", found, "--dir", folder], found):
        yield found


@pytest.fixture(scope="module")
def released(netloc: str, tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Programs, image and chart of countersign's release, signed as its workflow does."""
    found, sigstore = load_settings(), authority.make()
    settings = replace(
        found, state=tmp_path_factory.mktemp("release"), registry=replace(found.registry, allow_http=True)
    )
    hosts = etc(settings) / "certs.d" / netloc / "hosts.toml"
    hosts.parent.mkdir(parents=True)
    hosts.write_text(f'server = "http://{netloc}"\n')
    ours = load(ROOT / "release.yaml")
    packages = tuple(replace(each, formats=("deb",)) for each in ours.packages)
    project = replace(ours, packages=packages, archive=False, scan=None)
    version = versions.own(project)
    signer = Workflow(sigstore, SUBJECT.replace("*", version))
    work = flow.Work(settings, project, version, f"{netloc}/countersign", "https://builder.test", lambda: signer)
    state = flow.run(work, "build", flow.start(work, fresh=True))
    for name in ("sbom", "scan"):  # nothing here reads them
        state = state.done(work.folder, name, [])
    for name in ("push", "chart", "sign"):
        state = flow.run(work, name, state)
    return Released(work, state, sigstore, netloc)


@pytest.fixture(scope="module")
def enforcing(site: Site, released: Released) -> Site:
    """The site with enforcement by the gate of this checkout; its policy trusts the release's workflow."""
    (site.state / "trusted_root.json").write_text(json.dumps(released.sigstore.trusted_root()))
    keyless = {"issuer": "https://token.actions.githubusercontent.com", "subject": SUBJECT}
    root = {"keyless": keyless | {"trustedRoot": str(site.state / "trusted_root.json")}}
    scopes = {**SCOPES, released.netloc: {"anyOf": ["release"]}}
    written = site.state / "release-policy.yaml"
    written.write_text(json.dumps({"apiVersion": "countersign/v1", "roots": {"release": root}, "scopes": scopes}))
    inv("policy.render", "--policy", str(written), "--out", str(site.state / "release-policy.json"))
    dev = ["--set", f"image.repository={OURS}", "--set", f"image.digest={site.digest}"]
    done = install(site, ROOT / "rollout/chart", *dev, "--timeout", "120s")
    assert done == "", done
    until(lambda: phases(site) == ["Enforcing"] * 2, str(site.nodes()))
    return site


def install(site: Site, chart: Path, *more: str) -> str:
    """Install a chart, or upgrade to it; return what Helm has against it."""
    policy = ["--set-file", f"policy.content={site.state / 'release-policy.json'}", "--set", "every=2s"]
    done = site.helm("upgrade", "--install", NAME, str(chart), *policy, "--wait", *more)
    return done.stderr if done.returncode else ""


def phases(site: Site) -> list[str]:
    return [each.get("phase", "") for each in site.nodes().values()]


def statuses(site: Site) -> list[dict[str, Any]]:
    """Return how the agents' containers are."""
    pods = site.get("pods", "--namespace", NAMESPACE, f"--selector=app.kubernetes.io/instance={NAME}")["items"]
    return [status for pod in pods for status in pod["status"].get("containerStatuses", [])]


def agents(site: Site) -> str:
    return json.dumps(statuses(site))


def images(site: Site) -> list[str]:
    """Return what the agents that are ready run."""
    return [each["imageID"] for each in statuses(site) if each["ready"]]


@pytest.mark.timeout(600)
def test_nodes_that_enforce_take_a_released_gate_by_who_released_it(enforcing: Site, released: Released) -> None:
    done = install(enforcing, released.chart, "--timeout", "120s")
    assert done == "", f"{done}\n{agents(enforcing)}"
    until(lambda: images(enforcing) == [f"{released.image.repository}@{released.image.digest}"] * 2, agents(enforcing))
    until(lambda: phases(enforcing) == ["Enforcing"] * 2, str(enforcing.nodes()))
    verdicts = [json.loads(line) for line in enforcing.worker.get("/var/log/countersign/verdicts.jsonl").splitlines()]
    own = [each for each in verdicts if released.image.repository in json.dumps(each)]
    assert {(each["layer"], each["code"]) for each in own} >= {("pull", "OK"), ("create", "OK")}, own


@pytest.mark.timeout(600)
def test_a_gate_that_another_workflow_released_comes_to_no_node(enforcing: Site, released: Released) -> None:
    client, repository = registry(released.work.settings), f"{released.netloc}/other/countersign-gate"
    layout.push(client, repository, released.work.folder.layout("countersign-gate"), released.image.digest)
    signer = Workflow(released.sigstore, SUBJECT.replace("release.yml", "test.yml").replace("*", "0.1.0"))
    for target in signing.targets(client, parse(f"{repository}@{released.image.digest}")):
        signer.image(client, repository, target, ("attachment", "bundle"))
    assert install(enforcing, released.chart, "--set", f"image.repository={repository}", "--timeout", "20s")
    until(lambda: "WRONG_IDENTITY" in agents(enforcing), agents(enforcing))
    assert "NO_SCOPE" in json.dumps(enforcing.pod("still-refused", OTHER))  # the node goes on
    done = install(enforcing, released.chart, "--timeout", "120s")
    assert done == "", f"{done}\n{agents(enforcing)}"
    assert enforcing.helm("uninstall", NAME, "--wait", "--timeout", "120s").returncode == 0


@pytest.mark.timeout(300)
def test_the_package_brings_a_node_under_enforcement_that_lets_the_released_gate_in(
    enforcing: Site, released: Released
) -> None:
    node, (deb,) = enforcing.worker, released.work.folder.files.glob("*_amd64.deb")
    node.put(deb, "/root/gate.deb")
    node.put(enforcing.state / "release-policy.json", "/root/policy.json")
    node.run(["dpkg", "--install", "/root/gate.deb"])
    image = f"{released.image.repository}@{released.image.digest}"
    argv = ["countersign-gate", "install", "--policy", "/root/policy.json", "--image", image, "--json"]
    done = json.loads(node.run(argv, timeout=180).text)
    assert done["receipt"]["proven"] == {"refuse": True, "allow": True}
    assert "NO_SCOPE" in json.dumps(enforcing.pod("refused", OTHER))
    assert enforcing.pod("runs", GOOD)["terminated"]["exitCode"] == 0
    node.run(["/usr/local/bin/countersign-gate", "uninstall"], timeout=180)
    node.run(["dpkg", "--purge", "countersign-gate"])
    assert not [path for path in ("/usr/bin/countersign-gate", "/etc/countersign") if node.exists(path)]
    assert enforcing.pod("runs-again", OTHER)["terminated"]["exitCode"] == 0

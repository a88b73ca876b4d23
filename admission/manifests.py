"""What is applied: Kyverno's own release manifests, less its controllers that are not about admission."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render

HERE = Path(__file__).resolve().parent
MODULE = "github.com/kyverno/kyverno"
RELEASE = "config/install-latest-testing.yaml"
NAMESPACE = "kyverno"
CONTROLLER = "kyverno-admission-controller"
ANNOTATION = "countersign/manifests"
"""On the deployment: the hash of all that was applied with it."""

Document = dict[str, Any]


def release(settings: Settings, module: str = MODULE, file: str = RELEASE) -> list[Document]:
    """Return the documents of a release manifest that a Go module has: Kyverno's, if no other is named.

    Args:
        module: with its version, but for what ``kyverno/go.mod`` has.
        file: the manifest, below the module.

    Raises:
        InfrastructureError: the module cannot be had.
    """
    from countersign.tools.resolver import tool
    from countersign.tools.toolchain import go_environment

    ended = subprocess.run(
        [str(tool("go", settings)), "mod", "download", "-json", module],
        cwd=HERE / "kyverno",
        env=go_environment(settings.cache, settings.offline),
        capture_output=True,
        check=False,
    )
    try:
        folder = Path(json.loads(ended.stdout)["Dir"])
    except (ValueError, KeyError):
        reason = (ended.stderr or ended.stdout).decode(errors="replace").strip()
        raise InfrastructureError(f"its module cannot be had: {reason}", where=module) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all((folder / file).read_bytes(), loader) if each]


def adapt(documents: list[Document], image: str, ca: str, docker_config: str) -> list[Document]:
    """Return what is applied for a cluster of ours, the deployment last.

    Args:
        documents: Kyverno's release manifest.
        ca: PEM of the CA behind the demo's registries.
        docker_config: a Docker config.json with their credentials.
    """
    kept = [each for each in documents if each["kind"] != "Deployment"]
    extra = yaml.safe_load_all(render(HERE / "registries.yaml.j2", ca=ca, docker_config=docker_config))
    found = next(each for each in documents if each["kind"] == "Deployment" and each["metadata"]["name"] == CONTROLLER)
    return [*kept, *extra, _changed(found, yaml.safe_load(render(HERE / "deployment.yaml.j2", image=image)))]


def _changed(deployment: Document, changes: Mapping[str, Any]) -> Document:
    """Return Kyverno's deployment with our changes; its init container tidies up after earlier versions alone."""
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    flags = {_flag(argument) for argument in changes["args"]}
    container = {
        **container,
        "image": changes["image"],
        "args": [each for each in container["args"] if _flag(each) not in flags] + changes["args"],
        "env": container["env"] + changes["env"],
        "volumeMounts": container["volumeMounts"] + changes["volumeMounts"],
    }
    pod = {key: value for key, value in spec.items() if key != "initContainers"}
    pod |= {"containers": [container], "volumes": spec["volumes"] + changes["volumes"]}
    template = {**deployment["spec"]["template"], "spec": pod}
    return {**deployment, "spec": {**deployment["spec"], "replicas": changes["replicas"], "template": template}}


def _flag(argument: str) -> str:
    return argument.partition("=")[0]

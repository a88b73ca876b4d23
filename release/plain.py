"""A chart as plain YAML, for who applies it without Helm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from countersign.console.errors import UsageError
from countersign.nodes.template import render

if TYPE_CHECKING:
    from release.made import Release
    from release.model import Chart

TEMPLATE = Path(__file__).resolve().parent / "manifest.yaml.j2"
NAMESPACED = frozenset((
    "ConfigMap", "CronJob", "DaemonSet", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy",
    "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "ReplicaSet", "Role", "RoleBinding", "Secret", "Service",
    "ServiceAccount", "StatefulSet",
))  # fmt: skip
"""Kinds of Kubernetes' own that lie in a namespace, and that charts have."""


def name(chart: Chart, release: Release) -> str:
    """Return what the file is called."""
    return f"{chart.name}-{release.release}.yaml"


def namespace(chart: Chart) -> str:
    """Return the namespace for which the chart is rendered."""
    return f"{chart.name}-system"


def manifest(chart: Chart, release: Release, rendered: bytes) -> bytes:
    """Return the file: the namespace, and what Helm rendered for it.

    Args:
        rendered: without hooks, which Helm alone runs.

    Raises:
        UsageError: something in it names no namespace, so that it would go to whichever is the user's.
    """
    for each in filter(None, yaml.safe_load_all(rendered)):
        if each["kind"] in NAMESPACED and not each["metadata"].get("namespace"):
            what = f"{each['kind']} {each['metadata']['name']} names no namespace"
            expected = "namespace: {{ .Release.Namespace }}, without which kubectl takes its user's"
            raise UsageError(what, where=chart.folder, expected=expected)
    known = {"chart": chart.name, "version": release.release, "name": name(chart, release)}
    return render(TEMPLATE, **known, namespace=namespace(chart), rendered=rendered.decode())

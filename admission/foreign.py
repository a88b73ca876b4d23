"""A Gatekeeper that set-up did not install: which of its settings admit pods that nobody answered for.

What Gatekeeper ships is meant to be in nobody's way, so most of its settings fail open (docs/adr/0018).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from admission.gatekeeper_manifests import SHIPPED
from admission.manifests import Document

_BY_NAME = "kubernetes.io/metadata.name"
_ZERO = {"0", "0s", "0m", "0h"}
Finding = tuple[str, str]
"""A setting; and what was found, what is expected, and what it lets through."""


def namespace_of(configurations: Sequence[Document]) -> str:
    """Return the namespace of the Gatekeeper whose webhook the API server asks; empty for none."""
    for hook in _hooks(configurations):
        if hook.get("name") == SHIPPED:
            return str(hook.get("clientConfig", {}).get("service", {}).get("namespace", ""))
    return ""


def findings(
    configurations: Sequence[Document], deployments: Sequence[Document], config: Document | None, namespace: str
) -> list[Finding]:
    """Return each setting that lets pods through; none where it fails closed.

    Args:
        configurations: the cluster's ValidatingWebhookConfigurations.
        deployments: those of its namespace.
        config: Gatekeeper's own object ``config``, if there is one.
        namespace: its own.
    """
    return [
        *_of_webhooks(configurations, namespace),
        *_of_programs(deployments, namespace),
        *_of_config(config, namespace),
    ]


def of_constraint(constraint: Document | None) -> Iterator[Finding]:
    """Yield what keeps the rendered constraint from refusing."""
    spec = (constraint or {}).get("spec", {})
    action = spec.get("enforcementAction", "deny")
    if constraint is None:
        yield "its constraint", "missing, expected what policy.render --engine gatekeeper writes: nothing is asked"
    elif action != "deny":
        yield "enforcementAction of its constraint", f"{action}, expected deny: it only tells"


def _of_webhooks(configurations: Sequence[Document], namespace: str) -> list[Finding]:
    """Return what is open in the webhook for pods that is most closed: one that is closed is enough."""
    own = [hook for hook in _hooks(configurations) if _service(hook) == namespace and any(map(_pods, _rules(hook)))]
    if not own:
        return [("its webhooks", "none asks about pods, expected one that does: every pod is admitted")]
    return min((list(_of_webhook(hook)) for hook in own), key=len)


def _of_webhook(hook: Mapping[str, Any]) -> Iterator[Finding]:
    name = f"webhook {hook.get('name')}"
    if hook.get("failurePolicy", "Fail") != "Fail":
        yield (
            f"failurePolicy of {name}",
            "Ignore, expected Fail: down or slow it admits every pod",
        )
    if hook.get("objectSelector"):
        yield f"objectSelector of {name}", "expected none: a pod's own labels take it out"
    if hook.get("matchConditions"):
        yield f"matchConditions of {name}", "expected none: what they take out is not asked about"
    selector = hook.get("namespaceSelector") or {}
    keys = {*selector.get("matchLabels", {}), *(each.get("key") for each in selector.get("matchExpressions", ()))}
    if labels := sorted(map(str, keys - {_BY_NAME})):
        what = f"goes by {', '.join(labels)}, expected {_BY_NAME} alone: a label takes a namespace out"
        yield f"namespaceSelector of {name}", what
    missing = {"CREATE", "UPDATE"} - {one for rule in _rules(hook) if _pods(rule) for one in rule.get("operations", ())}
    if missing and "*" not in {one for rule in _rules(hook) for one in rule.get("operations", ())}:
        yield f"rules of {name}", f"not asked about {', '.join(sorted(missing))} of pods"


def _of_programs(deployments: Sequence[Document], namespace: str) -> Iterator[Finding]:
    programs = [arguments for each in deployments if (arguments := _arguments(each)) is not None]
    does = [_values(arguments, "operation") for arguments in programs]

    def doing(operation: str) -> list[Sequence[str]]:
        return [
            one for one, operations in zip(programs, does, strict=True) if not operations or operation in operations
        ]

    if not doing("webhook"):
        yield "--operation=webhook", "no deployment that runs has it: nobody answers the API server"
    if not doing("generate"):
        yield "--operation=generate", "no deployment that runs has it: the constraint's kind never comes to be"
    for arguments in doing("webhook"):
        (ttl,) = _values(arguments, "external-data-provider-response-cache-ttl")[-1:] or ("3m, its default",)
        if ttl not in _ZERO:
            flag = "--external-data-provider-response-cache-ttl"
            yield flag, f"{ttl}, expected 0: what was just revoked goes on being admitted"
        if _values(arguments, "enable-external-data")[-1:] == ["false"]:
            yield "--enable-external-data", "false, expected true: the provider is never asked"
        exempt = {each for each in _values(arguments, "exempt-namespace") if each != namespace}
        for kind in ("prefix", "suffix"):
            exempt |= {f"{each} ({kind})" for each in _values(arguments, f"exempt-namespace-{kind}")}
        if exempt:
            what = f"{', '.join(sorted(exempt))}, expected {namespace} alone: a label takes those out"
            yield "--exempt-namespace", what


def _of_config(config: Document | None, namespace: str) -> Iterator[Finding]:
    for match in (config or {}).get("spec", {}).get("match", ()):
        left = [each for each in match.get("excludedNamespaces", ()) if each != namespace]
        if left and {"*", "webhook"} & {*match.get("processes", ())}:
            yield f"Config {namespace}/config", f"leaves out {', '.join(sorted(left))}: pods there are admitted"


def _hooks(configurations: Sequence[Document]) -> Iterator[Mapping[str, Any]]:
    return (hook for each in configurations for hook in each.get("webhooks") or ())


def _service(hook: Mapping[str, Any]) -> str:
    return str(hook.get("clientConfig", {}).get("service", {}).get("namespace", ""))


def _rules(hook: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return hook.get("rules") or ()


def _pods(rule: Mapping[str, Any]) -> bool:
    return bool({"", "*"} & {*rule.get("apiGroups", ())} and {"pods", "*", "*/*"} & {*rule.get("resources", ())})


def _arguments(deployment: Document) -> Sequence[str] | None:
    """Return what Gatekeeper's program is started with; None where the deployment has no such program, or runs none."""
    spec = deployment.get("spec", {})
    if spec.get("replicas", 1) == 0:
        return None
    for container in spec.get("template", {}).get("spec", {}).get("containers", ()):
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        if "gatekeeper" in str(container.get("image", "")) or any("exempt-namespace" in word for word in words):
            return words
    return None


def _values(arguments: Sequence[str], flag: str) -> list[str]:
    """Return what a flag is given, in any form that Go's flags have."""
    found = []
    for number, word in enumerate(arguments):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == flag:
            found.append(value if equals else next(iter(arguments[number + 1 : number + 2]), ""))
    return found

"""Changes to the text of a policy.yaml that keep all else as it was written: comments, order, style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from countersign.console.errors import UsageError

LISTS = ("keys", "certificates", "digests")
_DO = "add it by hand: revoked: {keys: [], certificates: [], digests: []}"


def revoke(text: str, additions: Mapping[str, Sequence[str]], where: str) -> str:
    """Return a policy's text with more entries in the lists of ``revoked``; what is there already is not added again.

    Args:
        text: the policy, which is valid.
        additions: list ("keys", "certificates", "digests") → fingerprints or digests.
        where: the file, for messages.

    Raises:
        UsageError: ``revoked`` is written in a way that is not amended here.
    """
    for name in LISTS:
        for value in additions.get(name, ()):
            text = _added(text, name, value, where)
    return text


def _added(text: str, name: str, value: str, where: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise UsageError("is not a policy", where=where)
    revoked = _member(root, "revoked")
    if revoked is None:
        return f"{text.rstrip()}\nrevoked: {{{name}: [{value}]}}\n"
    if not isinstance(revoked, yaml.MappingNode):
        raise UsageError("revoked is not a mapping", where=where, do=_DO)
    found = _member(revoked, name)
    if found is None:
        if not revoked.flow_style:
            at, indent = revoked.start_mark.index, " " * revoked.start_mark.column
            return f"{text[:at]}{name}: [{value}]\n{indent}{text[at:]}"
        at = revoked.end_mark.index - 1
        return f"{text[:at]}{', ' if revoked.value else ''}{name}: [{value}]{text[at:]}"
    if not isinstance(found, yaml.SequenceNode):
        raise UsageError(f"revoked.{name} is not a list", where=where, do=_DO)
    if any(isinstance(item, yaml.ScalarNode) and item.value == value for item in found.value):
        return text
    if found.flow_style:
        last = found.value[-1].end_mark.index if found.value else found.start_mark.index + 1
        return f"{text[:last]}{', ' if found.value else ''}{value}{text[last:]}"
    at, indent = found.start_mark.index, " " * found.start_mark.column
    return f"{text[:at]}- {value}\n{indent}{text[at:]}"


def _member(mapping: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in mapping.value if key.value == name), None)

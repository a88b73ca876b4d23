"""Changes to the text of a policy.yaml that keep all else as it was written: comments, order, style."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import yaml

from countersign.console.errors import UsageError

LISTS = ("keys", "certificates", "digests")
_PLAIN_RE = re.compile(r"[\w./-]+", re.ASCII)  # a path that needs no quotes
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


def beside(text: str, is_old: Callable[[str], bool], is_new: Callable[[str], bool], new: str) -> str:
    """Return a policy's text with a key's file in each list of ``publicKey`` roots that has the old key's.

    Args:
        text: the policy, which is valid.
        is_old, is_new: say of a file, as the policy names it, whether it is the old or the new key's.
        new: the new key's file, as the policy is to name it.
    """
    for files in reversed(list(_key_files(text))):
        old = next((item for item in files.value if is_old(item.value)), None)
        if old is not None and not any(is_new(item.value) for item in files.value):
            lead = ", " if files.flow_style else "\n" + " " * files.start_mark.column + "- "
            at = old.end_mark.index
            if not files.flow_style:  # after what is said of the old key on its line
                line = text.find("\n", at)
                at = line if line >= 0 else len(text)
            text = f"{text[:at]}{lead}{_scalar(new)}{text[at:]}"
    return text


def without(text: str, is_old: Callable[[str], bool], where: str) -> str:
    """Return a policy's text with the old key's file in no list of ``publicKey`` roots.

    Raises:
        UsageError: a root has no other key.
    """
    for files in reversed(list(_key_files(text))):
        rest = [item for item in files.value if not is_old(item.value)]
        if not rest:
            raise UsageError("a root has no key but the old one", where=where, do="name a key beside it first")
        for number, item in reversed(list(enumerate(files.value))):
            if is_old(item.value):
                text = _cut(text, files, number)
    return text


def lists(text: str, is_key: Callable[[str], bool]) -> bool:
    """Say whether a ``publicKey`` root of a policy's text has a key's file."""
    return any(is_key(item.value) for files in _key_files(text) for item in files.value)


def _cut(text: str, files: yaml.SequenceNode, number: int) -> str:
    """Return a text without one item of a list: with its comma, or its line."""
    item = files.value[number]
    if not files.flow_style:  # each item of a block has lines of its own
        start = text.rindex("\n", 0, text.rindex("-", 0, item.start_mark.index)) + 1
        end = text.find("\n", item.end_mark.index)
        return text[:start] + (text[end + 1 :] if end >= 0 else "")
    if number + 1 < len(files.value):
        return text[: item.start_mark.index] + text[files.value[number + 1].start_mark.index :]
    return text[: files.value[number - 1].end_mark.index] + text[item.end_mark.index :]


def _key_files(text: str) -> Iterator[yaml.SequenceNode]:
    """Yield the list of files of each ``publicKey`` root, in the order of the text; one that several share once."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    roots = _member(root, "roots") if isinstance(root, yaml.MappingNode) else None
    found = {}
    for _, value in roots.value if isinstance(roots, yaml.MappingNode) else ():
        entry = _member(value, "publicKey") if isinstance(value, yaml.MappingNode) else None
        files = _member(entry, "files") if isinstance(entry, yaml.MappingNode) else None
        if isinstance(files, yaml.SequenceNode):
            found[files.start_mark.index] = files
    yield from (found[at] for at in sorted(found))


def _scalar(text: str) -> str:
    return text if _PLAIN_RE.fullmatch(text) else json.dumps(text)


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

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

    Raises:
        UsageError: ``revoked`` is written in a way that is not amended here.
    """
    for name in LISTS:
        for value in additions.get(name, ()):
            text = _added(text, name, value, where)
    return text


def beside(text: str, is_old: Callable[[str], bool], is_new: Callable[[str], bool], new: str, since: str = "") -> str:
    """Return a policy's text with a key's file in each list of ``publicKey`` roots that has the old key's.

    Args:
        text: the policy, which is valid.
        is_old, is_new: say of a file, as the policy names it, whether it is the old or the new key's.
        new: the new key's file, as the policy is to name it.
        since: the day since which the new key is in use; empty for not saying it.
    """
    edits: list[_Edit] = []
    for entry, files in _key_files(text):
        old = next((item for item in files.value if is_old(item.value)), None)
        if old is None or any(is_new(item.value) for item in files.value):
            continue
        at = old.end_mark.index
        if not files.flow_style:  # after what is said of the old key on its line
            line = text.find("\n", at)
            at = line if line >= 0 else len(text)
        lead = ", " if files.flow_style else "\n" + " " * files.start_mark.column + "- "
        edits.append((at, at, lead + _scalar(new)))
        if since:
            edits.append(_dated(entry, f"{_scalar(new)}: {since}"))
    return _edited(text, edits)


def without(text: str, is_old: Callable[[str], bool], where: str) -> str:
    """Return a policy's text with the old key's file in no list of ``publicKey`` roots.

    Raises:
        UsageError: a root has no other key.
    """
    edits: list[_Edit] = []
    for entry, files in _key_files(text):
        if all(is_old(item.value) for item in files.value):
            raise UsageError("a root has no key but the old one", where=where, do="name a key beside it first")
        listed = [(item.start_mark.index, item.end_mark.index) for item in files.value]
        for number, item in enumerate(files.value):
            if is_old(item.value):
                edits.append(_cut(text, listed, number, block=not files.flow_style))
        dates = _member(entry, "since")
        if isinstance(dates, yaml.MappingNode):
            listed = [(key.start_mark.index, value.end_mark.index) for key, value in dates.value]
            old = [number for number, (key, _) in enumerate(dates.value) if is_old(key.value)]
            block = not dates.flow_style
            if block and old and len(listed) == len(old):  # nothing would stand after "since:"
                edits.append((listed[0][0], listed[-1][1], "{}"))
            else:
                edits += [_cut(text, listed, number, block=block) for number in old]
    return _edited(text, edits)


def lists(text: str, is_key: Callable[[str], bool]) -> bool:
    """Say whether a ``publicKey`` root of a policy's text has a key's file."""
    return any(is_key(item.value) for _, files in _key_files(text) for item in files.value)


_Edit = tuple[int, int, str]
"""From where to where of a text, and what stands there instead."""


def _edited(text: str, edits: Sequence[_Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _dated(entry: yaml.MappingNode, pair: str) -> _Edit:
    """Return the edit that puts a key's day into ``since`` of its root, before what is there."""
    dates = _member(entry, "since")
    inside = dates if isinstance(dates, yaml.MappingNode) else entry
    what = pair if inside is dates else f"since: {{{pair}}}"
    at = inside.start_mark.index + (1 if inside.flow_style else 0)
    follows = (", " if inside.value else "") if inside.flow_style else "\n" + " " * inside.start_mark.column
    return at, at, what + follows


def _cut(text: str, listed: Sequence[tuple[int, int]], number: int, *, block: bool) -> _Edit:
    """Return the edit that takes out an entry of a list or mapping: with its comma, or its line."""
    start, end = listed[number]
    if block:  # each entry of a block has lines of its own
        line = text.find("\n", end)
        return text.rindex("\n", 0, start) + 1, line + 1 if line >= 0 else len(text), ""
    if number + 1 < len(listed):
        return start, listed[number + 1][0], ""
    return listed[number - 1][1] if number else start, end, ""


def _key_files(text: str) -> Iterator[tuple[yaml.MappingNode, yaml.SequenceNode]]:
    """Yield each ``publicKey`` of the roots with its list of files; a list that several share once."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    roots = _member(root, "roots") if isinstance(root, yaml.MappingNode) else None
    found: dict[int, tuple[yaml.MappingNode, yaml.SequenceNode]] = {}
    for _, value in roots.value if isinstance(roots, yaml.MappingNode) else ():
        entry = _member(value, "publicKey") if isinstance(value, yaml.MappingNode) else None
        files = _member(entry, "files") if isinstance(entry, yaml.MappingNode) else None
        if isinstance(entry, yaml.MappingNode) and isinstance(files, yaml.SequenceNode):
            found.setdefault(files.start_mark.index, (entry, files))
    yield from found.values()


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

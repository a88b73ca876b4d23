"""What to say of a key that a file's form does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from countersign.console.sources import nearest
from countersign.policy.problems import Key


def said(form: type[BaseModel], key: Key) -> str:
    """Return what is wrong with ``key`` of a file of this form, and which key may be meant.

    Args:
        key: as pydantic's ``loc`` has it.
    """
    known = [field.alias or name for model in _around(form, key) for name, field in model.model_fields.items()]
    near = nearest(str(key[-1]), known)
    return f"unknown key; did you mean {near}?" if near else f"unknown key; expected one of {', '.join(known)}"


def _around(form: type[BaseModel], key: Key) -> list[type[BaseModel]]:
    """Return the models that the mapping with the key may be of: one, or the forms of a union."""
    models = [form]
    for part in key[:-1]:
        inner = [
            each
            for model in models
            for name, field in model.model_fields.items()
            if part == (field.alias or name)
            for each in _models(field.annotation)
        ]
        models = inner or models  # a list's index, a mapping's own key, a union's tag: the same models
    return list(dict.fromkeys(models))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)

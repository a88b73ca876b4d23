from __future__ import annotations

import pytest

from countersign.nodes.template import render


def test_values_are_written_as_json(tmp_path):
    template = tmp_path / "template"
    template.write_text("a = {{ text | tojson }}\nb = {{ yes | tojson }}\n")
    assert render(template, text='<"é', yes=True) == 'a = "<\\"é"\nb = true\n'.encode()


def test_a_missing_value_is_an_error(tmp_path):
    from jinja2 import UndefinedError

    template = tmp_path / "template"
    template.write_text("{{ nothing }}")
    with pytest.raises(UndefinedError, match="nothing"):
        render(template)

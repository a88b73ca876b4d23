from __future__ import annotations

from countersign.cri.generate import PROTO, ROOT, generate


def test_the_messages_are_those_of_the_proto(tmp_path):
    for made in generate(tmp_path):
        kept = ROOT / made.relative_to(tmp_path)
        assert kept.read_bytes() == made.read_bytes(), f"{kept}: run `python -m countersign.cri.generate`"


def test_the_proto_keeps_its_licence():
    assert "Licensed under the Apache License, Version 2.0" in (ROOT / PROTO).read_text()[:1000]

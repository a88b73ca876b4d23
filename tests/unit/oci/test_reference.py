"""Names parse exactly as CRI parses them; the vectors come from distribution/reference itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.oci.reference import BadReference, Reference, is_id, parse

ROOT = Path(__file__).resolve().parents[3]
VECTORS = json.loads((ROOT / "shared" / "vectors" / "references.json").read_text())
DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [text for text, want in VECTORS.items() if want not in {"ID", "BAD_REFERENCE"}])
def test_a_name_is_normalised_as_cri_does(text: str) -> None:
    assert str(parse(text)) == VECTORS[text]
    assert not is_id(text)


@pytest.mark.parametrize("text", [text for text, want in VECTORS.items() if want == "BAD_REFERENCE"])
def test_what_cri_refuses_is_refused(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse(text)
    assert caught.value.code == "BAD_REFERENCE"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [text for text, want in VECTORS.items() if want == "ID"])
def test_what_cri_may_take_for_an_image_id_is_known(text: str) -> None:
    assert is_id(text)


def test_the_parts_of_a_reference() -> None:
    ref = parse("host:5000/team/app:v1")
    assert ref == Reference("host:5000", "team/app", "v1", None)
    assert ref.name == "host:5000/team/app"
    assert str(ref.at(DIGEST)) == f"host:5000/team/app@{DIGEST}"


def test_a_tag_beside_a_digest_is_dropped() -> None:
    assert parse(f"host/app:v1@{DIGEST}") == parse(f"host/app@{DIGEST}")


def test_a_very_long_name_is_refused_at_once() -> None:
    with pytest.raises(BadReference, match="at most 4096"):
        parse("a-" * 100_000)


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        ref = parse(text)
    except BadReference:
        return
    assert (ref.tag is None) != (ref.digest is None)
    assert parse(str(ref)) == ref


_word = st.text("abcxyz019", min_size=1, max_size=6)
_component = st.builds("".join, st.tuples(_word, st.sampled_from([".", "_", "__", "-", "---"]), _word)) | _word
_domain = st.builds("{}.{}{}".format, _word, _word, st.sampled_from(["", ":5000", ":443"]))
_tag = st.builds("{}{}".format, _word, st.text("aZ9_.-", max_size=10))


@given(_domain, st.lists(_component, min_size=1, max_size=4), _tag)
def test_a_full_name_stays_as_it_is(domain: str, path: list[str], tag: str) -> None:
    text = f"{domain}/{'/'.join(path)}:{tag}"
    assert str(parse(text)) == text

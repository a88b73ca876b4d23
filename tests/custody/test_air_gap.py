"""Evidence goes from a registry into a file, and from there to a node that reaches no registry."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.config import Settings
from countersign.keys import pair as keys
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.resolver import tool
from rollout import evidence_tasks
from signing import sign
from signing.stored import Format
from tests.images import push_image, push_index

KEY = keys.generate()


class Node:
    """What a gate on a node reads and keeps; no registry is told to it."""

    def __init__(self, program: Path, folder: Path, name: str, key: keys.PublicKey) -> None:
        folder.mkdir(exist_ok=True)
        self._program, self.config = program, folder / "gate.json"
        policy = {
            "version": "countersign.policy/v1",
            "pinned": [],
            "roots": {"k": {"publicKey": {"keys": [key.pem]}}},
            "scopes": {name: {"anyOf": ["k"]}},
            "revoked": {"keys": [], "certificates": [], "digests": []},
        }
        (folder / "policy.json").write_text(json.dumps(policy))
        settings: dict[str, Any] = {
            "policy": f"{folder}/policy.json",
            "socket": f"{folder}/gate.sock",
            "log": f"{folder}/verdicts.jsonl",
            "metrics": f"unix:{folder}/metrics.sock",
            "evidence": {"dir": f"{folder}/evidence"},
            "containerd": {"address": f"{folder}/containerd.sock"},
            "registry": {"certsDir": ""},
        }
        self.config.write_text(json.dumps(settings))

    def gate(self, *words: str) -> tuple[int, Any]:
        """Run a subcommand of ``evidence`` and return its exit code and document."""
        argv = [str(self._program), "evidence", *words, "--json", "--config", str(self.config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.mark.parametrize("formats", [["attachment"], ["bundle"]], ids=["attachment", "bundle"])
@pytest.mark.parametrize("on", ["index", "platforms"])
def test_it_is_kept_by_a_node_that_trusts_the_key(
    settings: Settings, netloc: str, context: MockContext, tmp_path: Path, formats: list[Format], on: str
) -> None:
    registry, name = Registry(), f"{netloc}/gap/{formats[0]}-{on}"
    platforms = {f"linux/{one}": push_image(registry, name, "", f"{name} {one}") for one in ("amd64", "arm64")}
    index = push_index(registry, name, "v1", platforms)
    found = sign.targets(registry, parse(f"{name}:v1"))
    for target in found[:1] if on == "index" else found[1:]:
        sign.sign(registry, name, target, KEY, formats)
    file = tmp_path / "evidence.tar"
    evidence_tasks.export(context, [f"{name}:v1"], out=str(file))
    with pytest.raises(Exit, match="is there already"):
        evidence_tasks.export(context, [f"{name}:v1"], out=str(file))
    assert file.stat().st_size < 64 << 10
    program = tool("countersign-gate", settings)
    (tmp_path / "good").mkdir()
    node = Node(program, tmp_path / "good", name, KEY.public)
    code, document = node.gate("import", str(file))
    assert (code, document["images"][0]["code"]) == (0, "OK"), document
    _, listed = node.gate("list")
    kept = {one["digest"] for one in listed["entries"]}
    wanted = {index.digest} if on == "index" else {one.digest for one in platforms.values()}
    assert kept == wanted
    (tmp_path / "other").mkdir()
    stranger = Node(program, tmp_path / "other", name, keys.generate().public)
    code, document = stranger.gate("import", str(file))
    assert (code, document["images"][0]["code"]) == (1, "BAD_SIGNATURE")
    assert stranger.gate("list")[1]["entries"] == []


def test_a_file_that_was_cut_off_is_said_to_be(
    settings: Settings, netloc: str, context: MockContext, tmp_path: Path
) -> None:
    registry, name = Registry(), f"{netloc}/gap/cut"
    sign.sign(registry, name, push_image(registry, name, "v1"), KEY)
    evidence_tasks.export(context, [f"{name}:v1"], out=str(tmp_path / "whole.tar"))
    node = Node(tool("countersign-gate", settings), tmp_path, name, KEY.public)
    with tarfile.open(tmp_path / "whole.tar") as archive:
        inside = [one.offset_data + one.size // 2 for one in archive if one.size][-1]
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:inside])
    code, said = node.gate("import", str(tmp_path / "cut.tar"))
    assert code == 2
    assert "cut off" in said
    assert said.count("\n") == 1
    assert node.gate("import", str(tmp_path / "whole.tar"))[0] == 0


def test_what_a_node_keeps_is_kept_by_another_alike(
    settings: Settings, netloc: str, context: MockContext, tmp_path: Path
) -> None:
    registry, name = Registry(), f"{netloc}/gap/own"
    platforms = {f"linux/{one}": push_image(registry, name, "", f"{name} {one}") for one in ("amd64", "arm64")}
    push_index(registry, name, "v1", platforms)
    for target in sign.targets(registry, parse(f"{name}:v1")):
        sign.sign(registry, name, target, KEY)
    evidence_tasks.export(context, [f"{name}:v1"], out=str(tmp_path / "evidence.tar"))
    program = tool("countersign-gate", settings)
    first, second = (Node(program, tmp_path / one, name, KEY.public) for one in ("first", "second"))
    assert first.gate("import", str(tmp_path / "evidence.tar"))[0] == 0
    code, exported = first.gate("export", str(tmp_path / "own.tar"))
    assert (code, exported["leftOut"]) == (0, []), exported
    assert second.gate("import", str(tmp_path / "own.tar"))[0] == 0
    entries = [first.gate("list")[1]["entries"], second.gate("list")[1]["entries"]]
    assert entries[0]
    assert entries[0] == entries[1]

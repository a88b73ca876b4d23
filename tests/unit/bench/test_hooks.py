import json
import os
import subprocess
from pathlib import Path

import pytest

from lab.bench import testbed
from lab.bench.model import COSIGN, NO_HOOK, NO_OP, VARIANTS
from lab.bench.rival_place import VERIFIER

SPEC = json.dumps({"process": {"cwd": "/"}, "hooks": {"createRuntime": [{"path": "/countersign-hook"}]}}).encode()
NAME = "io.kubernetes.cri.image-name"


@pytest.fixture
def specs(tmp_path):
    files = testbed.hook_files(
        tmp_path, SPEC, Path("/noop"), ["/cosign", "/key.pub", "registry.example", "127.0.0.1:5000"]
    )
    script, *specs = files
    assert (Path(script.path).name, bytes(script.content)) == (testbed.SCRIPT.name, testbed.SCRIPT.read_bytes())
    return {Path(file.path).stem: json.loads(bytes(file.content)) for file in specs}


def test_the_compared_specs_differ_in_the_hook_alone(specs):
    assert set(specs) == {NO_HOOK.handler, NO_OP.handler, COSIGN.handler}
    assert all(spec["process"] == {"cwd": "/"} for spec in specs.values())
    assert [len(specs[one.handler]["hooks"]["createRuntime"]) for one in (NO_HOOK, NO_OP, COSIGN)] == [0, 1, 1]


def test_no_compared_spec_has_countersigns_hook(specs):
    assert "/countersign-hook" not in json.dumps(specs)


def test_the_no_op_hook_is_run_by_itself(specs):
    (hook,) = specs[NO_OP.handler]["hooks"]["createRuntime"]
    assert (hook["path"], hook["args"], hook["timeout"]) == ("/noop", ["/noop"], 10)


def test_every_handler_of_a_variant_has_a_spec_or_is_countersigns(tmp_path):
    assert {variant.handler for variant in VARIANTS} == {"runc", *testbed.hooked_specs(tmp_path)}


def run_script(tmp_path: Path, state: str) -> subprocess.CompletedProcess[str]:
    """Run the shell hook with a cosign that prints its arguments and fails."""
    cosign = tmp_path / "cosign"
    cosign.write_text('#!/bin/sh\necho "$@" >&2\nexit 7\n')
    cosign.chmod(0o755)
    argv = [str(testbed.SCRIPT), str(cosign), "/key.pub", "registry.example", "127.0.0.1:5000"]
    return subprocess.run(argv, input=state, capture_output=True, text=True, check=False)


def test_the_shell_hook_verifies_the_annotated_image_and_passes_the_outcome_on(tmp_path):
    state = json.dumps(
        {"id": "c", "annotations": {"a": "b", NAME: "registry.example/app:v1", "z": ""}}, separators=(",", ":")
    )
    done = run_script(tmp_path, state)
    assert done.returncode == 7
    assert done.stderr.split() == [
        *("verify", "--key", "/key.pub", "--insecure-ignore-tlog=true", "--output", "text", "127.0.0.1:5000/app:v1")
    ]


@pytest.mark.parametrize("name", ["registry.example.evil/app:v1", ""])
def test_the_shell_hook_refuses_what_it_cannot_look_up(tmp_path, name):
    done = run_script(tmp_path, json.dumps({"annotations": {NAME: name}}, separators=(",", ":")))
    assert done.returncode == 1
    assert "no image of registry.example" in done.stderr


def test_the_shell_hook_can_be_executed():
    assert os.access(testbed.SCRIPT, os.X_OK)


@pytest.fixture
def verifier(tmp_path):
    """Return a folder of verifiers with the script, and a cosign that notes its arguments and likes one digest."""
    cosign = tmp_path / "cosign"
    cosign.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\ncase "$*" in *@sha256:good) exit 0 ;; esac\nexit 7\n')
    cosign.chmod(0o755)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / VERIFIER.name
    script.write_bytes(VERIFIER.read_bytes())
    script.chmod(0o755)
    settings = [str(cosign), "/key.pub", "registry.example", "127.0.0.1:5000"]
    (tmp_path / "cosign-verifier.settings").write_text("\n".join(settings) + "\n")
    return script


def ask(script: Path, name: str, digest: str) -> subprocess.CompletedProcess[str]:
    argv = [str(script), "-name", name, "-digest", digest, "-stdin-media-type", "application/json"]
    return subprocess.run(argv, input="{}", capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "name", ["registry.example/app:v1", "registry.example/app@sha256:good", "registry.example/app"]
)
def test_the_verifier_verifies_the_digest_that_is_pulled(verifier, tmp_path, name):
    assert ask(verifier, name, "sha256:good").returncode == 0
    assert (tmp_path / "asked").read_text().split()[-1] == "127.0.0.1:5000/app@sha256:good"
    refused = ask(verifier, name, "sha256:bad")
    assert (refused.returncode, refused.stdout.strip()) == (1, f"cosign verifies nothing of {name}")


def test_the_verifier_refuses_other_registries_and_lets_the_sandbox_image_pass(verifier):
    assert ask(verifier, "registry.example.evil/app:v1", "sha256:good").returncode == 1
    assert ask(verifier, "registry.example/system/pause@sha256:bad", "sha256:bad").returncode == 0

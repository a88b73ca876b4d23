"""What other tools lose where an image is taken elsewhere: the table in docs/air-gap.md is this test's output."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from invoke.context import MockContext

from countersign.console.config import ROOT, Settings
from countersign.keys import pair as keys
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_MANIFEST, Descriptor
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.oci.repository import Repository
from countersign.tools.resolver import tool
from signing import sign
from signing.gather import Stock, gather
from signing.relocation_tasks import relocate
from tests.images import hang, push_image, push_index

PAGE = ROOT / "docs" / "air-gap.md"
BEGIN, END = "<!-- losses -->\n", "<!-- /losses -->\n"
NOTATION, SBOM = "application/vnd.cncf.notary.signature", "application/spdx+json"


def rows(index: Descriptor, platform: Descriptor, sbom: Descriptor) -> Mapping[str, Callable[[Stock], bool]]:
    def hangs(on: Descriptor, kind: str) -> Callable[[Stock], bool]:
        return lambda stock: any(one.artifact_type.startswith(kind) for one in stock.referrers.get(on.digest, ()))

    def tagged(on: Descriptor, suffix: str) -> Callable[[Stock], bool]:
        return lambda stock: digests.tag(on.digest, suffix) in stock.tags

    sigstore = "application/vnd.dev.sigstore.bundle"
    return {
        "index and platforms": lambda stock: platform.digest in stock.manifests,
        "bundles on the index": hangs(index, sigstore),
        "bundles on platforms": hangs(platform, sigstore),
        "Notation signatures": hangs(index, NOTATION),
        "SBOM as a referrer": hangs(index, SBOM),
        "signature on that SBOM": hangs(sbom, sigstore),
        "attachments on the index (`.sig`)": tagged(index, ".sig"),
        "attachments on platforms (`.sig`)": tagged(platform, ".sig"),
        "attested as cosign 2 does (`.att`)": tagged(index, ".att"),
        "SBOM as cosign 2 attaches it (`.sbom`)": tagged(index, ".sbom"),
    }


def test_what_each_tool_brings(
    settings: Settings,
    netloc: str,
    context: MockContext,
    tmp_path: Path,
    skopeo: tuple[Path, Mapping[str, str]],
) -> None:
    registry, source = Registry(), f"{netloc}/losses/source"
    key = keys.generate()
    platforms = {f"linux/{one}": push_image(registry, source, "", f"losses {one}") for one in ("amd64", "arm64")}
    index = push_index(registry, source, "v1", platforms)
    for target in sign.targets(registry, parse(f"{source}:v1")):
        sign.sign(registry, source, target, key)
    hang(registry, source, index, NOTATION)
    sbom = hang(registry, source, index, SBOM)
    sign.sign(registry, source, sbom, key, ["bundle"])
    for suffix in (".att", ".sbom"):
        content, _ = registry.manifest(source, digests.tag(index.digest, ".sig"))
        registry.put_manifest(source, digests.tag(index.digest, suffix), content, OCI_MANIFEST)
    (tmp_path / "key.pub").write_text(key.public.pem)

    def by_oras(to: str) -> None:
        words = ["cp", "-r", "--from-plain-http", "--to-plain-http", f"{source}:v1", f"{to}:v1"]
        subprocess.run([tool("oras", settings), *words], check=True, capture_output=True, timeout=60)

    def by_skopeo(to: str) -> None:
        program, environment = skopeo
        words = ["--insecure-policy", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]
        argv = [str(program), *words, f"docker://{source}:v1", f"docker://{to}:v1"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60, env=environment)

    def by_ours(to: str) -> None:
        relocate(context, [str(tmp_path / "key.pub")], source=f"{source}:v1", to=f"{to}:v1")

    ways = {"`oras cp -r`": by_oras, "`skopeo copy --all`": by_skopeo, "`signing.relocate`": by_ours}
    found: dict[str, Stock] = {}
    for number, (name, copy) in enumerate(ways.items()):
        to = f"{netloc}/losses/to{number}"
        copy(to)
        found[name] = gather(Repository(Registry(), to), "v1")
    lines = [f"| | {' | '.join(ways)} |", f"| --- |{' --- |' * len(ways)}"]
    for what, there in rows(index, platforms["linux/arm64"], sbom).items():
        assert there(gather(Repository(registry, source), "v1")), what
        assert there(found["`signing.relocate`"]), what
        lines.append(f"| {what} | {' | '.join('yes' if there(found[name]) else 'lost' for name in ways)} |")
    table = "\n".join([*lines, ""])
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    kept, _, after = rest.partition(END)
    if os.environ.get("LOSSES_TABLE") == "write":
        PAGE.write_text(before + BEGIN + table + END + after, encoding="utf-8")
    elif kept != table:
        pytest.fail(f"docs/air-gap.md has another table; LOSSES_TABLE=write makes it anew:\n{table}")

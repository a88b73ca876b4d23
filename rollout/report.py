"""What a policy would make of a cluster, by workload: who signs what, what is unsigned, what would break."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console import clean
from countersign.console.errors import CountersignError, UsageError

if TYPE_CHECKING:
    from rollout.workloads import Use
    from signing.verify import Access

HERE = Path(__file__).resolve().parent
AT_ONCE = 6
MOST = 2_000
"""Different images that are judged; of further ones it is said that they were not."""
SHOWN = 20
"""Of what would break, on a terminal; the files have all."""
_SIGNERS = 8
_SHORT = 12
COLUMNS = (
    *("namespace", "workload", "pods", "container", "role", "image", "judged"),
    *("verdict", "code", "scope", "root", "signers", "message"),
)
NOT_JUDGED = "NOT_JUDGED"
"""In place of a reason code: no verdict could be had, and the message says why."""

OUT_OF_REACH = frozenset({"REGISTRY_ERROR", "REGISTRY_AUTH", "NO_EVIDENCE_OFFLINE", "TIMEOUT"})
"""Codes that say what this machine reaches, which nodes may reach by another way or have evidence of."""


@dataclass(frozen=True)
class Judged:
    """What the policy says of one image.

    Attributes:
        allow: whether it would start; None where no verdict could be had.
        code: the reason code, or `NOT_JUDGED`.
        scope: that matched; empty for none.
        root: roots of trust that were satisfied.
        signers: what each signature on it says of its signer; ``✓`` before what a root of the policy takes.
        message: the gate's sentence.
    """

    allow: bool | None
    code: str
    scope: str = ""
    root: str = ""
    signers: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Report:
    """The whole of it.

    Attributes:
        cluster: what it is about.
        policy: the policy's file.
        uses: what runs, with the number of pods.
        judged: by `Use.judged`.
        more: there are more pods than were looked at.
    """

    cluster: str
    policy: str
    uses: Mapping[Use, int] = field(repr=False)
    judged: Mapping[str, Judged] = field(repr=False)
    more: bool = False

    def of(self, use: Use) -> Judged:
        """Return what is said of a use."""
        return self.judged[use.judged]

    @property
    def breaks(self) -> list[Use]:
        """What would not start again."""
        return sorted(use for use in self.uses if self.of(use).allow is False)

    @property
    def unknown(self) -> list[Use]:
        """Of what no verdict could be had."""
        return sorted(use for use in self.uses if self.of(use).allow is None)

    @property
    def namespaces(self) -> list[tuple[str, int, int, int]]:
        """Return each namespace with its workloads, those that would break, and those that are not known."""
        kinds = {
            use: "breaks" if self.of(use).allow is False else "unknown" if self.of(use).allow is None else "ok"
            for use in self.uses
        }
        found = []
        for name in sorted({use.namespace for use in self.uses}):
            own = {(use.workload, kind) for use, kind in kinds.items() if use.namespace == name}
            counted = Counter(kind for _, kind in own)
            found.append((name, len({workload for workload, _ in own}), counted["breaks"], counted["unknown"]))
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each use, in the order of `COLUMNS`, what would break first; every value is cleaned."""
        order = {False: 0, None: 1, True: 2}
        found = []
        for use in sorted(self.uses, key=lambda use: (order[self.of(use).allow], use)):
            one = self.of(use)
            verdict = {True: "starts", False: "would be refused", None: "not known"}[one.allow]
            head = (use.namespace, use.workload, str(self.uses[use]), use.container, use.role, use.image, use.judged)
            row = (*head, verdict, one.code, one.scope, one.root, ", ".join(one.signers), one.message)
            found.append(tuple(map(clean.line, row)))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the document ``countersign.rollout-report/v1``."""
        return {
            "version": "countersign.rollout-report/v1",
            "cluster": self.cluster,
            "policy": self.policy,
            "more": self.more,
            "breaks": len(self.breaks),
            "unknown": len(self.unknown),
            "uses": [dict(zip(COLUMNS, row, strict=True)) for row in self.rows()],
        }


def kubeconfig(named: str) -> Path:
    """Return the kubeconfig that is meant, as kubectl chooses it.

    Raises:
        UsageError: there is none.
    """
    import os

    first = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    path = Path(named or first or "~/.kube/config").expanduser()
    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), expected="a kubeconfig", do="give --kubeconfig")
    return path


def judge(
    images: Iterable[str], program: Path, policy: bytes, access: Access, tell: Callable[[str], None]
) -> dict[str, Judged]:
    """Have the gate's engine judge images by a rendered policy, a few at a time.

    Args:
        images: their names, each once.
        program: the gate's.
        policy: as the gate reads it.
        access: how registries are reached.
        tell: is told how far it is.
    """
    import tempfile

    wanted = sorted(images)
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        file = Path(folder) / "policy.json"
        file.write_bytes(policy)
        found = {}
        for image, one in zip(wanted, pool.map(lambda name: _one(program, name, file, access), wanted[:MOST])):  # noqa: B905 - what is beyond follows
            found[image] = one
            tell(f"{len(found)} of {len(wanted)} images")
    beyond = Judged(None, NOT_JUDGED, message=f"only {MOST} images are judged; take one namespace at a time")
    return {image: found.get(image, beyond) for image in wanted}


def _one(program: Path, image: str, policy: Path, access: Access) -> Judged:
    from signing.verify import by_policy, verify

    try:
        verdict = verify(program, image, by_policy(policy), access)
    except CountersignError as error:
        return Judged(None, NOT_JUDGED, message=str(error))
    signers = _signers(program, image, policy.read_bytes(), access) if verdict.get("repository") else ()
    words = {name: str(verdict.get(name, "")) for name in ("code", "scope", "root", "message")}
    return Judged(None if words["code"] in OUT_OF_REACH else bool(verdict["allow"]), signers=signers, **words)


def _signers(program: Path, image: str, policy: bytes, access: Access) -> tuple[str, ...]:
    """Return what signatures on an image say of who made them; nothing where that could not be read."""
    from signing.inspection import inspect

    try:
        digests = inspect(program, image, policy, access)["digests"]
    except CountersignError:
        return ()  # the verdict has said why
    found = [_signer(one) for each in digests for one in each["signatures"] if not one["attestation"]]
    return tuple(dict.fromkeys(found))[:_SIGNERS]


def _signer(one: Mapping[str, Any]) -> str:
    taken = [root["root"] for root in one["roots"] if root["ok"]]
    if taken:
        return f"✓ {taken[0]}"
    signer = one["signer"]
    names: Sequence[str] = signer.get("names") or ()
    return " and ".join(names) or (f"key {signer['key'][:_SHORT]}" if signer.get("key") else "an unknown key")


def as_csv(report: Report) -> str:
    """Return the rows as CSV (RFC 4180); no cell begins a formula in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_unformed(cell) for cell in row] for row in report.rows())
    return text.getvalue()


def _unformed(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t")) else cell


def as_html(report: Report) -> str:
    """Return the page: one file that loads nothing, every value cleaned and escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=clean.for_page
    )
    template = environment.from_string((HERE / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(report=report, columns=COLUMNS, rows=report.rows())

"""``release.yaml`` → ``Project``: the form, then everything that the form cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from countersign.console.errors import UsageError
from countersign.policy import document, identities, subjects
from countersign.policy.document import Document
from countersign.policy.problems import Key, PolicyInvalid, Problem
from release import charts, names, schema
from release.made import FILE_NAME
from release.model import PLATFORMS, Chart, Identity, Image, Notary, Package, Packaged, Program, Project, Scan
from release.schema import FileEntry, PackageEntry, ReleaseEntry
from signing.stored import KNOWN

FILE = "release.yaml"
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z0-9_./-]+\.[A-Za-z_][A-Za-z0-9_]*")
_TAGS = re.compile(r"[A-Za-z0-9_.,]*")
_SHOWN = 80  # characters
_MODE = re.compile(r"0?[0-7]{3}")
_KUBERNETES = re.compile(r"1\.[0-9]{1,3}")
_ISSUER = re.compile(r"https?://[^*\s]+")
_URL = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]+)")


class ReleaseInvalid(UsageError):
    """A ``release.yaml`` cannot be used.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = len(problems) - 1
        super().__init__(problems[0].text, where=problems[0].where, do=f"and {more} more" if more else "")
        self.problems = list(problems)


def load(path: Path) -> Project:
    """Read and check a ``release.yaml``; paths in it count from its folder.

    Raises:
        ReleaseInvalid: with all problems of form, or else with all others.
    """
    if not path.is_file():
        kind = "is not a file" if path.exists() else "is not there"
        raise ReleaseInvalid([Problem(path, 0, (), f"{kind}; expected a release.yaml, which release.init writes")])
    try:
        source = document.read(path)
    except PolicyInvalid as err:
        raise ReleaseInvalid(err.problems) from err
    entry = schema.validate(source)
    if isinstance(entry, list):
        raise ReleaseInvalid(entry)
    return _Reader(source).project(entry)


class _Reader:
    """Turns the entries of one file into a project, collecting what is wrong."""

    def __init__(self, source: Document) -> None:
        self._source = source
        self._root = source.path.resolve().parent
        self._problems: list[Problem] = []

    def project(self, entry: ReleaseEntry) -> Project:
        self._check_name(entry.name, ("name",))
        if not _URL.fullmatch(entry.source) or ".." in entry.source:
            self._note(("source",), f"got {entry.source!r}; expected the repository's URL, https://HOST/PATH")
        self._check(names.wrong_registry(entry.registry), ("registry",))
        for index, platform in enumerate(entry.platforms):
            if platform not in PLATFORMS:
                self._note(("platforms", index), f"got {platform!r}; expected {' or '.join(PLATFORMS)}")
        self._twice(entry.platforms, ("platforms",))
        programs = self._programs(entry)
        known = {each.name for each in programs}
        images = self._images(entry, known)
        packages = tuple(self._package(each, ("packages", i), known) for i, each in enumerate(entry.packages))
        self._twice([each.name for each in entry.packages], ("packages",))
        key, identity = self._signer(entry)
        found = Project(
            root=self._root,
            name=entry.name,
            source=entry.source.rstrip("/"),
            registry=entry.registry.rstrip("/"),
            version_file=self._file(entry.version, ("version",)) if entry.version else None,
            changelog=self._file(entry.changelog, ("changelog",)) if entry.changelog else None,
            platforms=tuple(entry.platforms),
            programs=programs,
            images=images,
            packages=packages,
            archive=entry.archive,
            files=self._files(entry),
            chart=self._chart(entry),
            scan=self._scan(entry),
            formats=tuple(each for each in KNOWN if each in entry.sign.formats),
            key=key,
            identity=identity,
            notary=self._notary(entry),
        )
        if self._problems:
            raise ReleaseInvalid(sorted(self._problems, key=lambda problem: problem.line))
        return found

    def _programs(self, entry: ReleaseEntry) -> tuple[Program, ...]:
        for i, each in enumerate(entry.programs):
            self._check_name(each.name, ("programs", i, "name"))
            folder = self._there(each.folder, ("programs", i, "folder"))
            if folder and not (folder / "go.mod").is_file():
                self._note(("programs", i, "folder"), f"{each.folder!r} has no go.mod; expected a Go module's folder")
            if each.variable and not _VARIABLE.fullmatch(each.variable):
                self._note(
                    ("programs", i, "variable"), f"got {each.variable!r}; expected PACKAGE.NAME, as main.release"
                )
            if not _TAGS.fullmatch(each.tags):
                self._note(
                    ("programs", i, "tags"), f"got {each.tags!r}; expected Go build tags with commas between them"
                )
            if not re.fullmatch(r"\.|\./[^\s.][^\s]*", each.package) or ".." in each.package:
                self._note(("programs", i, "package"), f"got {each.package!r}; expected ./PATH below {each.folder!r}")
            elif folder and not (folder / each.package).is_dir():
                self._note(("programs", i, "package"), f"there is no {each.package!r} below {each.folder!r}")
        self._twice([each.name for each in entry.programs], ("programs",))
        return tuple(Program(each.name, each.folder, each.package, each.tags, each.variable) for each in entry.programs)

    def _images(self, entry: ReleaseEntry, known: set[str]) -> tuple[Image, ...]:
        for i, each in enumerate(entry.images):
            self._check_name(each.name, ("images", i, "name"))
            self._check(names.wrong_image(each.name), ("images", i, "name"))
            programs = each.programs or []
            for j, name in enumerate(programs):
                self._check_program(name, ("images", i, "programs", j), known)
            self._twice(programs, ("images", i, "programs"))
            ways = [bool(programs), bool(each.containerfile), bool(each.layout)]
            if sum(ways) != 1:
                got = "nothing" if not any(ways) else "several"
                self._note(("images", i), f"got {got} to make it of; expected one of programs, containerfile, layout")
            if each.context and not each.containerfile:
                self._note(("images", i, "context"), "is of a Containerfile; expected containerfile too")
            for key, found in (("containerfile", self._file), ("context", self._there)):
                if text := getattr(each, key):
                    found(text, ("images", i, key))
            if each.layout:
                self._within(each.layout, ("images", i, "layout"))
        self._twice([each.name for each in entry.images], ("images",))
        return tuple(
            Image(each.name, tuple(each.programs or ()), each.containerfile, each.context or ".", each.layout)
            for each in entry.images
        )

    def _package(self, entry: PackageEntry, key: Key, known: set[str]) -> Package:
        self._check(names.wrong_package(entry.name), (*key, "name"))
        self._check(names.wrong_line(entry.description), (*key, "description"))
        for i, each in enumerate(entry.suggests):
            self._check(names.wrong_line(each), (*key, "suggests", i))
        files = tuple(self._packaged(each, (*key, "files", i), known) for i, each in enumerate(entry.files))
        self._twice([each.target for each in entry.files], (*key, "files"))
        scripts = {"afterInstall": entry.scripts.after_install, "beforeRemove": entry.scripts.before_remove}
        for name, path in scripts.items():
            if path:
                self._file(path, (*key, "scripts", name))
        formats = tuple(dict.fromkeys(entry.formats))
        return Package(
            entry.name, entry.description, formats, files, tuple(entry.suggests), entry.license, *scripts.values()
        )

    def _packaged(self, entry: FileEntry, key: Key, known: set[str]) -> Packaged:
        if entry.source.startswith("{") and entry.source.endswith("}"):
            self._check_program(entry.source[1:-1], (*key, "source"), known)
        else:
            self._file(entry.source, (*key, "source"))
        target = PurePosixPath(entry.target)
        self._check(names.wrong_line(entry.target), (*key, "target"))
        if not target.is_absolute() or ".." in target.parts or entry.target.endswith("/"):
            self._note((*key, "target"), f"got {entry.target!r}; expected a file's absolute path")
        if not _MODE.fullmatch(entry.mode):
            self._note((*key, "mode"), f'got {entry.mode!r}; expected permissions in quotes, as "0644"')
            return Packaged(entry.source, entry.target)
        return Packaged(entry.source, entry.target, int(entry.mode, 8), entry.replace or None)

    def _files(self, entry: ReleaseEntry) -> tuple[str, ...]:
        for i, text in enumerate(entry.files):
            path = self._there(text, ("files", i))
            good = path and FILE_NAME.fullmatch(path.name) and path != self._root and (path.is_file() or path.is_dir())
            if path and not good:
                wanted = "a file or folder below it whose name has letters, digits, '.', '_', '~' and '-'"
                self._note(("files", i), f"got {text!r}; expected {wanted}")
        self._twice([PurePosixPath(text).name for text in entry.files], ("files",))
        return tuple(entry.files)

    def _chart(self, entry: ReleaseEntry) -> Chart | None:
        if entry.chart is None:
            return None
        key: Key = ("chart",)
        folder = self._there(entry.chart.folder, (*key, "folder"))
        if entry.chart.values:
            self._file(entry.chart.values, (*key, "values"))
        known = [each.name for each in entry.images]
        if entry.chart.image and entry.chart.image not in known:
            self._note((*key, "image"), f"unknown image {entry.chart.image!r}; expected one of {', '.join(known)}")
        name = ""
        if folder:
            try:
                name = str(charts.metadata(folder)["name"])
            except UsageError as err:
                self._note((*key, "folder"), str(err))
        if name in known:
            self._note((*key, "folder"), f"its chart is called {name!r}, as an image is; both would be REGISTRY/{name}")
        for index, version in enumerate(entry.chart.kubernetes):
            if not _KUBERNETES.fullmatch(version):
                self._note(
                    (*key, "kubernetes", index), f'got {version!r}; expected a minor version in quotes, as "1.37"'
                )
        kubernetes = tuple(entry.chart.kubernetes)
        given = entry.chart
        return Chart(name, given.folder, given.image, given.values, kubernetes, given.manifest)

    def _scan(self, entry: ReleaseEntry) -> Scan | None:
        if entry.scan is None:
            return None
        exceptions = self._file(entry.scan.exceptions, ("scan", "exceptions"))
        vex = [self._file(each, ("scan", "vex", index)) for index, each in enumerate(entry.scan.vex)]
        if vex and "grype" not in entry.scan.scanners:
            self._note(("scan", "vex"), "only grype reads VEX; expected it among scanners")
        if "grype" not in entry.scan.scanners and not all(each.programs for each in entry.images):
            self._note(("scan", "scanners"), "lacks grype, which alone reads an image that is not of programs")
        self._twice(entry.scan.scanners, ("scan", "scanners"))
        found = tuple(each for each in vex if each)
        return Scan(exceptions or self._root, entry.scan.fail_on, found, tuple(entry.scan.scanners))

    def _signer(self, entry: ReleaseEntry) -> tuple[Path | None, Identity | None]:
        sign = entry.sign
        if bool(sign.key) == (sign.identity is not None):
            self._note(("sign",), f"got {'both' if sign.key else 'neither'}; expected either key or identity")
        if sign.key.endswith(".key"):
            self._note(("sign", "key"), f"got {sign.key!r}; expected the public key, which lies beside it")
        if sign.identity is None:
            return (self._within(sign.key, ("sign", "key")) if sign.key else None), None
        who = sign.identity
        key: Key = ("sign", "identity")
        if not _ISSUER.fullmatch(who.issuer):
            self._note((*key, "issuer"), f"got {who.issuer!r}; expected the issuer's whole URL")
        if why := subjects.wrong(who.subject):
            self._note((*key, "subject"), f"{who.subject!r} {why}; expected host and owner written out")
        trusted = self._within(who.trusted_root, (*key, "trustedRoot"))
        return None, Identity(who.issuer, who.subject, trusted or self._root)

    def _notary(self, entry: ReleaseEntry) -> Notary | None:
        sign = entry.sign
        if ("notation" in sign.formats) != (sign.notation is not None):
            lacks = "notation, which formats has" if sign.notation is None else "notation among formats"
            self._note(("sign",), f"lacks {lacks}; expected both or neither")
        if sign.formats == ["notation"]:
            self._note(("sign", "formats"), "has notation alone; expected attachment or bundle too, by which files go")
        if sign.notation is None:
            return None
        key: Key = ("sign", "notation")
        identity = sign.notation.identity
        why = identities.wrong(identity) or ("" if identities.in_spec(identity) else "has no ST, which notation wants")
        if why:
            self._note((*key, "identity"), f'{identity!r} {why}; expected "{identities.PREFIX} C=…, ST=…, O=…, CN=…"')
        roots = [self._there(each, (*key, "roots", index)) for index, each in enumerate(sign.notation.roots)]
        certificate = self._within(sign.notation.certificate, (*key, "certificate"))
        return Notary(certificate or self._root, tuple(each for each in roots if each), identity)

    def _check_name(self, name: str, key: Key) -> None:
        if not _NAME.fullmatch(name):
            self._note(key, f"got {name!r}; expected up to 64 lower-case letters, digits, '.', '_' and '-'")

    def _check_program(self, name: str, key: Key, known: set[str]) -> None:
        if name not in known:
            self._note(key, f"unknown program {name!r}; expected one of {', '.join(sorted(known))}")

    def _within(self, text: str, key: Key) -> Path | None:
        """Return a path below the project's root; what leads out of it is noted."""
        try:
            path = (self._root / text).resolve()
            path.exists()
        except (OSError, RuntimeError, ValueError):  # too long, a link to itself, a zero byte
            path = self._root.parent
        if not text or not path.is_relative_to(self._root):
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            self._note(key, f"got {shown!r}; expected a path below {self._root.name}/")
            return None
        return path

    def _there(self, text: str, key: Key) -> Path | None:
        path = self._within(text, key)
        if path and not path.exists():
            self._note(key, f"there is no {text!r}")
            return None
        return path

    def _file(self, text: str, key: Key) -> Path | None:
        path = self._there(text, key)
        if path and not path.is_file():
            self._note(key, f"{text!r} is not a file")
            return None
        return path

    def _twice(self, names: Iterable[str], key: Key) -> None:
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen:
                self._note((*key, index), f"{name!r} stands here again")
            seen.add(name)

    def _check(self, wrong: str, key: Key) -> None:
        if wrong:
            self._note(key, wrong)

    def _note(self, key: Key, text: str) -> None:
        self._problems.append(self._source.problem(key, text))

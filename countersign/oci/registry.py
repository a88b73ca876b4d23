"""A client of the OCI distribution API 1.1: bounded, with typed errors, through containerd's hosts.toml.

Content asked for by digest is checked against it; nothing is read beyond its bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode, urlsplit

from countersign.oci import credentials, descriptor, hosts
from countersign.oci import digest as digests
from countersign.oci.descriptor import MANIFEST_LIMIT, Descriptor
from countersign.oci.errors import BadConfig, Malformed, NotFound, RegistryError, Tampered
from countersign.oci.hosts import Host
from countersign.oci.proxy import NONE, Proxies
from countersign.oci.reference import Reference

if TYPE_CHECKING:
    from countersign.oci.messages import Answer
    from countersign.oci.transport import Transport

_ACCEPT = ", ".join(sorted(descriptor.MANIFEST_TYPES | descriptor.INDEX_TYPES))


class Registry:
    """Access to all registries, under one set of hosts and credentials.

    Args:
        hosts_dir: containerd's certs.d folder, or None for the registries' own names.
        docker_config: a Docker config.json, or several, the first going before the next; none: anonymous access.
        proxies: by which servers are reached.

    Names are repositories with their registry ("registry.example/app"). Every method raises ``RegistryError`` or
    one of its kinds if the registry fails, and ``BadConfig`` if hosts.toml or the Docker config cannot be used.
    """

    def __init__(
        self,
        hosts_dir: Path | None = None,
        docker_config: Path | Sequence[Path] = (),
        *,
        allow_http: bool = False,
        proxies: Proxies = NONE,
    ) -> None:
        self._hosts_dir = hosts_dir
        self._docker_configs = [docker_config] if isinstance(docker_config, Path) else docker_config
        self._allow_http = allow_http
        self._proxies = proxies
        self._hosts: dict[str, list[Host]] = {}
        self._transport: Transport | None = None
        self.without_referrers: set[str] = set()
        """Repositories that were found to be without the referrers API."""

    @property
    def logins(self) -> list[str]:
        """Where the logins were found that registries have asked for so far: file and entry."""
        return list(self._transport.used) if self._transport else []

    def resolve(self, ref: Reference) -> Descriptor:
        """Return what a reference points at now.

        Raises:
            NotFound: if there is no such image.
        """
        return self.manifest(ref.name, ref.digest or ref.tag or "")[1]

    def manifest(self, name: str, reference: str) -> tuple[bytes, Descriptor]:
        """Return the manifest or index under a tag or digest, with its descriptor.

        Raises:
            NotFound: if there is none.
            Tampered: if the bytes are not those of the digest.
            Malformed: over 4 MiB, no JSON object, or both manifest and index.
        """
        answer = self.get(name, f"manifests/{reference}", MANIFEST_LIMIT, {"Accept": _ACCEPT})
        where = f"{name}{'@' if ':' in reference else ':'}{reference}"
        claimed = reference if ":" in reference else answer.headers.get("Docker-Content-Digest", "")
        if claimed and not digests.matches(claimed, answer.body):
            raise Tampered(f"the bytes are {digests.of(answer.body)}", where=where, expected=claimed)
        media_type = _media_type(answer, descriptor.read_object(answer.body, where), where)
        return answer.body, Descriptor(media_type, claimed or digests.of(answer.body), len(answer.body))

    def manifest_or_none(self, name: str, reference: str) -> tuple[bytes, Descriptor] | None:
        """Return ``manifest``, or None if there is none."""
        try:
            return self.manifest(name, reference)
        except NotFound:
            return None

    def put_manifest(self, name: str, reference: str, content: bytes, media_type: str) -> Descriptor:
        """Store a manifest or index under a tag or its digest; return its descriptor."""
        self.send_manifest(name, reference, content, media_type)
        return descriptor.of(content, media_type)

    def send_manifest(self, name: str, reference: str, content: bytes, media_type: str) -> Answer:
        """Store a manifest or index under a tag or its digest; return what the registry says."""
        host = self._pusher(name)
        headers = {"Content-Type": media_type}
        answer = self._send(
            host, name, "PUT", _url(host, name, f"manifests/{reference}"), headers=headers, body=content
        )
        _expect(answer, f"{name}:{reference}", HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
        return answer

    def delete_manifest(self, name: str, reference: str) -> None:
        """Remove a tag, or a manifest by its digest ("Content Management"); one that is gone is fine."""
        host = self._pusher(name)
        answer = self._send(host, name, "DELETE", _url(host, name, f"manifests/{reference}"))
        _expect(answer, f"{name}:{reference}", HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND)

    def blob(self, name: str, digest: str, limit: int) -> bytes:
        """Return a blob of at most ``limit`` bytes.

        Raises:
            NotFound: if there is none.
            Tampered: if the bytes are not those of the digest.
            Malformed: if it is larger.
        """
        answer = self.get(name, f"blobs/{digest}", limit)
        if not digests.matches(digest, answer.body):
            raise Tampered(f"the bytes are {digests.of(answer.body)}", where=f"{name}@{digest}", expected=digest)
        return answer.body

    def put_blob(self, name: str, content: bytes, media_type: str = "application/octet-stream") -> Descriptor:
        """Store a blob unless it is there; return its descriptor."""
        what = descriptor.of(content, media_type)
        self.put_stream(name, what, content)
        return what

    def put_stream(self, name: str, what: Descriptor, content: bytes | BinaryIO) -> None:
        """Store a blob from memory or from a file unless it is there ("Pushing a blob monolithically")."""
        host = self._pusher(name)
        if self._send(host, name, "HEAD", _url(host, name, f"blobs/{what.digest}")).status == HTTPStatus.OK:
            return
        started = self._send(host, name, "POST", _url(host, name, "blobs/uploads/"))
        _expect(started, name, HTTPStatus.ACCEPTED)
        url = started.absolute(started.headers.get("Location", ""))
        url += ("&" if urlsplit(url).query else "?") + f"digest={what.digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(what.size)}
        answer = self._send(host, name, "PUT", url, headers=headers, body=content)
        _expect(answer, f"{name}@{what.digest}", HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)

    def fetch(self, name: str, what: Descriptor, into: BinaryIO) -> None:
        """Write a blob of any size into a file, from its start; exactly the bytes that its descriptor names.

        Raises:
            NotFound: if there is none.
            Tampered: if the bytes are not those of the digest.
            Malformed: if it is larger than its descriptor says.
        """
        self.get(name, f"blobs/{what.digest}", what.size, into=into)
        found = digests.of_file(into)
        if found != what.digest:
            raise Tampered(f"the bytes are {found}", where=f"{name}@{what.digest}", expected=what.digest)

    def has_blob(self, name: str, digest: str) -> bool:
        """Say whether a blob is where content of this repository is pushed to."""
        host = self._pusher(name)
        return self._send(host, name, "HEAD", _url(host, name, f"blobs/{digest}")).status == HTTPStatus.OK

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Have the registry take a blob from another repository of its own ("Mounting a blob"); say whether it did."""
        host = self._pusher(name)
        query = urlencode({"mount": digest, "from": source.partition("/")[2]})
        url = _url(host, name, "blobs/uploads/")
        answer = self._send(host, name, "POST", f"{url}{'&' if urlsplit(url).query else '?'}{query}")
        return answer.status == HTTPStatus.CREATED

    def get(
        self,
        name: str,
        tail: str,
        limit: int,
        headers: Mapping[str, str] | None = None,
        *,
        missing: tuple[int, ...] = (),
        into: BinaryIO | None = None,
    ) -> Answer:
        """GET ``tail`` below a repository, from the first server that has it.

        Args:
            tail: the rest of the URL ("blobs/sha256:…").
            missing: statuses that mean "there is none", beside 404.
            into: a file that takes the content instead of the answer.

        Raises:
            NotFound: if the last server, the registry itself, has none.
        """
        failure: Exception = BadConfig("no server may be asked to pull", where=name, do="see hosts.toml")
        for host in self._hosts_of(name):
            if not host.capabilities & {"pull", "resolve"}:
                continue
            try:
                url = _url(host, name, tail)
                answer = self._send(host, name, "GET", url, headers=headers or {}, limit=limit, into=into)
            except RegistryError as err:
                failure = err
                continue
            if answer.status == HTTPStatus.OK:
                return answer
            if answer.status in {HTTPStatus.NOT_FOUND, *missing}:
                failure = _not_found(name, tail, host)
            else:
                failure = _refused(answer, f"{name}/{tail}", HTTPStatus.OK)
        raise failure

    def get_next(self, name: str, page: Answer, target: str, limit: int) -> Answer:
        """GET a further page that an answer names, from where that answer came.

        Only the query of its URL counts, as for the gate: a registry behind a proxy names itself by its inner name.
        """
        query = urlsplit(page.absolute(target)).query
        url = f"{page.url.partition('?')[0]}?{query}"
        for host in self._hosts_of(name):
            if url.startswith(f"{host.url}/"):
                answer = self._send(host, name, "GET", url, limit=limit)
                _expect(answer, name, HTTPStatus.OK)
                return answer
        raise RegistryError(f"names {url} as its next page", where=name, expected="a page on the same server")

    def _pusher(self, name: str) -> Host:
        """Return the server that content is pushed to."""
        for host in self._hosts_of(name):
            if "push" in host.capabilities:
                return host
        raise BadConfig("no server may be asked to push", where=name, do="see hosts.toml")

    def _hosts_of(self, name: str) -> list[Host]:
        registry = name.partition("/")[0]
        if registry not in self._hosts:
            self._hosts[registry] = hosts.hosts_of(registry, self._hosts_dir, allow_http=self._allow_http)
        return self._hosts[registry]

    def _send(self, host: Host, name: str, method: str, url: str, **more: Any) -> Answer:
        """Send a request; ``more`` are further fields of ``transport.Request``."""
        from countersign.oci.messages import Request
        from countersign.oci.transport import Transport

        if self._transport is None:
            self._transport = Transport(
                credentials.load(*self._docker_configs), allow_http=self._allow_http, proxies=self._proxies
            )
        return self._transport.send(host, name.partition("/")[2], Request(method, url, **more))


def _url(host: Host, name: str, tail: str) -> str:
    """Return a URL below a repository; a server that is not the registry itself is told which it stands for."""
    registry, _, path = name.partition("/")
    whole = f"{path}/{tail}" if path else tail  # a registry's own page: its catalog
    return f"{host.url}/{whole}" + (f"?ns={registry}" if host.netloc != registry else "")


def _expect(answer: Answer, where: str, *statuses: int) -> None:
    """Raise unless the status is one of those."""
    if answer.status not in statuses:
        raise _refused(answer, where, *statuses)


def _refused(answer: Answer, where: str, *statuses: int) -> RegistryError:
    text = answer.body[:200].decode(errors="replace")
    return RegistryError(f"{answer.status} {text}", where=where, expected=" or ".join(str(int(s)) for s in statuses))


def _not_found(name: str, tail: str, host: Host) -> NotFound:
    kind, _, reference = tail.partition("/")
    what = {"manifests": "image", "blobs": "blob"}.get(kind, kind)
    return NotFound(f"no such {what} at {host.netloc}", where=f"{name}{'@' if ':' in reference else ':'}{reference}")


def _media_type(answer: Answer, document: Mapping[str, Any], where: str) -> str:
    """Return a manifest's media type: its own, else the header's; both must agree with its shape."""
    header = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()  # RFC 9110, 8.3.1
    own = document.get("mediaType", header)
    known = descriptor.INDEX_TYPES | descriptor.MANIFEST_TYPES
    if not isinstance(own, str) or (header in known and own != header):
        raise Malformed(f"the media type is {own!r} in the manifest and {header!r} in the answer", where=where)
    stray = {"layers", "config"} if own in descriptor.INDEX_TYPES else {"manifests"}
    if stray & set(document):
        raise Malformed(f"{own} with {', '.join(sorted(stray & set(document)))}", where=where)
    return own

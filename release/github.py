"""Releases on GitHub, by its REST API ("Releases", "Release assets", "Git references"): a draft first."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.oci.hosts import is_loopback
from countersign.oci.proxy import NONE, Proxies, connections

_REPOSITORY = re.compile(r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+)")
_LIMIT = 8 << 20  # bytes of an answer
_SECONDS = 300
_PAGES = 20
_GONE = 404
_NOT_TAKEN = (403, 404)
"""What code scanning answers where a repository does not have it, or the token may not write to it."""


@dataclass(frozen=True)
class GitHub:
    """One repository's releases.

    Attributes:
        repository: ``OWNER/NAME``.
        token: may write the repository's contents; never shown.
        api: where the API is.
        proxies: by which it is reached.
    """

    repository: str
    token: str = field(repr=False)
    api: str = "https://api.github.com"
    proxies: Proxies = NONE

    def tag_there(self, tag: str) -> bool:
        """Say whether git has the tag."""
        return self._call("GET", f"/git/ref/tags/{quote(tag)}", but=(_GONE,)) is not None

    def numbers(self, tag: str) -> list[int]:
        """Return the releases and drafts for a tag, by their numbers."""
        found: list[int] = []
        for page in range(1, _PAGES + 1):
            listed = self._call("GET", f"/releases?per_page=100&page={page}")
            if not isinstance(listed, list) or not listed:
                break
            found += [int(each["id"]) for each in listed if each.get("tag_name") == tag]
        return found

    def draft(self, tag: str, commit: str, notes: str, *, prerelease: bool) -> Mapping[str, Any]:
        """Make a draft; return it."""
        wanted = {"tag_name": tag, "target_commitish": commit, "name": tag, "body": notes}
        made = self._call("POST", "/releases", {**wanted, "draft": True, "prerelease": prerelease})
        if not isinstance(made, dict) or not isinstance(made.get("id"), int) or "upload_url" not in made:
            raise InfrastructureError("made no draft that can be read", where=self.api)
        return made

    def upload(self, draft: Mapping[str, Any], path: Path) -> None:
        """Add a file to a draft."""
        url = str(draft["upload_url"]).partition("{")[0] + f"?name={quote(path.name)}"
        if _domain(url) != _domain(self.api):  # the token goes there
            raise InfrastructureError(f"wants files at {url}", where=self.api, expected="its own domain")
        self._request("POST", url, path.read_bytes(), "application/octet-stream")

    def publish(self, number: int) -> None:
        """Make a draft a release; GitHub makes the tag then, if there is none."""
        self._call("PATCH", f"/releases/{number}", {"draft": False})

    def remove(self, number: int) -> None:
        """Remove a release or draft; one that is gone is fine."""
        self._call("DELETE", f"/releases/{number}", but=(_GONE,))

    def remove_tag(self, tag: str) -> None:
        """Remove a tag; one that is gone is fine."""
        if self.tag_there(tag):
            self._call("DELETE", f"/git/refs/tags/{quote(tag)}", but=(_GONE,))

    def scanned(self, tag: str, commit: str, sarif: bytes) -> bool:
        """Give code scanning what was found ("Code scanning"); return whether this repository has it."""
        packed = base64.b64encode(gzip.compress(sarif, mtime=0)).decode()
        wanted = {"commit_sha": commit, "ref": f"refs/tags/{tag}", "sarif": packed, "tool_name": "countersign"}
        return self._call("POST", "/code-scanning/sarifs", wanted, but=_NOT_TAKEN) is not None

    def _call(self, method: str, tail: str, body: Mapping[str, Any] | None = None, but: Sequence[int] = ()) -> Any:
        """Return the document that the API answers with; None for a status in ``but``."""
        content = json.dumps(body).encode() if body is not None else None
        answer = self._request(method, f"{self.api}/repos/{self.repository}{tail}", content, but=but)
        try:
            return json.loads(answer) if answer else None
        except ValueError as err:
            raise InfrastructureError("answers with no JSON", where=f"{method} {self.api}{tail}") from err

    def _request(
        self, method: str, url: str, body: bytes | None, kind: str = "application/json", but: Sequence[int] = ()
    ) -> bytes:
        """Return an answer's body; empty for a status in ``but``.

        Raises:
            InfrastructureError: the API fails, or refuses.
        """
        import urllib3
        from urllib3.exceptions import HTTPError

        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "countersign-release",
            **({"Content-Type": kind} if body is not None else {}),
        }
        pool = connections(None, self.proxies.of(url))
        where = f"{method} {url.partition('?')[0]}"
        try:
            answer = pool.request(
                method, url, headers=headers, body=body, redirect=False, retries=False, preload_content=False,
                timeout=urllib3.Timeout(connect=10, read=_SECONDS),
            )  # fmt: skip
            content = answer.read(_LIMIT)
        except HTTPError as err:
            raise InfrastructureError(f"cannot be reached: {err}", where=where, do="try again") from err
        finally:
            pool.clear()
        if answer.status in but:
            return b""
        if not 200 <= answer.status < 300:  # noqa: PLR2004
            raise InfrastructureError(f"{answer.status} {_said(content)}", where=where)
        return content


def of(source: str, token: str, api: str, proxies: Proxies) -> GitHub:
    """Return the repository of a source's URL.

    Raises:
        UsageError: the source is not on GitHub, or the API is not an HTTPS URL.
        MissingError: there is no token.
    """
    match = _REPOSITORY.fullmatch(source)
    if not match:
        raise UsageError("is not on GitHub", where=source, do="give --no-github: images and tags only")
    split = urlsplit(api)
    if split.scheme != "https" and not is_loopback(split.netloc):
        raise UsageError(f"got {api!r}", where="GITHUB_API_URL", expected="an https:// URL")
    if not token:
        raise MissingError("there is no GITHUB_TOKEN", do="set it to one that may write the repository's contents")
    return GitHub(match[1], token, api.rstrip("/"), proxies)


def _domain(url: str) -> tuple[str, list[str]]:
    """Return a URL's scheme and the last two labels of its host: github.com has uploads.github.com."""
    split = urlsplit(url)
    return split.scheme, (split.hostname or "").split(".")[-2:]


def _said(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace")

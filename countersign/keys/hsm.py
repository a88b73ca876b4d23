"""Keys in an HSM or smart card, by PKCS #11 and its URIs (RFC 7512), as cosign takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from cryptography.hazmat.primitives import hashes

from countersign.console.errors import CountersignError, InfrastructureError, MissingError, UsageError
from countersign.keys import password
from countersign.keys.remote import Public, from_raw, read_public
from countersign.keys.sealed import BadKey, WrongPassword

SCHEME = "pkcs11:"
MODULE, PIN = "COSIGN_PKCS11_MODULE_PATH", "COSIGN_PKCS11_PIN"
_PATH = frozenset({"token", "object", "id", "serial", "manufacturer", "model", "slot-id", "type"})
_QUERY = frozenset({"module-path", "pin-source"})
_FORM = "pkcs11:token=NAME;object=NAME?module-path=FILE&pin-source=FILE"
_sessions: dict[tuple[str, str, str], tuple[bytes, Any]] = {}
"""The library, the token's name and number → the PIN that opened it, and the session."""
_DIGEST_INFO = {  # RFC 8017, section 9.2, note 1
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


@dataclass(frozen=True)
class Uri:
    """Which key is meant.

    Attributes:
        where: the URI without its query, for messages.
        wanted: token, object, serial, … → value.
        key_id: the key's ID, or None.
        module: the PKCS #11 library.
        pin_source: the file with the PIN, or None.
    """

    where: str
    wanted: Mapping[str, str]
    key_id: bytes | None
    module: Path
    pin_source: Path | None


def parse(text: str, environ: Mapping[str, str]) -> Uri:
    """Read a PKCS #11 URI.

    Raises:
        UsageError: it is none, has the PIN itself, or names no key or library.
    """
    path, _, query = text.removeprefix(SCHEME).partition("?")
    where = SCHEME + path
    if "pin-value" in query or "pin-value" in path:
        do = f"put the PIN into a file of yours, mode 0600, and give pin-source=FILE, or set {PIN}"
        raise UsageError("pin-value would show the PIN to every process", where=where, do=do)
    parts = _fields(path, ";", _PATH, where)
    more = _fields(query, "&", _QUERY, where)
    if not {"object", "id"} & set(parts):
        raise UsageError("names no key", where=where, expected=_FORM)
    module = unquote(more.get("module-path", "")) or environ.get(MODULE, "")
    if not module:
        raise UsageError("names no PKCS #11 library", where=where, expected=_FORM, do=f"or set {MODULE}")
    wanted = {name: unquote(value) for name, value in parts.items() if name != "id"}
    key_id = unquote_to_bytes(parts["id"]) if "id" in parts else None
    source = unquote(more["pin-source"]) if "pin-source" in more else ""
    if source.startswith("|"):
        raise UsageError("no program is run for a PIN", where=where, expected="pin-source=FILE")
    return Uri(where, wanted, key_id, Path(module), Path(source.removeprefix("file:")) if source else None)


def open_key(uri: Uri, password_file: Path | None, environ: Mapping[str, str]) -> Token:
    """Log in to a token and find the key.

    Raises:
        MissingError: the library is not there.
        WrongPassword: the PIN is wrong.
        InfrastructureError: the PIN is locked, or the token fails.
        UsageError: there is no such token or key, or several.
    """
    try:
        import pkcs11
        from pkcs11 import Attribute, ObjectClass
    except ImportError as err:
        raise MissingError(
            "python-pkcs11 is not there", where=uri.where, do="run ./inv anew: it is in its lock"
        ) from err
    if not uri.module.is_file():
        do = "install it (SoftHSM: apt-get install softhsm2), or name it with module-path"
        raise MissingError("no such PKCS #11 library", where=str(uri.module), do=do)
    try:
        library = pkcs11.lib(str(uri.module))
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as err:
        what = " ".join(str(err).split())[:200]
        raise InfrastructureError(f"cannot be used as a PKCS #11 library: {what}", where=str(uri.module)) from err
    token = _guarded(uri, lambda: _token(library, uri))
    file = password_file or uri.pin_source
    pin = password.choose(
        file, environ.get(PIN), f"the PIN of {uri.where}", sources=f"set {PIN} or give pin-source=FILE"
    )
    session = _session(token, pin, uri)
    key = _guarded(uri, lambda: _one(session, ObjectClass.PRIVATE_KEY, uri))
    with_same_id = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: key.id}
    found = _guarded(uri, lambda: list(session.get_objects(with_same_id)))
    if not found:
        do = "put the public key beside it, with the same ID"
        raise UsageError("the token has the private key and no public one", where=uri.where, do=do)
    return Token(uri.where, _guarded(uri, lambda: _public(found[0], uri.where)), key, uri, session)


@dataclass(frozen=True)
class Token:
    """A key in a token that one has logged in to."""

    where: str
    public: Public
    _key: Any
    _uri: Uri
    _session: Any = field(repr=False)

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> bytes:
        """Have the token sign a digest."""
        from pkcs11 import MGF, KeyType, Mechanism

        if self._key.key_type == KeyType.EC:
            return from_raw(_guarded(self._uri, lambda: self._key.sign(digest, mechanism=Mechanism.ECDSA)))
        if pss:
            name = algorithm.name.upper()
            how = {"mechanism": Mechanism.RSA_PKCS_PSS, "mechanism_param": (Mechanism[name], MGF[name], len(digest))}
            return bytes(_guarded(self._uri, lambda: self._key.sign(digest, **how)))
        content = _DIGEST_INFO[algorithm.name] + digest
        return bytes(_guarded(self._uri, lambda: self._key.sign(content, mechanism=Mechanism.RSA_PKCS)))


def _session(token: Any, pin: bytes, uri: Uri) -> Any:
    """Log in; a process can log in to a token only once, so a later one shares the session if it has the same PIN."""
    who = (str(uri.module), _text(token.label), _text(token.serial))
    if who not in _sessions:
        _sessions[who] = pin, _guarded(uri, lambda: token.open(user_pin=pin.decode(errors="replace")))
    known, session = _sessions[who]
    if known != pin:
        raise WrongPassword("the PIN is another than the one that opened it before", where=uri.where)
    return session


def _token(library: Any, uri: Uri) -> Any:
    wanted = uri.wanted
    found = []
    for slot in library.get_slots(token_present=True):
        token = slot.get_token()
        said = {
            "token": token.label,
            "serial": _text(token.serial),
            "manufacturer": token.manufacturer_id,
            "model": token.model,
            "slot-id": str(slot.slot_id),
        }
        if all(wanted[name] == _text(said[name]).strip("\0 ") for name in said if name in wanted):
            found.append(token)
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} tokens are like that", where=uri.where, expected="one", do="give token=, serial="
        )
    return found[0]


def _one(session: Any, kind: Any, uri: Uri) -> Any:
    from pkcs11 import Attribute

    wanted: dict[Any, Any] = {Attribute.CLASS: kind}
    if "object" in uri.wanted:
        wanted[Attribute.LABEL] = uri.wanted["object"]
    if uri.key_id is not None:
        wanted[Attribute.ID] = uri.key_id
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise UsageError(f"{len(found)} private keys are like that", where=uri.where, expected="one", do="give id=")
    return found[0]


def _public(key: Any, where: str) -> Public:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_ec_public_key

    if key.key_type == KeyType.EC:
        return read_public(encode_ec_public_key(key), where)
    if key.key_type != KeyType.RSA:
        raise BadKey(f"a key of kind {key.key_type.name}", where=where, expected="ECDSA P-256 or RSA")
    numbers = (int.from_bytes(key[one], "big") for one in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS))
    return rsa.RSAPublicNumbers(*numbers).public_key()


def _guarded(uri: Uri, act: Callable[[], Any]) -> Any:
    """Do something with a token; what goes wrong is said in one line."""
    from pkcs11 import exceptions

    try:
        return act()
    except CountersignError:
        raise
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange) as err:
        raise WrongPassword("the PIN is wrong", where=uri.where, do="mind that tokens lock after a few tries") from err
    except exceptions.PinLocked as err:
        do = "have its security officer set a new PIN"
        raise InfrastructureError("the token's PIN is locked", where=uri.where, do=do) from err
    except exceptions.PKCS11Error as err:
        what = f"{type(err).__name__}{f': {err}' if str(err) else ''}"
        raise InfrastructureError(f"the token fails: {what}", where=uri.where) from err


def _fields(text: str, between: str, known: frozenset[str], where: str) -> dict[str, str]:
    found = {}
    for part in filter(None, text.split(between)):
        name, equals, value = part.partition("=")
        if name not in known or not equals:
            raise UsageError(f"{name!r} is not read", where=where, expected=", ".join(sorted(known)))
        found[name] = value
    return found


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

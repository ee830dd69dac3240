"""Where the NATS servers are, and how to be let in: from a URL, or from options beside it."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigurationError
from .tls import Witness

URL_VARIABLE = "BOLTWS_BACKPLANE"

_PORT = 4222
_SCHEMES = ("nats", "tls")
_FILES = ("creds", "nkey", "ca")
_HOST = re.compile(r"[\w.:%-]+")
_SEED = re.compile(r"\s*(S[A-Z2-7]{50,}\s*$|-----)")  # an nkey seed, or the text of a creds file

FilePath = str | os.PathLike[str]


class Credentials(TypedDict, total=False):
    """The options of :meth:`Settings.of` beside the URL."""

    user: str | None
    password: str | None
    token: str | None
    nkey: FilePath | None
    creds: FilePath | None
    tls: bool | FilePath | ssl.SSLContext | None


@dataclass(frozen=True)
class Settings:
    """Servers and credentials.

    Args of :meth:`of`:
        url: ``nats://host:4222``; several servers of one cluster separated by commas; ``tls://``
            for TLS. ``nats://token@host`` and ``nats://user:password@host`` carry a secret, its
            special characters written as %XX; ``?creds=FILE``, ``?nkey=FILE`` and ``?ca=FILE``
            name files.
        user, password, token: the same, beside the URL.
        nkey, creds: path of an nkey seed file, or of a credentials file (JWT and seed).
        tls: True, the path of a CA file, or an ``ssl.SSLContext`` (for client certificates).
    """

    servers: tuple[str, ...]
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey: str | None = None
    creds: str | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def safe(self) -> str:
        """The URL without its secrets, for people to read."""
        return ",".join(self.servers)

    @classmethod
    def of(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        nkey: FilePath | None = None,
        creds: FilePath | None = None,
        tls: bool | FilePath | ssl.SSLContext | None = None,
    ) -> Settings:
        """Read a URL. Raises :class:`ConfigurationError` in one line that shows no secret."""
        given: object = url
        if not isinstance(given, str) or not given.strip():
            raise ConfigurationError(f"a backplane is a URL such as nats://host:{_PORT}")
        servers: list[str] = []
        secrets: dict[str, Any] = {"user": user, "password": password, "token": token}
        files: dict[str, Any] = {"nkey": nkey, "creds": creds, "ca": None}
        secure = False
        for part in url.split(","):
            split = _split(part.strip(), "," in url)
            secure = secure or split.scheme == "tls"
            _take(_secrets(split), secrets)
            _take(_files(split), files)
            host = f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname
            servers.append(f"{split.scheme}://{host}:{split.port or _PORT}")
        _check_secrets(secrets, files)
        _check_files(files)
        authority = files.pop("ca")
        if (secure or authority is not None) and tls is False:
            raise ConfigurationError("backplane: the URL asks for TLS and tls is False; drop one")
        if authority is not None:
            if tls not in (None, True, authority):
                raise ConfigurationError("backplane: two values for tls; give one")
            tls = authority
        elif secure and tls is None:
            tls = True
        return cls(
            tuple(dict.fromkeys(servers)),
            **secrets,
            **{name: None if path is None else os.fspath(path) for name, path in files.items()},
            tls=_context(tls),
        )

    def connect_options(self) -> Mapping[str, Any]:
        """What nats-py's ``Client.connect`` takes, for one client. The URLs have no secret, so
        that what it logs has none. Where TLS is asked for, nothing is sent without it."""
        options: dict[str, Any] = {"servers": list(self.servers)}
        named: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "nkeys_seed": self.nkey,
            "user_credentials": self.creds,
        }
        if self.tls is not None:
            witness = Witness(self.tls)
            # nats-py asks for one of the two before it sends the first bytes of its own.
            asked = "user" if self.user is not None else "token"
            named |= {"tls": witness, asked: _guarded(witness, named[asked])}
        return options | {name: value for name, value in named.items() if value is not None}


def _guarded(witness: Witness, value: str | None) -> Callable[[], str | None]:
    def give() -> str | None:
        witness.check()
        return value

    return give


def _split(part: str, one_of_several: bool) -> SplitResult:
    """One server's URL. What cannot be read is not shown: any piece of it may be of a secret."""
    which = "a backplane URL" + " (one of several)" * one_of_several
    try:
        split = urlsplit(part)
        port = split.port
    except ValueError:
        split, port = None, None
    if split is None or "@" in split.path + split.query + split.fragment:
        raise ConfigurationError(
            f"{which} cannot be read: it is nats://host:{_PORT}, and special characters of a "
            "secret or a path are written as %XX, such as %2F for a slash"
        )
    if split.scheme not in _SCHEMES:
        raise ConfigurationError(f"{which} begins with nats:// or tls://, and this one does not")
    host = split.hostname
    if not host or not _HOST.fullmatch(host) or port == 0 or split.path not in ("", "/"):
        raise ConfigurationError(f"{which} is {split.scheme}://host:{_PORT}, with no path")
    if split.fragment:
        raise ConfigurationError(f"{which} has no # in it; in a secret it is written as %23")
    return split


def _secrets(split: SplitResult) -> dict[str, Any]:
    if split.username is None:
        return {}
    try:
        name = unquote(split.username, errors="strict")
        if split.password is None:
            return {"token": name}
        return {"user": name, "password": unquote(split.password, errors="strict")}
    except UnicodeDecodeError:
        raise ConfigurationError("backplane: what stands before @ is not UTF-8") from None


def _files(split: SplitResult) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        if name not in _FILES:
            raise ConfigurationError(
                f"a backplane URL takes ?{'=, ?'.join(_FILES)}= and nothing else after the ?"
            )
        _take({name: value}, found)
    return found


def _take(found: dict[str, Any], known: dict[str, Any]) -> None:
    for name, value in found.items():
        if known.get(name) not in (None, value):
            raise ConfigurationError(f"backplane: two values for {name}; give one")
        known[name] = value


def _check_secrets(secrets: dict[str, Any], files: dict[str, Any]) -> None:
    for name, value in secrets.items():
        if not isinstance(value, str | None):
            raise ConfigurationError(f"backplane: {name} is a str, not {type(value).__name__}")
        if value == "" and name != "password":
            raise ConfigurationError(f"backplane: {name} is empty")
    if (secrets["user"] is None) != (secrets["password"] is None):
        raise ConfigurationError("backplane: user and password go together")
    given = secrets | files
    # nats-py would send one of the two, and say nothing of the other.
    for one, other in [("user", "token"), ("nkey", "creds"), ("user", "nkey"), ("user", "creds")]:
        if given[one] is not None and given[other] is not None:
            raise ConfigurationError(f"backplane: {one} or {other}, not both")


def _check_files(files: dict[str, Any]) -> None:
    for name, path in files.items():
        if path is None:
            continue
        if not isinstance(path, str | os.PathLike):
            raise ConfigurationError(
                f"backplane: {name} is the path of a file, not {type(path).__name__}"
            )
        if _SEED.match(os.fspath(path)):
            raise ConfigurationError(f"backplane: {name} is the path of a file, not what is in it")
        if not os.path.isfile(path):
            raise ConfigurationError(f"backplane: there is no {name} file {os.fspath(path)!r}")


def _context(tls: bool | FilePath | ssl.SSLContext | None) -> ssl.SSLContext | None:
    if tls is None or tls is False:
        return None
    if isinstance(tls, ssl.SSLContext):
        return tls
    if tls is not True and not isinstance(tls, str | os.PathLike):
        raise ConfigurationError(
            f"backplane: tls is True, the path of a CA file or an ssl.SSLContext, "
            f"not {type(tls).__name__}"
        )
    try:
        return ssl.create_default_context(cafile=None if tls is True else os.fspath(tls))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"backplane: the CA file cannot be used: {error}") from None

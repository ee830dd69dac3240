"""Backplane URLs and credentials: every form of them, and errors that show no secret."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws import ConfigurationError
from boltws.backplane.settings import Settings

SECRET = "s3cr3t"
SEED = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a file"
    path.write_text("content")
    return str(path)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://host", ("nats://host:4222",)),
        ("nats://host:5000", ("nats://host:5000",)),
        ("nats://host/", ("nats://host:4222",)),
        (" nats://host\n", ("nats://host:4222",)),
        ("NATS://Host.Example", ("nats://host.example:4222",)),
        ("nats://[::1]:5000", ("nats://[::1]:5000",)),
        ("nats://[fe80::1]", ("nats://[fe80::1]:4222",)),
        ("nats://my_host-1", ("nats://my_host-1:4222",)),
        ("nats://a, nats://b:1", ("nats://a:4222", "nats://b:1")),
        ("nats://a,nats://a:4222", ("nats://a:4222",)),
        ("tls://host", ("tls://host:4222",)),
        (f"nats://{SECRET}@a,nats://{SECRET}@b", ("nats://a:4222", "nats://b:4222")),
    ],
)
def test_servers(url: str, servers: tuple[str, ...]) -> None:
    """Where they are; `safe` is the same in one line."""
    settings = Settings.of(url)
    assert settings.servers == servers
    assert settings.safe == ",".join(servers)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nats://token@h", {"token": "token"}),
        ("nats://to%40%2Fk%2cen%23@h", {"token": "to@/k,en#"}),
        ("nats://a+b@h", {"token": "a+b"}),
        ("nats://user:pass@h", {"user": "user", "password": "pass"}),
        ("nats://us%3Aer:p%20%C3%A9@h", {"user": "us:er", "password": "p é"}),
        ("nats://user:@h", {"user": "user", "password": ""}),
        ("nats://token@a,nats://b", {"token": "token"}),
        ("nats://h", {}),
    ],
)
def test_secrets_in_the_url(url: str, found: dict[str, str]) -> None:
    """A token, or user and password, decoded; one is enough for several servers."""
    settings = Settings.of(url)
    given = {name: getattr(settings, name) for name in ("user", "password", "token")}
    assert given == {"user": None, "password": None, "token": None} | found
    options = dict(settings.connect_options())
    assert options.pop("servers") == list(settings.servers)
    assert options == found


def test_files_in_the_url(file: str) -> None:
    """`?creds=` and `?nkey=`, with spaces encoded or not, are the options of the same name."""
    assert Settings.of(f"nats://h?creds={file}").creds == file
    assert Settings.of(f"nats://h/?nkey={file.replace(' ', '%20')}").nkey == file
    assert Settings.of("nats://h", nkey=Path(file)).connect_options()["nkeys_seed"] == file
    assert Settings.of("nats://h", creds=file).connect_options()["user_credentials"] == file
    assert Settings.of(f"nats://h?creds={file}", creds=file).creds == file


def test_tls() -> None:
    """From the scheme, from True, from a context; it verifies unless the context does not."""
    for settings in (Settings.of("tls://h"), Settings.of("nats://h", tls=True)):
        assert settings.tls is not None
        assert settings.tls.verify_mode is ssl.CERT_REQUIRED
        assert settings.tls.check_hostname
    own = ssl.create_default_context()
    assert Settings.of("tls://h", tls=own).tls is own
    assert Settings.of("nats://h").tls is None
    assert Settings.of("nats://h", tls=False).tls is None
    assert "tls" not in Settings.of("nats://h").connect_options()


@pytest.mark.parametrize("login", [{"token": SECRET}, {"user": "u", "password": SECRET}, {}])
def test_with_tls_secrets_are_asked_for(login: dict[str, str]) -> None:
    """nats-py gets a function, and the function gives nothing before TLS stands."""
    options = Settings.of("tls://h", **login).connect_options()  # type: ignore[arg-type]
    asked = options["user" if "user" in login else "token"]
    with pytest.raises(ssl.SSLError, match="does not offer it"):
        asked()


def test_what_is_the_same_may_be_said_twice() -> None:
    """In the URL and beside it."""
    assert Settings.of("nats://t@h", token="t").token == "t"


URLS = [
    ("", "such as nats://host"),
    ("  ", "such as nats://host"),
    (None, "such as nats://host"),
    (b"nats://h", "such as nats://host"),
    ("host:4222", "begins with nats://"),
    ("//host", "begins with nats://"),
    (f"{SECRET}@host:4222", "URL"),
    (f"{SECRET}://host", "begins with nats://"),
    (f"http://{SECRET}@host", "begins with nats://"),
    (f"nats://{SECRET}@a,{SECRET}@b", "one of several"),
    ("nats://a,", "one of several"),
    ("nats://", "nats://host:4222"),
    (f"nats://{SECRET}@", "nats://host:4222"),
    (f"nats://{SECRET}@:4222", "nats://host:4222"),
    (f"nats://{SECRET}@h:0", "nats://host:4222"),
    (f"nats://{SECRET}@h:65536", "cannot be read"),
    (f"nats://{SECRET}@h:{SECRET}", "cannot be read"),
    (f"nats://{SECRET}@[::1", "cannot be read"),
    (f"nats://{SECRET}@h\u2100", "cannot be read"),
    (f"nats://{SECRET}@h/path", "with no path"),
    (f"nats://{SECRET}@h h", "nats://host:4222"),
    (f"nats://{SECRET}@h\x0bh", "nats://host:4222"),
    # A secret whose special characters were not encoded.
    (f"nats://u:{SECRET}/x@h", "%2F"),
    (f"nats://{SECRET}/x@h", "%2F"),
    (f"nats://{SECRET}#x@h", "%2F"),
    (f"nats://{SECRET}?x@h", "%2F"),
    (f"nats://u:{SECRET},x@h", "one of several"),
    (f"nats://{SECRET}#x", "no #"),
    (f"nats://%ff{SECRET}@h", "not UTF-8"),
    ("nats://@h", "token is empty"),
    (f"nats://:{SECRET}@h", "user is empty"),
    (f"nats://h?token={SECRET}", "?creds=, ?nkey=, ?ca="),
    (f"nats://h?creds=/nowhere/x&creds=/{SECRET}", "two values for creds"),
    ("nats://h?creds=/nowhere/x", "there is no creds file '/nowhere/x'"),
    ("nats://h?nkey=", "there is no nkey file ''"),
    ("nats://h?ca=/nowhere/x", "there is no ca file '/nowhere/x'"),
    (f"nats://h?nkey={SEED}", "nkey is the path of a file, not what is in it"),
    (f"nats://{SECRET}@a,nats://other@b", "two values for token"),
    (f"nats://{SECRET}@a,nats://u:p@b", "user or token, not both"),
]


def refuses(url: Any, text: str, **options: Any) -> None:
    """It is a ConfigurationError of one line, with `text` and without the secret."""
    with pytest.raises(ConfigurationError) as raised:
        Settings.of(url, **options)
    said = str(raised.value)
    assert said.isprintable()
    assert SECRET not in said and SEED not in said
    assert text in said
    assert raised.value.__suppress_context__ or raised.value.__context__ is None  # a traceback too


@pytest.mark.parametrize(("url", "text"), URLS)
def test_urls_that_cannot_be_read(url: Any, text: str) -> None:
    """One line says what is wrong, and shows no piece of what may be a secret."""
    refuses(url, text)


OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("nats://h", {"user": "u"}, "user and password go together"),
    ("nats://h", {"password": SECRET}, "user and password go together"),
    ("nats://h", {"user": "u", "password": SECRET, "token": SECRET}, "user or token"),
    (f"nats://{SECRET}@h", {"token": "other"}, "two values for token"),
    (f"nats://u:{SECRET}@h", {"user": "v"}, "two values for user"),
    ("nats://h", {"token": SECRET.encode()}, "token is a str, not bytes"),
    ("nats://h", {"token": ""}, "token is empty"),
    ("nats://h", {"nkey": SEED}, "not what is in it"),
    ("nats://h", {"creds": f"-----BEGIN NATS USER JWT-----\n{SECRET}"}, "not what is in it"),
    ("nats://h", {"creds": 5}, "creds is the path of a file, not int"),
    ("nats://h", {"tls": "/nowhere/x"}, "the CA file cannot be used"),
    ("nats://h", {"tls": 5}, "tls is True, the path"),
    ("tls://h", {"tls": False}, "the URL asks for TLS"),
]


@pytest.mark.parametrize(("url", "options", "text"), OPTIONS)
def test_options_that_do_not_fit(url: str, options: dict[str, Any], text: str) -> None:
    """The same beside the URL; nothing that contradicts is passed over in silence."""
    refuses(url, text, **options)


def test_files_that_do_not_fit(file: str) -> None:
    """Two kinds of login, two CAs, a CA file that is none."""
    refuses("nats://h", "nkey or creds", nkey=file, creds=file)
    refuses(f"nats://u:{SECRET}@h?creds={file}", "user or creds")
    refuses(f"nats://h?ca={file}", "the CA file cannot be used")
    refuses(f"nats://h?ca={file}", "two values for tls", tls=ssl.create_default_context())
    refuses(f"nats://h?ca={file}", "the URL asks for TLS", tls=False)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Nor is a name that is too long for one."""
    refuses("nats://h", "there is no creds file", creds=tmp_path)
    refuses("nats://h", "there is no creds file", creds="x" * 5000)


def test_no_secret_in_its_repr() -> None:
    """It may be logged."""
    for url in (f"nats://{SECRET}@h", f"nats://u:{SECRET}@h"):
        settings = Settings.of(url)
        assert SECRET not in repr(settings) + settings.safe
        assert SECRET not in str(settings.connect_options()["servers"])


@given(st.text(max_size=30), st.sampled_from(["nats://", "nats://u:", "tls://", ""]))
def test_no_error_but_ours(text: str, start: str) -> None:
    """Whatever stands in the variable: settings, or one line; a marked secret is in neither."""
    url = f"{start}{SECRET}{text}@host"
    try:
        settings = Settings.of(url)
    except ConfigurationError as error:
        assert SECRET not in str(error)
        assert "\n" not in str(error)
    else:
        assert SECRET not in settings.safe

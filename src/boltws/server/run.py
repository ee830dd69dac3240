"""Serving: uvicorn with our protocol, from a Bolt or any ASGI app to a process that exits 0."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import stat
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import uvicorn

from ..app import Bolt
from ..errors import StartError, is_whole
from ..ledger import Ledger
from ..options import Options
from ..origin import is_loopback
from ..runtime import Runtime
from ..siblings import alone
from .http import contract_broken, protocol_class
from .logs import check_level, set_up
from .shedding import Listener, Spare
from .wires import runtimes_of, wires_of

logger = logging.getLogger("uvicorn.error")

_TICK = 0.2  # seconds between looks for a second SIGINT; uvicorn has 0.1


class Server(uvicorn.Server):
    """uvicorn's server, which listens before the app starts, and ends a signal's stop as done."""

    def __init__(
        self, config: uvicorn.Config, handshake_timeout: float, runtime: Runtime | None
    ) -> None:
        super().__init__(config)
        self.handshake_timeout = handshake_timeout  # seconds
        self._runtime = runtime  # of the Bolt that is served; others show up with their clients

    def not_ready(self) -> str:
        """Why no traffic should come here; ``""`` where it should. From any thread."""
        if not self.started:
            return "starting"
        mounted = runtimes_of(self.server_state)
        served = [self._runtime] if self._runtime is not None else mounted
        return next(filter(None, (runtime.not_ready() for runtime in served)), "")

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal, or until ``should_exit`` is set. `sockets` are closed then.

        Raises :class:`StartError` when it cannot listen.
        """
        with contextlib.ExitStack() as stack:
            if sockets is None:
                sockets = bind(self.config)
                stack.callback(remover(self.config.uds))
            loop = asyncio.get_running_loop()
            if isinstance(loop, asyncio.SelectorEventLoop):  # uvloop sheds by itself
                spare = Spare(loop)
                stack.callback(spare.close)
                sockets = [Listener(sock, spare) for sock in sockets]
            for sock in sockets:
                stack.callback(sock.close)
            with self.capture_signals(), alone():
                await self._serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises the signal again when all is done, which would be the exit status; here
        it has been answered."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's; a third SIGINT interrupts the callback that blocks the event loop."""
        if self.force_exit and sig == signal.SIGINT:
            raise KeyboardInterrupt
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, which has no limit for the TLS handshake."""
        assert sockets  # we always bind them ourselves
        if not await self._unless_forced(self.lifespan.startup()):
            cast(Any, self.lifespan).startup_failed = True  # or uvicorn calls it "unsupported"
            return
        if self.lifespan.should_exit:
            raise SystemExit(3)  # uvicorn's own status for it
        protocol = partial(
            cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        context = self.config.ssl
        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=sock,
                backlog=self.config.backlog,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self.handshake_timeout,
            )
            for sock in sockets
        ]
        self.started = True
        logger.info("boltws is listening on %s", _address(self.config, sockets[0]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, which parts with the connections that it knows: one that is still in its TLS
        handshake shows up later, and is not to be served."""
        wires_of(self.server_state).stopping = True
        await self._unless_forced(super().shutdown(sockets))
        if self.force_exit:
            # The app's lifespan is cut off, which uvicorn would say is "unsupported".
            cast(Any, self.lifespan).shutdown_failed = True

    async def _unless_forced(self, step: Coroutine[Any, Any, None]) -> bool:
        """Whether `step` came to its end. A second SIGINT does not wait for an app that hangs."""
        running = asyncio.ensure_future(step)
        try:
            while not running.done():
                forced = self.force_exit
                await asyncio.wait({running}, timeout=_TICK)
                if forced and not running.done():
                    return False
            running.result()
            return True
        finally:
            running.cancel()


def build_server(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    uds: str | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    log_level: str = "info",
    access_log: bool = True,
    loop: str = "auto",
) -> Server:
    """A server for `app`, a :class:`Bolt` or any ASGI app, not started yet.

    Raises :class:`StartError` for files, a log level and an address that cannot be used.
    """
    _check_address(host, port, uds)
    _check_tls(ssl_certfile, ssl_keyfile)
    level = check_level(log_level)
    set_up(level, access_log)
    options = app._runtime.options if isinstance(app, Bolt) else Options()
    loopback = uds is None and is_loopback(host)
    ledger = app._runtime.hub.ledger if isinstance(app, Bolt) else Ledger()
    http: Any = protocol_class(options, loopback, ledger)
    ws = "none"
    if missing := contract_broken():
        logger.warning(
            "this uvicorn (%s) has no %s: boltws runs over plain ASGI, slower and without its "
            "own limits; install a version that boltws supports",
            uvicorn.__version__,
            missing,
        )
        http, ws = "auto", "auto"
    elif isinstance(app, Bolt):
        app._runtime.own_server = True
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=uds,
        http=http,
        ws=cast(Literal["auto", "none"], ws),
        loop=loop,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        log_level=level,
        log_config=None,
        access_log=access_log,
        workers=1,  # left out, uvicorn reads WEB_CONCURRENCY
        # Who is believed about the client's address is said by `trusted_proxies` alone.
        proxy_headers=False,
        # uvicorn cancels what still runs then; our own deadline comes first.
        timeout_graceful_shutdown=int(options.shutdown_timeout + options.shutdown_spread) + 5,
    )
    runtime = app._runtime if isinstance(app, Bolt) else None
    return Server(config, options.handshake_timeout, runtime)


def serve(app: Any, **settings: Any) -> None:
    """Serve `app` until SIGINT or SIGTERM. `settings` are those of :func:`build_server`.

    Raises :class:`StartError` when it cannot start.
    """
    if asyncio._get_running_loop() is not None:
        raise StartError(
            "an event loop is running here already: call bolt.run() outside of async code, "
            "or serve the Bolt as an ASGI app"
        )
    raise_descriptor_limit()
    server = build_server(app, **settings)
    try:
        server.run()
    except SystemExit as stop:
        # uvicorn ends so when the lifespan failed, and has said why.
        if not server.started:
            raise StartError("the app did not start; the line above says why") from None
        raise stop
    except KeyboardInterrupt:
        pass


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process have: a connection takes one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS calls a limit infinite that is not
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# Listening.


def bind(config: uvicorn.Config) -> list[socket.socket]:
    """The sockets to listen on. Raises :class:`StartError` saying what is in the way."""
    if config.uds is not None:
        return [_bind_unix(config.uds)]
    host, port = config.host, config.port
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, OverflowError, UnicodeError) as error:
        raise StartError(f"cannot listen on {host!r}: it is no address of this machine") from error
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            if sockets and port == 0:  # the same free port for each family
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            sockets.append(_bind_one(family, address))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise StartError(_why_not(host, port, error)) from None
    return sockets


def supervised(
    target: str, settings: dict[str, Any], **how: Any
) -> tuple[uvicorn.Config, list[socket.socket]]:
    """For a supervisor of uvicorn's: its configuration, and the sockets that its children serve
    on. Raises :class:`StartError` saying what is in the way."""
    raise_descriptor_limit()
    level = check_level(settings["log_level"])
    set_up(level)
    names = ("host", "port", "uds")
    given = {name: settings[name] for name in names}
    how = {"workers": 1, **how}  # left out, uvicorn reads WEB_CONCURRENCY
    config = uvicorn.Config(target, **given, log_level=level, log_config=None, **how)
    sockets = bind(config)
    for sock in sockets:
        sock.set_inheritable(True)
    return config, sockets


def _bind_one(family: int, address: Any) -> socket.socket:
    # asyncio turns off Nagle's algorithm only where the protocol is named.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what listens there, or choose another port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed for this user: choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {host!r}: it is no address of this machine"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, 0o666)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            why = "something listens there, or it is no socket: choose another path"
        else:
            why = str(error.strerror or error)
        raise StartError(f"cannot listen on {path!r}: {why}") from None
    return sock


def remover(path: str | None) -> Callable[[], None]:
    """What removes the file of a Unix socket that has just been bound, where there is one.

    Not that of a server which was started meanwhile, in a rolling restart, and took over `path`.
    """
    made = _identity(path)

    def remove() -> None:
        if path is not None and made is not None and _identity(path) == made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    return remove


def _identity(path: str | None) -> tuple[int, ...] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    # The number of a file that was removed may be given to the next one at once.
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _is_stale(path: str) -> bool:
    """Whether `path` is a socket that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # where a server hangs, its backlog is full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass
        return False


def _check_address(host: Any, port: Any, uds: Any) -> None:
    if uds is not None:
        if not isinstance(uds, str):
            raise StartError(f"uds must be the path of a socket, a str, not {_shown(uds)}")
        return
    if not isinstance(host, str):
        meant = f"; did you mean port={host}?" if is_whole(host) else ""
        raise StartError(f"host must be a str, not {_shown(host)}{meant}")
    if host.count(":") == 1 or "/" in host:  # an IPv6 address has more
        raise StartError(f"host must be a name or an address alone, not {host!r}: port is apart")
    if not is_whole(port):
        hint = ": int(...) makes one" if isinstance(port, str | float) else ""
        raise StartError(f"port must be a whole number 0 to 65535, not {_shown(port)}{hint}")
    if not 0 <= port <= 65535:
        raise StartError(f"port {port} is none: a port is 0 (any that is free) to 65535")


def _shown(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{value!r} ({'an' if name[0] in 'aeiou' else 'a'} {name})"


def _check_tls(certfile: str | None, keyfile: str | None) -> None:
    if keyfile and not certfile:
        raise StartError("a TLS key needs its certificate: give ssl_certfile too")
    for file in filter(None, (certfile, keyfile)):
        given: object = file
        if not isinstance(given, str | os.PathLike):
            raise StartError(f"a TLS file must be a path, not {_shown(given)}")
        if not Path(file).is_file():
            raise StartError(f"there is no TLS file {file!r}")
    if certfile:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(repr(file) for file in (certfile, keyfile) if file)
            why = str(error)
            content = Path(certfile).read_bytes()
            if not keyfile and b"CERTIFICATE-" in content and b"PRIVATE KEY-" not in content:
                why = "a certificate, and no key: give its file too (ssl_keyfile)"
            raise StartError(f"TLS files {files}: {why}") from None


def _address(config: uvicorn.Config, sock: socket.socket) -> str:
    if config.uds:
        return f"unix:{config.uds}"
    found, port = sock.getsockname()[:2]
    host = config.host or found  # none is every address
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.is_ssl else 'http'}://{host}:{port}"

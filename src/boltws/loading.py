"""``module:attribute``, as people write it for an app or a callback."""

from __future__ import annotations

import importlib
import inspect
from contextvars import ContextVar
from typing import Any

serves = ContextVar("boltws.serves", default=False)
"""Whether what is imported here is served by who imports it, and so may not serve itself."""


class NotFound(LookupError):
    """A name leads to nothing; the text says where it ends and how it is mended."""


def load(name: str) -> Any:
    """The object that ``module:attribute`` names.

    Raises :class:`NotFound` where there is none. What a module raises while it is imported is
    raised as it is: its author needs the traceback.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise NotFound(f"{name!r} must be module:attribute, as in chat:bolt")
    meant = module_name.removesuffix(".py").replace("/", ".").replace("\\", ".").strip(".")
    hint = f"; did you mean {meant!r}?" if meant != module_name else ""
    missing = NotFound(f"there is no module {module_name!r} here or on the Python path{hint}")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise missing
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # it is there, and imports something that is not
        raise missing from None
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError:
        call = f"; call it in the module: bolt = {path}" if path.endswith(")") else ""
        raise NotFound(f"module {module_name!r} has no attribute {path!r}{call}") from None
    return found


def is_asgi_app(found: Any) -> bool:
    """Whether it can be called as an ASGI app is; a WSGI app cannot, nor an app's class."""
    return not inspect.isclass(found) and takes(found, 3)


def takes(found: Any, arguments: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        return fits(inspect.signature(found), arguments)
    except (TypeError, ValueError):  # it is no callable, or a builtin without a signature
        return False


def fits(signature: inspect.Signature, arguments: int) -> bool:
    """Whether a call with so many arguments fits `signature`."""
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True

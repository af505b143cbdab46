"""A client of a Dask cluster, by the address or the file of its scheduler: `ductaflow run --dask ADDRESS`.

Dask's own client waits for ever for a file that is not there, and for a server that accepts and says nothing:
so the scheduler is asked who it is before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ductaflow.common.errors import ConfigError
from ductaflow.session.dask import INSTALL

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security


#: Seconds that a scheduler has to answer.
ANSWER_SECONDS = 10.0
_TAKES = (
    "Give the address that the scheduler printed when it started, such as tcp://login-node:8786, or the file "
    "that it wrote (dask scheduler --scheduler-file FILE)."
)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to the scheduler of a cluster, and leave it at the end.

    Args:
        address: `tcp://host:8786`, `tls://host:8786` or `host:8786`; or the path of a scheduler file. Keys
            and certificates for TLS are those of Dask's own configuration.

    Raises:
        ConfigError: there is no scheduler that answers; the message says what is there instead.
    """
    try:
        from distributed import Client
        from distributed.security import Security
        from distributed.versions import VersionMismatchWarning
    except ImportError as exc:
        raise ConfigError("--dask needs the package distributed", hint=f"Install it: {INSTALL}") from exc
    contact = contact_of(address)
    _check_answers(address, contact, Security())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VersionMismatchWarning)
        try:
            client = Client(contact, timeout=ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError, RuntimeError) as exc:
            _refuse(address, contact, f"refuses the connection: {exc}")
    for warning in caught:
        warnings.warn(str(warning.message), RuntimeWarning, stacklevel=3)
    try:
        yield client
    finally:
        _close(client)


def _close(client: Client) -> None:
    """Close the client; one whose scheduler is lost says nothing of it.

    It is still trying to connect then, and distributed logs the end of that with all its tracebacks, under
    names of other modules too. The session has said in a sentence what is lost.
    """
    former = logging.root.manager.disable
    if client.status != "running":
        logging.disable()
    try:
        client.close()
    finally:
        logging.disable(former)


def contact_of(address: str) -> str:
    """The address that a person means: as given, or as the scheduler file has it.

    Raises:
        ConfigError: it is empty, or no scheduler file.
    """
    if not address.strip():
        raise ConfigError(
            "--dask: the address is empty",
            hint=f'{_TAKES} With --dask "$DASK_SCHEDULER_ADDRESS" that variable has to be set.',
        )
    is_file = "://" not in address and (
        address.endswith(".json") or os.sep in address or Path(address).is_file()
    )
    if not is_file:
        return address
    try:
        content = json.loads(Path(address).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        hint = "Start the scheduler (dask scheduler --scheduler-file FILE), or give the path that it writes."
        raise ConfigError(f"--dask: there is no file {address}", hint=hint) from exc
    except OSError as exc:
        raise ConfigError(f"--dask: {address}: {exc.strerror or exc}", hint=_TAKES) from exc
    except ValueError as exc:
        raise ConfigError(f"--dask: {address} is no scheduler file: {exc}", hint=_TAKES) from exc
    contact = content.get("address") if isinstance(content, dict) else None
    if not isinstance(contact, str) or not contact:
        raise ConfigError(f"--dask: {address} is no scheduler file: it has no `address`", hint=_TAKES)
    return contact


def _check_answers(address: str, contact: str, security: Security) -> None:
    """See that a scheduler answers.

    Raises:
        ConfigError: none does.
    """
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        scheme, location = parse_address(contact)
        if scheme in ("tcp", "tls"):
            # Dask tries again until its time is over, also where nobody listens.
            socket.create_connection(parse_host_port(location), timeout=ANSWER_SECONDS).close()
        identity = asyncio.run(_identity(contact, security))
    except TimeoutError:
        _refuse(address, contact, f"does not answer within {ANSWER_SECONDS:g} seconds")
    except (OSError, OverflowError, ValueError, TypeError, RuntimeError) as exc:
        # Dask passes on what the network, its parser of addresses and its check of certificates raise.
        _refuse(address, contact, f"cannot be reached: {getattr(exc, 'strerror', None) or exc}")
    if (kind := identity.get("type")) != "Scheduler":
        _refuse(address, contact, f"is a Dask {str(kind).lower()}, not a scheduler")


async def _identity(contact: str, security: Security) -> dict[str, object]:
    """What the server at an address says that it is."""
    from distributed.core import rpc

    async with asyncio.timeout(ANSWER_SECONDS):
        arguments = security.get_connection_args("client")
        async with rpc(contact, connection_args=arguments, timeout=ANSWER_SECONDS) as server:
            answer: dict[str, object] = await server.identity()
            return answer


def _refuse(address: str, contact: str, fault: str) -> NoReturn:
    place = contact if contact == address else f"{contact}, which {address} names,"
    stale = "" if contact == address else " A scheduler that was killed leaves its file behind."
    raise ConfigError(
        f"--dask: {place} {fault}",
        hint=f"{_TAKES} Its dashboard and its workers have other ports.{stale}",
    )

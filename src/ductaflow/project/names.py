"""Names of flows and instances: which are allowed, and when two of them are the same."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

from ductaflow.common.errors import InstanceError
from ductaflow.common.paths import KIND_DIRS, Kind, RunFolder
from ductaflow.common.text import quoted
from ductaflow.project.settings import Project

MAX_NAME_BYTES = 80
_NAME = re.compile(r"[\w+](?:[\w.+-]*[\w+-])?")
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL"] + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)


def check_name(name: str) -> None:
    """Refuse a name that a flow or an instance, and so a folder on every platform, cannot have.

    Allowed are letters of any script, digits, `_`, `-`, `.` and `+`, without `-` or `.` at the beginning or
    `.` at the end; at most 80 bytes of UTF-8 in Unicode form NFC; no device of Windows (`CON`, `nul.2030`).
    pytest's `-k` can select all of these.

    Raises:
        InstanceError: says what is wrong and suggests a name.
    """
    fault = name_fault(name)
    if fault:
        raise InstanceError(
            f"{quoted(name)} cannot be a name: {fault}", hint=f"{_usable_name(name)} would do."
        )


def name_fault(name: str) -> str:
    """Say what is wrong with a name; an empty string if nothing is wrong."""
    if not _NAME.fullmatch(name):
        if not name:
            return "it is empty"
        odd = "".join(dict.fromkeys(re.findall(r"[^\w.+-]", name)))
        if odd:
            return f"letters, digits, _ - . + are allowed, not {quoted(odd)}"
        return "it begins with - or ." if name[0] in "-." else "it ends with a dot"
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
        return f"it has {len(name.encode())} bytes, {MAX_NAME_BYTES} are allowed"
    if name.partition(".")[0].upper() in _DEVICES:
        return "it is a device on Windows"
    if not name.isascii() and not unicodedata.is_normalized("NFC", name):
        return "it is not in the Unicode form NFC"
    return ""


def _usable_name(name: str) -> str:
    """Turn a name into a similar one that is allowed."""
    name = re.sub(r"[^\w.+-]+", "\0", unicodedata.normalize("NFC", name))
    name = name.lstrip("-.\0").rstrip("\0").replace("\0", "_")
    name = name.encode()[: MAX_NAME_BYTES - 1].decode(errors="ignore").rstrip(".")
    stem, dot, rest = name.partition(".")
    if stem.upper() in _DEVICES:
        name = f"{stem}_{dot}{rest}"
    return name or "instance"


@functools.lru_cache(maxsize=1 << 10)
def run_folder_of(project: Project, flow: str, name: str) -> RunFolder:
    # A session asks for it many times while an instance has its turn, and paths are slow to make; those of
    # ten thousands would take 8 MB.
    return project.run_folder(_folder_name(flow), _folder_name(name))


def _folder_name(name: str) -> str:
    # "%" is in no valid name, so this folder is nobody's.
    return "%" + re.sub(r"[^\w+-]", "%", name)[:16] if name_fault(name) else name


def spelling(name: str) -> str:
    """Return one text for names that some file system cannot tell apart: case and Unicode form aside."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def spelled_name(name: str) -> str:
    """A file name as text that can travel between processes: bytes that are not UTF-8 are spelled out."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def check_flow_name(kind: Kind, flow: str) -> None:
    """Refuse a name that a new flow or build cannot have: see `check_name`, or the flow would hide a module.

    Stored flows may hide a module that some package brings, but not one of Python itself.

    Raises:
        InstanceError: says why and suggests a name.
    """
    if not flow:
        raise InstanceError(
            f"a {kind} cannot be called nothing", hint=f"Give a name: ductaflow new {kind} NAME"
        )
    check_name(flow)
    from importlib.metadata import packages_distributions

    if _hides_module(flow) or flow in packages_distributions():
        raise _hiding(kind, flow, hint=f"Give another name, for example {flow}_{kind}.")


def check_hides_nothing(kind: Kind, flow: str) -> None:
    if _hides_module(flow):
        rename = f"Rename {KIND_DIRS[kind]}/{flow}.py and its configs, for example to {flow}_{kind}."
        raise _hiding(kind, flow, hint=rename)


def _hides_module(flow: str) -> bool:
    return flow in sys.stdlib_module_names or flow == "ductaflow"


def _hiding(kind: Kind, flow: str, *, hint: str) -> InstanceError:
    return InstanceError(
        f"a {kind} cannot be called {flow}: as a script it would hide the module of that name", hint=hint
    )

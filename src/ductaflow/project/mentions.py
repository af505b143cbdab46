"""Which paths a string of a config names: one, several, or one with more around it.

    inputs/a.csv                                       itself
    ~/a.csv, $DATA/a.csv, ${DATA}/a.csv                with what they stand for
    a.csv, b.csv      a.csv;b.csv      a.csv:b.csv     each of a list
    file:///data/a.db?mode=ro      sqlite:///a.db      the path of a URI on this machine
    a.h5::/table      a.zip!member      a.xlsx#sheet   the file that holds the rest
    zip://x.csv::a.zip      NETCDF:"a.nc":t            the same, the other way round

Nothing here looks at the disk: which of the paths are there is for the caller to ask.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from ductaflow.common.json_tree import KeyPath, walk
from ductaflow.common.paths import ROOT_KEY

#: How keys of configs end whose values are paths.
PATH_KEYS = ("_dir", "_path", "_file", "_folder")
#: A text without any of these is one path and nothing else.
_SPECIAL = re.compile(r"[,;:\n\r\t!#?|\"'<>=()\[\]$~%]|^/vsi")
_LIST = re.compile(r"[,;\n\r\t]")
#: Where a path ends inside of an item of a list. On Windows a colon may stand behind a drive.
_AROUND = re.compile(r"[!#?|\"'<>=()]|" + (r"::|(?<=..):" if os.name == "nt" else ":"))
_SCHEME = re.compile(r"(?<![\w./+-])([A-Za-z][\w+.-]*)://")
#: Schemes of URIs whose path is on this machine, besides those of a database with its driver (`sqlite+x`).
_LOCAL = {
    *("file", "local", "dir", "zip", "jar", "tar", "gz", "gzip", "bz2", "xz", "lzma", "zstd", "libarchive"),
    *("sqlite", "sqlite3", "duckdb", "gpkg", "netcdf", "hdf5", "h5", "csv", "parquet", "delta", "shp"),
    *("simplecache", "filecache", "blockcache", "cached"),
}
#: GDAL's file systems: `/vsizip/inputs/a.zip/b.shp`.
_VIRTUAL = re.compile(r"^/vsi\w+/")


def strings_of(config: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    """Yield all strings of a config at any depth but `_project_root`; also keys that look like paths."""
    for path, value, _ in walk({key: value for key, value in config.items() if key != ROOT_KEY}):
        # A name is a name; only with a folder in it is it a path.
        if path and isinstance(path[-1], str) and "/" in path[-1]:
            yield path, path[-1]
        if isinstance(value, str):
            yield path, value


def items(text: str) -> list[str]:
    """Return a string, and the items if it is a list; with what `~` and variables stand for.

    >>> items("inputs/a.csv; inputs/b.csv")
    ['inputs/a.csv; inputs/b.csv', 'inputs/a.csv', 'inputs/b.csv']
    """
    if not _SPECIAL.search(text):
        return [text]
    text = os.path.expandvars(text)
    found = (text, *(item.strip() for item in _LIST.split(text)))
    return list(dict.fromkeys(_at_home(item) for item in found if item))


def _at_home(path: str) -> str:
    """A path with what `~/` stands for; a tilde alone is none, but a sign in a formula."""
    return os.path.expanduser(path) if "/" in path else path


def inside(item: str) -> Iterator[str]:
    """Yield the paths in an item that has more around them; none that is on another machine.

    >>> list(inside("inputs/a.h5::/table"))
    ['inputs/a.h5', '/table']
    """
    if not _SPECIAL.search(item):
        return
    for scheme in _SCHEME.finditer(item):
        if scheme[1].lower().partition("+")[0] not in _LOCAL:
            item = item[: scheme.start()]
            break
    for part in _AROUND.split(item):
        path = _at_home(part.strip())
        while _VIRTUAL.match(path):
            path = path[path.index("/", 1) + 1 :]
        if path.startswith("//"):
            # Of a URI: an absolute path, or one from the project, with or without the name of a host.
            path = path.lstrip("/")
            yield unquote(f"/{path}")
            if "/" in path:
                yield unquote(path[path.index("/") :])
        if path:
            yield unquote(path)

"""Files that belong to another one: whoever reads it reads them too, in C or C++, where Python sees nothing.

companions("inputs/z.shp")     z.dbf, z.shx, z.prj, z.shp.xml, ... : those that are there
companions("inputs/x.db")      x.db-wal, if it holds changes that are not in the database yet
companions("inputs/m.vrt")     the files that it is put together from
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

#: Files of one stem: if one of the first is read, all of these are.
_FAMILIES: tuple[tuple[str, str], ...] = (
    # ESRI: shapes, attributes, projections, indexes; the table alone has its memo
    (
        ".shp .shx .dbf",
        ".shp .shx .dbf .prj .cpg .cst .qpj .qix .sbn .sbx .fbn .fbx .ain .aih .ixs .mxs .atx",
    ),
    (".dbf", ".dbt .fpt .cdx"),
    # MapInfo
    (".tab", ".tab .dat .map .id .ind"),
    (".mif .mid", ".mif .mid"),
    # a grid and its header: ENVI, ESRI, ERDAS, Analyze, R, SAGA, IDRISI, MetaImage
    (
        ".hdr .img .bil .bip .bsq .flt",
        ".hdr .img .bil .bip .bsq .flt .dat .raw .clr .stx .blw .ige .rrd .rde .prj",
    ),
    (".grd .gri", ".grd .gri"),
    (".sdat .sgrd .mgrd", ".sdat .sgrd .mgrd .prj"),
    (".rst .rdc", ".rst .rdc .ref .smp"),
    (".mhd", ".raw .zraw"),
    # world files and projections of pictures
    (".tif .tiff", ".tfw .tifw .tiffw .wld .prj .rpb .imd"),
    (".jpg .jpeg .jp2", ".jgw .jpgw .jpegw .j2w .wld .prj"),
    (".png .gif .bmp .asc .ecw .sid", ".pgw .pngw .gfw .gifw .bpw .bmpw .wld .prj .eww .sdw"),
    # PLINK, BrainVision, WFDB
    (".bed .bim .fam", ".bed .bim .fam"),
    (".vhdr .vmrk .eeg", ".vhdr .vmrk .eeg"),
    (".hea", ".dat"),
)
_BY_SUFFIX: dict[str, tuple[str, ...]] = {}
for _heads, _members in _FAMILIES:
    for _head in _heads.split():
        _BY_SUFFIX[_head] = (*_BY_SUFFIX.get(_head, ()), *_members.split())
#: Behind the whole name of a file of a family: what GDAL and ESRI know of it.
_BEHIND = (".aux.xml", ".xml", ".ovr", ".msk")
#: Behind the name of a database: changes that are not in it yet. What is empty was left by a reader.
_JOURNALS = ("-wal", "-journal", ".wal")
_SOURCE = re.compile(r"<(?:SourceFilename|SrcDataSource|SourceDataset|GridFilename)\b[^>]*>([^<]+)<")
_LONGEST_VRT = 10_000_000


def companions(path: str) -> list[str]:
    """Return the files that are there and belong to a file."""
    found = [other for other in _candidates(path) if other != path and os.path.isfile(other)]
    return found + [path + end for end in _JOURNALS if _size(path + end)]


def _candidates(path: str) -> Iterator[str]:
    stem, suffix = os.path.splitext(path)
    family = _BY_SUFFIX.get(suffix.lower(), ())
    for end in family:
        yield stem + (end.upper() if suffix.isupper() else end)
    if family or suffix == ".vrt":
        yield from (path + end for end in _BEHIND)
    if suffix == ".vrt":
        yield from _sources(path)


def _sources(path: str) -> Iterator[str]:
    """Yield the files that a virtual raster names, from its folder or from anywhere."""
    if not 0 < _size(path) < _LONGEST_VRT:
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        # Gone since, or not for us to read: then it counts by that.
        return
    for name in _SOURCE.findall(text):
        yield os.path.normpath(os.path.join(os.path.dirname(path), name.strip()))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0

"""Reading a page as its script does: the data in it, unpacked."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

_DATA = re.compile(r'<script type="([^"]+)" id="([^"]+)">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class PageData:
    """What a page shows: its head and its rows, and everything else about an instance by `details`."""

    head: dict[str, Any]
    rows: list[dict[str, Any]]
    blocks: dict[str, list[dict[str, Any]]]

    def row(self, id: str) -> dict[str, Any]:
        return next(row for row in self.rows if row["id"] == id)

    def details(self, id: str) -> dict[str, Any]:
        block, place = self.row(id)["at"]
        return self.blocks[f"pack-{block}"][place]


def page_data(html: str) -> PageData:
    texts = {name: text for _, name, text in _DATA.findall(html)}
    blocks = {
        name: json.loads(zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS))
        for name, text in texts.items()
        if name.startswith("pack-")
    }
    head, rows = json.loads(texts["head"]), json.loads(texts["rows"])
    for row in rows:
        if "parameters" in row:
            shape, *values = row["parameters"]
            row["parameters"] = dict(zip(head["shapes"][shape], values, strict=True))
    return PageData(head, rows, blocks)

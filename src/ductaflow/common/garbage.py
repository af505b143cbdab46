"""Python's collector of garbage, at rest while much is made that stays.

Each time some hundred objects have been made it looks through others that there are, in search of circles
that nobody uses any more. None of ten thousand instances is garbage; to look takes as long as to read them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Let the collector rest; who finds it at rest leaves it so, and who paused it lets it go on."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

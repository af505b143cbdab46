"""Files that stand where the source of a flow belongs and are none: what each is, and what to do with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ductaflow.common.paths import SOURCE_SUFFIXES

_ENDINGS = ", ".join(SOURCE_SUFFIXES)
_NO = "not a notebook that can run"
#: Languages whose scripts jupytext takes for notebooks.
_LANGUAGES = {
    ".r": "R",
    ".jl": "Julia",
    ".m": "MATLAB or Octave",
    ".js": "JavaScript",
    ".ts": "TypeScript",
    ".scala": "Scala",
    ".sh": "bash",
}
_KERNELS = {"R": "ir", "Julia": "julia-1.11"}
_MARIMO_IMPORT = re.compile(r"^import marimo\b", re.MULTILINE)
_MARIMO_APP = re.compile(
    r"^(?:app\s*=\s*marimo\.App\(|@app\.(?:cell|function|class_definition)\b)", re.MULTILINE
)
_CELL = re.compile(r"^\s*#\s*%%", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NoFlow:
    """Why a file is no source of a flow.

    Attributes:
        what: what it is; remedy: what to do.
        is_known: whether it is a notebook of another kind, or a file of any kind.
    """

    what: str
    remedy: str
    is_known: bool = True


def no_flow(file: Path, shown: str) -> NoFlow | None:
    """Why a file that is there is no source of a flow; None if it is one.

    Args:
        file: the file; of a `.py` the text is looked at.
        shown: the file as messages name it.
    """
    suffix = file.suffix.lower()
    base = shown[: len(shown) - len(file.suffix)]
    if file.suffix in SOURCE_SUFFIXES:
        return _marimo(shown, base) if suffix == ".py" and is_marimo(file) else None
    if suffix in SOURCE_SUFFIXES:
        return NoFlow(f"ends in {file.suffix}, and a flow in {suffix}", f"Rename it to {base}{suffix}.")
    if suffix == ".qmd":
        remedy = f"Convert it: quarto convert {shown} makes {base}.ipynb of it."
        return NoFlow(f"is a Quarto document, {_NO}", remedy)
    if suffix in (".rmd", ".rmarkdown"):
        return NoFlow(f"is R Markdown, {_NO}", _converted(shown, base, "R"))
    if language := _LANGUAGES.get(suffix):
        return NoFlow(f"is a script in {language}, {_NO}", _converted(shown, base, language))
    return NoFlow(
        f"is {_NO}", f"Convert it to one that ends in {_ENDINGS}, or call it from one.", is_known=False
    )


def is_marimo(file: Path) -> bool:
    """Whether a script is an app of marimo: it would start its own cells, which see no config."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # whoever runs it says what is wrong with it
        return False
    is_app = _MARIMO_IMPORT.search(text) and _MARIMO_APP.search(text)
    return bool(is_app) and not _CELL.search(text)


def _marimo(shown: str, base: str) -> NoFlow:
    return NoFlow(
        "is a marimo notebook, whose cells see no config",
        f"Convert it: marimo export ipynb {shown} -o {base}.ipynb, and move {shown} away.",
    )


def _converted(shown: str, base: str, language: str) -> str:
    kernel = _KERNELS.get(language)
    example = f', such as "_run": {{"kernel": "{kernel}"}}' if kernel else ""
    return (
        f"Convert it: jupytext --to ipynb {shown} makes {base}.ipynb of it; its config names the kernel for "
        f"{language}{example}."
    )

"""From the source of a flow to a notebook.

jupytext reads a text source (`.py`, `.md`). The metadata key `ductaflow` then keeps the place of each code
cell in the file, so that code can run under its true name:

    nb.metadata.ductaflow   = {"source": "/project/flows/fit.py"}
    cell.metadata.ductaflow = {"line": 41}      the line of the cell's first source line, from 1
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import SOURCE_SUFFIXES
from ductaflow.notebook.commands import ABOUT_PYTHON, Commands

if TYPE_CHECKING:
    from nbformat import NotebookNode


#: Our key in the metadata of notebooks and cells.
KEY = "ductaflow"
PARAMETERS = "parameters"
INJECTED = "injected-parameters"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# jupytext splits lines at these characters and Python does not: they would break string literals.
_ODD_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_HIDE_ODD = {ord(char): chr(0xF0000 + ord(char)) for char in _ODD_LINE_ENDS}
_SHOW_ODD = {ord(stand_in): chr(char) for char, stand_in in _HIDE_ODD.items()}
#: How a cell assigns a new config at its top level, by language.
_ASSIGNS_CONFIG = {
    "python": re.compile(r"^config\s*(?::[^=\n]*)?=\s*(?:\{\s*\}|dict\(\s*\)|None|\{)", re.MULTILINE),
    "r": re.compile(r"^config\s*(?:<-|<<-|=(?!=))|->\s*config\s*(?:$|[#;])", re.MULTILINE),
}
#: For work by hand; in a run it gives the config of the run.
_LOADS_INSTANCE = re.compile(r"^config\s*(?::[^=\n]*)?=\s*(?:\w+\.)?load_instance\(", re.MULTILINE)
_BARE_MARKER = re.compile(r"\s*#\s*%%+\s*$")
_LANGUAGE_MARKER = re.compile(r"\s*#\s*%%+(?:\s|$)")
_CELL_MAGIC = re.compile(r"%%(\w+)")
_CODE_MARKER = re.compile(r"\s*#\s*(?:%%|In\[|<codecell>)(?!.*\[(?:markdown|md|raw)\])|```")


def load_notebook(source: Path) -> NotebookNode:
    """Read a flow as a notebook whose code cells know their lines in the file.

    Args:
        source: a `.py` percent script (without any `# %%` it is one cell), a `.md` or an `.ipynb` file.

    Returns:
        A notebook of format 4 with a kernelspec, as papermill needs it.

    Raises:
        DuctaflowError: the file is missing, not UTF-8, or not a notebook.
    """
    if source.suffix not in SOURCE_SUFFIXES:
        raise DuctaflowError(f"{source}: a flow is a file that ends in {', '.join(SOURCE_SUFFIXES)}")
    text = read_source_text(source)
    known = _ahead.get(source)
    notebook = copy.deepcopy(known[1]) if known and known[0] == text else _parse(source, text)
    if "kernelspec" not in notebook.metadata:
        notebook.metadata.update(kernelspec=dict(KERNELSPEC))
    notebook.metadata.update({KEY: {"source": str(source.absolute())}})
    return notebook


def read_ahead(source: Path) -> None:
    """Read a flow in the process that is forked for its runs, which saves each run the work.

    The run of a flow that cannot be read reports why. A flow that is edited later is read again.
    """
    with contextlib.suppress(DuctaflowError):
        text = read_source_text(source)
        _ahead[source] = text, _parse(source, text)


#: What a warm server read ahead for its forks: the text of a flow, and the notebook made of it. It is used
#: only for a flow whose text is still the same.
_ahead: dict[Path, tuple[str, NotebookNode]] = {}


def _parse(source: Path, text: str) -> NotebookNode:
    return read_ipynb(source, text) if source.suffix == ".ipynb" else _read_script(source, text)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that would execute: code, not blank, not injected, not tagged `skip-execution`."""
    return [cell for cell in notebook.cells if is_executed(cell) and INJECTED not in tags(cell)]


def is_executed(cell: NotebookNode) -> bool:
    """Whether an engine executes a cell at all."""
    return cell.cell_type == "code" and bool(cell.source.strip()) and "skip-execution" not in tags(cell)


def tags(cell: NotebookNode) -> Sequence[str]:
    """Return the tags of a cell."""
    found: Sequence[str] = cell.metadata.get("tags", ())
    return found


def source_of(notebook: NotebookNode) -> Path | None:
    """Return the flow's file that a notebook was made from; None if it does not say."""
    source = notebook.metadata.get(KEY, {}).get("source")
    return Path(source) if isinstance(source, str) else None


def parameters_cell(notebook: NotebookNode) -> NotebookNode | None:
    """Return the cell tagged `parameters`, after which the config is injected, or None.

    Raises:
        DuctaflowError: several cells have the tag.
    """
    tagged = [cell for cell in notebook.cells if cell.cell_type == "code" and PARAMETERS in tags(cell)]
    if len(tagged) > 1:
        where = ", ".join(str(line) for line in map(cell_line, tagged) if line)
        raise DuctaflowError(
            f"{source_of(notebook) or 'the notebook'}: {len(tagged)} cells are tagged {PARAMETERS!r}"
            + (f" (lines {where})" if where else ""),
            hint="Keep the tag only on the cell that holds `config = {}`.",
        )
    return tagged[0] if tagged else None


def assigns_config(cell: NotebookNode, language: str) -> bool | None:
    """Whether a code cell assigns a new value to the name `config` at its top level; None if nobody knows."""
    pattern = _ASSIGNS_CONFIG.get("python" if is_python(language) else language.lower())
    return None if pattern is None else pattern.search(cell.source) is not None


def loads_instance(cell: NotebookNode) -> bool:
    """Whether a code cell has its config from `load_instance`."""
    return _LOADS_INSTANCE.search(cell.source) is not None


def is_python(language: str) -> bool:
    """Whether the language of a kernel, as its specification spells it, is Python."""
    return language.lower().startswith(("python", "ipython"))


def told_language(notebook: NotebookNode) -> str | None:
    """Return the language that a notebook names."""
    spec, info = notebook.metadata.get("kernelspec", {}), notebook.metadata.get("language_info", {})
    told: str | None = spec.get("language") or info.get("name")
    return told


def kernel_language(notebook: NotebookNode, kernel: str | None) -> str:
    """Return the language of a kernel: as the notebook says of its own one, else of the installed one.

    Args:
        notebook: the notebook.
        kernel: name of the kernel that is asked for; None for the notebook's own.
    """
    own = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel in (None, own) and (told := told_language(notebook)):
        return told
    kernel = kernel or own or KERNELSPEC["name"]
    if kernel.startswith("python"):
        return "python"
    from jupyter_client.kernelspec import NoSuchKernel, get_kernel_spec

    try:
        language: str = get_kernel_spec(kernel).language
    except NoSuchKernel:
        # most often the name of an environment on another machine
        return "python"
    return language or "python"


def cell_line(cell: NotebookNode) -> int | None:
    """Return the line in the source file where the cell's source begins, from 1; None if unknown."""
    line = cell.metadata.get(KEY, {}).get("line")
    return line if isinstance(line, int) else None


def cell_lines(source: Path) -> list[int]:
    """Return the lines of a flow's file where the cells that would execute begin, in order.

    Raises:
        DuctaflowError: the flow cannot be read.
    """
    return [line for line in map(cell_line, code_cells(load_notebook(source))) if line is not None]


def stands_at(cell_source: str, file_lines: Sequence[str], line: int) -> bool:
    """Whether the file has a cell's source from `line` on, with magics commented out or not."""
    expected = cell_source.split("\n")
    found = file_lines[line - 1 : line - 1 + len(expected)]
    if len(found) < len(expected):
        return False
    # `# %% language="bash"` has no line for `%%bash`: jupytext makes it from the marker
    pairs = list(zip(expected, found, strict=True))
    if expected[0].startswith("%%") and _CODE_MARKER.match(found[0]) and not _BARE_MARKER.match(found[0]):
        pairs = pairs[1:]
    return all(_same_line(*pair) for pair in pairs)


# --- reading -----------------------------------------------------------------------------------------------


def read_source_text(source: Path) -> str:
    try:
        raw = source.read_bytes()
    except OSError as exc:
        raise DuctaflowError(f"{source}: {exc.strerror or exc}") from exc
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise DuctaflowError(
            f"{source}:{line}: not UTF-8: {exc.reason}", hint="Save the file as UTF-8."
        ) from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_ipynb(source: Path, text: str) -> NotebookNode:
    import nbformat

    try:
        notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    except Exception as exc:
        # nbformat has no common class for its errors
        raise DuctaflowError(f"{source}{_json_fault(text) or f': not a notebook: {exc}'}") from exc
    return cast("NotebookNode", notebook)


def _json_fault(text: str) -> str:
    """Return the place and kind of a fault in JSON; empty if there is none."""
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        return f":{exc.lineno}:{exc.colno}: not a notebook: {exc.msg}"
    return ""


def _read_script(source: Path, text: str) -> NotebookNode:
    import jupytext

    fmt = "md" if source.suffix == ".md" else "py:percent"
    try:
        notebook = jupytext.reads(text.translate(_HIDE_ODD), fmt=fmt, as_version=4)
    except Exception as exc:
        # jupytext passes on any exception of its parsers for headers, YAML and cell options
        first = str(exc).strip().splitlines() or [type(exc).__name__]
        raise DuctaflowError(
            f"{source}: jupytext cannot read it: {first[0]}",
            hint="Look at the `# ---` header and at the options after `# %%`.",
        ) from exc
    for cell in notebook.cells:
        cell.source = cell.source.translate(_SHOW_ODD)
    lines = text.split("\n")
    _place_cells(notebook, lines)
    if fmt != "md":
        _restore_comments(notebook, lines, Commands(text))
    return cast("NotebookNode", notebook)


def _restore_comments(notebook: NotebookNode, lines: Sequence[str], commands: Commands) -> None:
    """Make comments of what jupytext takes for commands, but for those that it would have written."""
    for cell in notebook.cells:
        first = cell_line(cell)
        source = cell.source.split("\n")
        written = lines[first - 1 : first - 1 + len(source)] if first else source
        magic = _CELL_MAGIC.match(source[0])
        is_text = magic is not None and magic[1] not in ABOUT_PYTHON and commands.holds(source[0])
        # `# %% language="bash"` became a magic
        if source == written or is_text or (magic and _LANGUAGE_MARKER.match(written[0])):
            continue
        inside = _inside_brackets(written)
        goes_on = False
        for place, line in enumerate(source):
            if line == written[place].rstrip() or line.lstrip().startswith("#"):
                goes_on = False
                continue
            is_misplaced = place in inside or (place > 0 and line.lstrip().startswith("%%"))
            if not goes_on and (is_misplaced or not commands.holds(line)):
                source[place] = written[place]
            goes_on = source[place] == line and line.endswith("\\")
        cell.source = "\n".join(source)


def _inside_brackets(lines: Sequence[str]) -> set[int]:
    """Return the places of lines in the midst of an expression, where no command can stand."""
    found, depth = set(), 0
    # what is no Python, such as a magic that is not commented, ends the search
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(iter([f"{line}\n" for line in lines]).__next__):
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
            elif token.type == tokenize.COMMENT and depth:
                found.add(token.start[0] - 1)
    return found


def _place_cells(notebook: NotebookNode, lines: Sequence[str]) -> None:
    """Note the line of each code cell. A cell that is not found in the file has none."""
    begin = 1
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        line = _find(cell.source, lines, begin)
        if line is not None:
            cell.metadata.update({KEY: {"line": line}})
            begin = line + cell.source.count("\n") + 1


def _find(cell_source: str, lines: Sequence[str], begin: int) -> int | None:
    places = [n for n in range(begin, len(lines) + 1) if stands_at(cell_source, lines, n)]
    # A markdown cell further up may have the same text: prefer a place after a code marker.
    return next((n for n in places if _follows_marker(lines, n)), places[0] if places else None)


def _follows_marker(lines: Sequence[str], line: int) -> bool:
    before = next((text for text in reversed(lines[: line - 1]) if text.strip()), "")
    return _CODE_MARKER.match(before) is not None or _CODE_MARKER.match(lines[line - 1]) is not None


def _same_line(expected: str, found: str) -> bool:
    expected = expected.rstrip()
    if expected == found.rstrip():
        return True
    bare = found.strip()
    return bare.startswith("#") and bare[1:].strip() == expected.strip()

"""The hash of code, as far as it decides what a run does.

Of Python the syntax tree counts, without docstrings: comments, blank lines, quotes and line wraps do not. Of
a flow the code cells count, its markdown does not. What is a comment for Python and code for a notebook
counts: magics (`# %time`, `# !ls`), cells in other languages, and the tags that change what is executed.

No notebook library is imported here: the process that asks for a run reads thousands of these.
"""

from __future__ import annotations

import ast
import codecs
import hashlib
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ductaflow.notebook.commands import ABOUT_PYTHON, Commands

#: Tags that change what a run does; all others are for the eye.
_TAGS = frozenset(("parameters", "injected-parameters", "raises-exception", "skip-execution"))
_MARKER = re.compile(r"\s*#\s*(?:%%(?P<level>%*)(?:\s(?P<options>.*))?|<codecell>\s*|In\[[0-9 ]*\]:?\s*)$")
_TEXT_CELL = re.compile(r"\[(?:markdown|md|raw)\]|cell_type\"?\s*[:=]\s*\"(?:markdown|raw)\"")
_TAG_LIST = re.compile(r"\btags\"?\s*[:=]\s*(\[[^\]]*\])")
_WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_LANGUAGE = re.compile(r"\blanguage\"?\s*[:=]\s*\"([^\"]*)\"")
_ACTIVE = re.compile(r"\bactive\"?\s*[:=]\s*\"([^\"]*)\"")
#: As a title of a percent cell, these say its language.
_LANGUAGES = {
    *("bash", "sh", "r", "html", "javascript", "js", "perl", "latex", "ruby", "script", "svg", "matlab"),
    *("octave", "sql", "cython", "haskell"),
}
_KERNEL = re.compile(r"^(?:#\s*)?\s+(name|language):\s*(\S+)\s*$", re.MULTILINE)
_HEADER = re.compile(
    r"\A(?:#[^\n]*\n)*?# ---\n(?:#[^\n]*\n)*?# ---(?:\n|\Z)|\A---\n.*?\n---(?:\n|\Z)", re.DOTALL
)
_FENCE = re.compile(r"(?P<ticks>`{3,})\s*(?P<options>\{?[\w+-].*)$")
#: What is no Python, but code for IPython, if no comment sign hides it.
_MAGIC = re.compile(
    r"\s*%{1,3}[A-Za-z]"
    r"|\s*[?!]\s*[A-Za-z.~$\\/{}]"
    r"|\s*[A-Za-z_][\w$]*\s*=\s*(?:%{1,3}|!)[A-Za-z]"
    r"|(?:cat|cd|cp|mv|rm|rmdir|mkdir|copy|ddir|echo|ls|ldir|ren)(?:$|\s$|\s[^=,])"
    r"|\s*[^\s#]*\?\s*$"
)
_COMMENT_SIGNS = re.compile(r"(\s*)((?:#\s?)*)(.*)", re.DOTALL)
_CELL_MAGIC = re.compile(r"\s*%%(?P<name>[A-Za-z]\w*)")
_QUOTE = re.compile(r"\\.|\"\"\"|'''|\"|'|#", re.DOTALL)


def code_hash(raw: bytes, suffix: str) -> str:
    """The hash of the code of a flow; its `suffix` says the format, `.py` (percent), `.ipynb` or `.md`."""
    try:
        text = _text(raw)
        cells, kernel = _READERS[suffix](text)
    except (ValueError, KeyError, TypeError, AttributeError):
        # not UTF-8, or no notebook: whatever is changed in it counts
        return _digest([raw.decode("utf-8", "backslashreplace")])
    is_python = not kernel or any("python" in word.lower() for word in kernel)
    return _digest([*([] if is_python else sorted(kernel)), *_words(cells, suffix, is_python=is_python)])


def module_hash(raw: bytes) -> str:
    """The hash of a Python module."""
    with suppress(RecursionError):
        if (tree := module_tree(raw)) is not None:
            return _digest([_dump(tree)])
    return _digest([raw.decode("utf-8", "backslashreplace")])


#: An import at the beginning of a line, also of a comment that is code elsewhere, or behind a semicolon.
_IMPORT = re.compile(r"(?:^[ \t#>]*|;[ \t]*)(?:from[ \t]+(\w+)|import[ \t]+(\w[\w., \t]*))", re.MULTILINE)


def imported_names(raw: bytes) -> set[str]:
    """The top-level modules that a source imports by their names, in whatever cell or function."""
    found: set[str] = set()
    for one, several in _IMPORT.findall(raw.decode("utf-8", "replace")):
        names = [one, *(name.split()[0] for name in several.split(",") if name.strip())]
        found.update(name.partition(".")[0] for name in names)
    return {name for name in found if name.isidentifier()}


# --- cells -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cell:
    """A code cell: its lines, the tags that matter, and its language if it is not Python.

    `active` says for which formats the cell is code, where it is not for all. A source that is not among them
    has it as comments.
    """

    lines: list[str] = field(default_factory=list)
    tags: tuple[str, ...] = ()
    language: str = ""
    active: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """What makes it differ from a plain cell; nothing of it for a plain one."""
        active = [f"active={','.join(self.active)}"] if self.active else []
        return " ".join([*self.tags, *active, self.language]).strip()


def _words(cells: Iterable[_Cell], suffix: str, *, is_python: bool) -> Iterator[str]:
    """The cells as a sequence of strings. Where one plain cell ends and the next begins changes nothing."""
    for number, cell in enumerate(cells):
        if cell.mark:
            yield f"begin {cell.mark}"
        if not is_python or cell.language:
            yield from (line.rstrip() for line in cell.lines if line.strip())
        else:
            yield from _python_words(cell.lines, is_first=number == 0 and suffix == ".py")
        if cell.mark:
            yield "end"


def _python_words(lines: list[str], *, is_first: bool) -> list[str]:
    """The code of a cell."""
    tree = _cell_tree(lines)
    with suppress(RecursionError):
        if tree is not None:
            last = len(tree.body) - 1
            # A string that ends a cell is shown, unless the file begins with it: then it is the docstring.
            shown = last if last or not is_first else None
            nodes = [node for n, node in enumerate(tree.body) if n == shown or not _is_bare_string(node)]
            return [_dump(node) for node in nodes]
    return [line.rstrip() for line in lines if line.strip()]


def cell_trees(raw: bytes, suffix: str) -> Iterator[ast.Module | None]:
    """The syntax trees of the cells that a flow executes; None of a cell that is not Python.

    A magic is a call of `__magic__`. What is no notebook has no cells.
    """
    try:
        cells, _ = _READERS[suffix](_text(raw))
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    for cell in cells:
        if "skip-execution" not in cell.tags:
            yield None if cell.language else _cell_tree(cell.lines)


def _cell_tree(lines: list[str]) -> ast.Module | None:
    magic = _CELL_MAGIC.match(_first(lines))
    is_text = magic is not None and magic["name"] not in ABOUT_PYTHON
    return None if is_text else module_tree("\n".join(_with_calls_for_magics(lines)) + "\n")


def _first(lines: Iterable[str]) -> str:
    return next((line for line in lines if line.strip()), "")


def _with_calls_for_magics(lines: Iterable[str]) -> Iterator[str]:
    """The lines with each magic as a call, so that the syntax tree has it in its place."""
    for line, is_magic in _magics(lines, _MAGIC.match):
        indent = line[: len(line) - len(line.lstrip())]
        yield f"{indent}__magic__({line.strip()!r})" if is_magic else line


def _magics(lines: Iterable[str], matches: Callable[[str], object]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is a magic or goes on with the one before."""
    quote, goes_on = "", False
    for line in lines:
        is_magic = not quote and (goes_on or bool(matches(line)))
        goes_on = is_magic and line.rstrip().endswith("\\")
        if not is_magic:
            quote = _open_quote(line, quote)
        yield line, is_magic


def _uncommented(lines: list[str], commands: Commands) -> list[str]:
    """The lines of a script as they are given to IPython: magics have one comment sign less."""

    first = _bare(_first(lines)).lstrip()
    magic = _CELL_MAGIC.match(first)
    is_text = magic is not None and magic["name"] not in ABOUT_PYTHON and commands.may_hold(first)

    def is_magic(line: str) -> bool:
        found = _COMMENT_SIGNS.match(line)
        bare = found[3] if found else line
        if is_text or not line.lstrip().startswith("#"):
            return _MAGIC.match(bare) is not None
        return commands.may_hold(_bare(line).lstrip())

    return [_bare(line) if found else line for line, found in _magics(lines, is_magic)]


def _bare(line: str) -> str:
    """A line without its first comment sign."""
    text = line.lstrip()
    return line[: len(line) - len(text)] + text[1:].removeprefix(" ") if text.startswith("#") else line


def _open_quote(line: str, quote: str) -> str:
    """The triple quote that is open behind a line, with the one that was open before it."""
    inside = quote
    for match in _QUOTE.finditer(line):
        sign = match.group()
        if inside:
            if sign == inside or (len(inside) == 1 and sign == inside * 3):
                inside = ""
        elif sign == "#":
            break
        elif sign[0] != "\\":
            inside = sign
    return inside if len(inside) == 3 else ""


def _percent_cells(text: str) -> tuple[list[_Cell], set[str]]:
    header = _HEADER.match(text)
    kernel = _kernel(header.group()) if header else set()
    cell, quote, is_code = _Cell(), "", True
    cells = [cell]
    for line in text[header.end() :].split("\n") if header else text.split("\n"):
        marker = None if quote else _MARKER.match(line)
        if marker:
            options = marker["options"] or ""
            is_code = not _TEXT_CELL.search(options)
            cell = _cell_of(options)
            if is_code:
                cells.append(cell)
            continue
        # what a text cell holds are comments or one string
        quote = _open_quote(line, quote)
        if is_code:
            cell.lines.append(line)
    commands = Commands(text)
    for cell in cells:
        is_comment = cell.active and "py" not in cell.active
        cell.lines = [*map(_bare, cell.lines)] if is_comment else _uncommented(cell.lines, commands)
    return cells, kernel


def _cell_of(options: str) -> _Cell:
    """An empty cell with what stands behind its marker."""
    found = _TAG_LIST.search(options)
    tags = {first or second for first, second in _WORD.findall(found.group(1))} if found else set()
    languages = _LANGUAGE.findall(options)
    title = options.split()[:1]
    if title and title[0].lower() in _LANGUAGES:
        languages.append(title[0].lower())
    return _Cell(
        tags=tuple(sorted(tags & _TAGS)), language=" ".join(languages), active=_active(tags, options)
    )


def _active(tags: set[str], options: str) -> tuple[str, ...]:
    """The formats for which a cell is code, by a tag (`active-ipynb-py`) or by a key; none for all."""
    for tag in sorted(tags):
        if tag.startswith("active-"):
            return tuple(sorted(set(tag.split("-")[1:])))
    found = _ACTIVE.search(options)
    return tuple(sorted(set(re.split(r"[.,]", found.group(1))))) if found else ()


def _kernel(header: str) -> set[str]:
    """Name and language of the kernel that a YAML header gives."""
    _, _, spec = header.partition("kernelspec:")
    return {value for _, value in _KERNEL.findall(spec)}


def _markdown_cells(text: str) -> tuple[list[_Cell], set[str]]:
    header = _HEADER.match(text)
    kernel = _kernel(header.group()) if header else set()
    cells: list[_Cell] = []
    fence, cell = "", _Cell()
    for line in text[header.end() :].split("\n") if header else text.split("\n"):
        if fence:
            if line.strip() == fence:
                fence = ""
            else:
                cell.lines.append(line)
        elif opened := _FENCE.match(line):
            fence = opened["ticks"]
            cell = _cell_of(opened["options"])
            language = opened["options"].split()[0].strip("{}").lower()
            if language not in ("python", "python3", "ipython3", "code-cell"):
                cell.language = f"{language} {cell.language}".strip()
            cells.append(cell)
    return cells, kernel


def _notebook_cells(text: str) -> tuple[list[_Cell], set[str]]:
    notebook = json.loads(text)
    spec = notebook.get("metadata", {}).get("kernelspec", {})
    cells = []
    for found in notebook["cells"]:
        if found["cell_type"] == "code":
            source = found["source"]
            tags = set(found.get("metadata", {}).get("tags", ()))
            lines = (source if isinstance(source, str) else "".join(source)).split("\n")
            cells.append(_Cell(lines, tuple(sorted(tags & _TAGS))))
    return cells, {str(spec[key]) for key in ("name", "language") if spec.get(key)}


_READERS = {".py": _percent_cells, ".ipynb": _notebook_cells, ".md": _markdown_cells}


# --- syntax trees ------------------------------------------------------------------------------------------

#: The filters of warnings belong to the whole process.
_FILTERS = threading.Lock()


def module_tree(source: str | bytes) -> ast.Module | None:
    """The syntax tree of a module or cell; None of what is not Python."""
    try:
        with _FILTERS, warnings.catch_warnings():
            # `"\d"` warns, and is an error where a session makes errors of warnings
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _dump(tree: ast.AST) -> str:
    """A syntax tree as text: without places, docstrings, and fields that say nothing.

    Not `ast.dump`: a field that another version of Python adds would change it. Each node says first what
    follows, so that no two trees have the same text.

    Raises:
        RecursionError: it is so deep that some version of Python cannot read it. All take the text then.
    """
    parts: list[str] = []
    pending: list[tuple[int, object]] = [(0, tree)]
    while pending:
        depth, value = pending.pop()
        if isinstance(value, ast.Constant):
            parts.append(_constant(value.value))
        elif isinstance(value, ast.AST):
            if depth > _DEEPEST:
                raise RecursionError
            said = {name: item for name in value._fields if (item := getattr(value, name, None)) is not None}
            if isinstance(value, ast.JoinedStr):
                said["values"] = _without_seams(value.values)
            names = [name for name, item in said.items() if item != [] and name not in _SILENT]
            parts.append(f"{type(value).__name__}({','.join(names)})")
            pending += [(depth + 1, said[name]) for name in reversed(names)]
        elif isinstance(value, list):
            items = [item for item in value if not _is_bare_string(item)]
            parts.append(f"[{len(items)}]")
            pending += [(depth, item) for item in reversed(items)]
        else:
            parts.append(_constant(value))
    return " ".join(parts)


def _without_seams(parts: Iterable[ast.expr]) -> list[object]:
    """The parts of an f-string with neighbouring texts as one: versions of Python divide them differently."""
    joined: list[object] = []
    for part in parts:
        text = part.value if isinstance(part, ast.Constant) else part
        if isinstance(text, str) and joined and isinstance(joined[-1], str):
            joined[-1] += text
        elif text != "":
            joined.append(text)
    return joined


#: Python 3.11 reads 3,000 levels; others read fewer or more, and depending on the machine.
_DEEPEST = 1_000
#: Fields of nodes that follow from the others, or are comments.
_SILENT = frozenset(("type_comment", "type_ignores", "ctx"))


def _is_bare_string(node: object) -> bool:
    """A string that stands alone as a statement: a docstring, or text for whoever reads the code."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _constant(value: object) -> str:
    # in hexadecimal: Python refuses to print long integers as decimals
    return f"int {value:x}" if type(value) is int else f"{type(value).__name__} {value!r}"


# --- text --------------------------------------------------------------------------------------------------


def _text(raw: bytes) -> str:
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _digest(words: Iterable[str]) -> str:
    """One hash of some strings, in their order; no two sequences have the same."""
    digest = hashlib.sha256()
    for word in words:
        part = word.encode("utf-8", "backslashreplace")
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()

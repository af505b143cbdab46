"""Which comments of a `.py` notebook are commands of IPython, as jupytext writes them.

    # %time fit()            a magic: jupytext writes it so, and IPython knows `time`
    # files = !ls data       a program of the machine
    # rm data.csv            a comment, as in plain Python
    # %s of the total        a comment: there is no magic `s`
    # !important             a comment: there is no program `important`

jupytext itself takes all of these for commands, and would run `rm data.csv`. No notebook library is imported
here: the process that asks for a run reads thousands of notebooks.
"""

from __future__ import annotations

import functools
import re
import shutil

#: The magics of IPython, ipykernel and the extensions that come with them. What only shows something to a
#: person at a prompt (`%more`, `%page`, `%edit`) is left out: its names are words of comments.
_NAMES = """
HTML SVG aimport alias alias_magic autoawait autocall automagic autoreload autosave bash bookmark
capture cat cd code_wrap colors conda config cp debug dhist dirs doctest_mode env file gui hist history
html javascript js killbgscripts latex ldir lf lk ll load load_ext loadpy logoff logon logstart logstate
logstop ls lsmagic lx macro magic mamba markdown matplotlib micromamba mkdir mv notebook pastebin pdb
pdef pdoc perl pfile pinfo pinfo2 pip popd pprint precision prun psearch psource pushd pwd pycat pylab
pypy python python2 python3 recall rehashx reload_ext rep rerun reset reset_selective rm rmdir ruby run
save sc script set_env sh store subshell svg sx system tb time timeit unalias unload_ext uv who who_ls
whos writefile xdel xmode
"""
MAGICS = frozenset(_NAMES.split())
#: Cell magics whose cell is Python.
ABOUT_PYTHON = frozenset(("time", "timeit", "capture", "prun"))
#: Words of a shell that are no programs.
_WORDS = """
alias builtin case cd command do eval exec exit export for function if jobs popd pushd read set source
time type ulimit umask unset until wait while
"""
_SHELL_WORDS = frozenset(_WORDS.split())
#: Conversions of `%` formats, which comments name: no extension has such a magic.
_FORMATS = frozenset("acdefgiorsux")
_COMMAND = re.compile(
    r"\s*(?:[A-Za-z_]\w*\s*=\s*)?(?:%{1,2}(?P<magic>[A-Za-z]\w*)(?![\w%])|!{1,2}\s*(?P<program>[^\s;|&<>]+))"
)
#: What adds magics of its own to a notebook.
_EXTENDS = re.compile(r"%(?:re)?load_ext\b|\bregister_\w*magics?\b|\bload_extension\b|\bmagics_class\b")


class Commands:
    """Tells the commands among the commented lines of one notebook.

    Args:
        text: the whole notebook; one that loads extensions has magics that nobody knows by name.
    """

    def __init__(self, text: str) -> None:
        self._is_extended = _EXTENDS.search(text) is not None

    def may_hold(self, line: str) -> bool:
        """Whether a line without its comment sign is a command, on this machine or on another one."""
        return self._magic_or_program(line) is not None

    def holds(self, line: str) -> bool:
        """Whether a line without its comment sign is a command that this machine can execute."""
        found = self._magic_or_program(line)
        return found is not None and (not found["program"] or _is_program(found["program"]))

    def _magic_or_program(self, line: str) -> re.Match[str] | None:
        found = _COMMAND.match(line)
        if found is None or found["program"] or found["magic"] in MAGICS:
            return found
        return found if self._is_extended and found["magic"] not in _FORMATS else None


@functools.cache
def _is_program(word: str) -> bool:
    is_word = re.fullmatch(r"[\w.+-]+", word) is not None
    # a path, a variable, `NAME=value` before the program: what no comment begins with
    return not is_word or word in _SHELL_WORDS or shutil.which(word) is not None

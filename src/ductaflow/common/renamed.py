"""Other names of arguments: those that the functions had before ductaflow was a package.

Code that names them goes on working, and what a function says of itself has one name for each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def also_named(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function take arguments under other names.

    Args:
        names: the other name of an argument, and its own.

    Example:
        >>> @also_named(notebook_path="notebook")
        ... def show(notebook): return notebook
        >>> show(notebook_path="fit.ipynb")
        'fit.ipynb'
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for name in kwargs.keys() & names.keys():
                if names[name] in kwargs:
                    raise TypeError(f"{function.__name__}() got {name} and {names[name]}, which are the same")
                kwargs[names[name]] = kwargs.pop(name)
            return function(*args, **kwargs)

        return call

    return decorate

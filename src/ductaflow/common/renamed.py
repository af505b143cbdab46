"""Arguments as the functions had them when ductaflow was a single file: other names, and places in the call.

Code that was written so goes on working, and what a function says of itself has one name for each.
"""

from __future__ import annotations

import functools
import inspect
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


def also_in_order(*names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function take arguments by position that have to be named.

    Args:
        names: of all its arguments that have a place, in their order.

    Example:
        >>> @also_in_order("notebook", "config")
        ... def show(notebook, *, config): return config
        >>> show("fit.py", {"x": 1})
        {'x': 1}
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        with_any: Callable[..., T] = function
        kinds = inspect.signature(function).parameters.values()
        places = sum(one.kind is not one.KEYWORD_ONLY for one in kinds)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for name, value in zip(names[places:], args[places:], strict=False):
                if name in kwargs:
                    raise TypeError(f"{function.__name__}() got {name} by its place and by its name")
                kwargs[name] = value
            return with_any(*args[:places], *args[len(names) :], **kwargs)

        return call

    return decorate

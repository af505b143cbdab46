"""What a process that a flow starts as a new interpreter has for a main module.

`multiprocessing` executes this file there, under the name `__mp_main__`, where it would execute the flow: see
`new_interpreters`. The flow itself runs when somebody asks for something that it defines.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """Run the flow, at the first name that is not here, and return what it has for the name."""
    import sys

    from ductaflow.notebook import new_interpreters

    main = sys.modules["__main__"]
    if not (name.startswith("__") and name.endswith("__")) and vars(main).pop("__getattr__", None):
        new_interpreters.run_flow_again(main)
        if name in vars(main):
            return vars(main)[name]
    raise AttributeError(f"module {main.__name__!r} has no attribute {name!r}")

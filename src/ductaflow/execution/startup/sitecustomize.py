"""The first module of each process of Python that a run starts: the process tells what it reads.

Python imports a module of this name when it starts. This one takes itself out of the way, imports the real
one if there is one, and starts to watch. Another version of Python, or one without ductaflow, may come here.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _here]
_rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != _here]
if _rest:
    os.environ["PYTHONPATH"] = os.pathsep.join(_rest)
else:
    os.environ.pop("PYTHONPATH", None)
_this = sys.modules.pop(__name__)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
except ImportError:
    sys.modules[__name__] = _this
try:
    from ductaflow.execution.audit import watch_this_process
except ImportError:
    pass
else:
    watch_this_process()

"""Shape annotations, held against the tensors that the tests pass.

    pytest --jaxtyping-packages=pluralign,shape_checks.checked

Only annotations of arrays are checked, as `Float[Tensor, "N D"]`; mypy checks the others, and tests put
simple objects in the place of large ones. A call is checked once it has returned: a function may refuse an
argument of another shape or dtype with an error of its own, and must not accept it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

__all__ = ["checked"]

_AS_MYPY = BeartypeConf(is_pep484_tower=True)  # a whole number is a float


def checked(stub: Callable[..., Any]) -> Callable[..., Any]:
    """What jaxtyping calls with two stubs for each function, and asks for functions that check.

    The first stub takes the arguments, before the call: it stays as it is. The second takes arguments and
    result, after the call.
    """
    arrays = {name: hint for name, hint in stub.__annotations__.items() if _of_arrays(hint)}
    if not arrays or not _takes_result(stub):
        return stub
    stub.__annotations__ = dict.fromkeys(stub.__annotations__, Any) | arrays
    return beartype(stub, conf=_AS_MYPY)


def _of_arrays(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_of_arrays(part) for part in get_args(hint))


def _takes_result(stub: Callable[..., Any]) -> bool:
    """Whether it has jaxtyping's keyword for the result: `ret0`, or a higher number where that is taken."""
    return any(name[:3] == "ret" and name[3:].isdigit() for name in inspect.signature(stub).parameters)

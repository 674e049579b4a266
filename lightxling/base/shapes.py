"""Shapes of arrays in annotations: `Float[np.ndarray, "N D"]`.

They are jaxtyping's where that is in use already, as in the tests, which check them, and in
training. Elsewhere they say nothing, and nothing has to be installed or imported for them.
"""

import sys
from typing import Any

TYPE_CHECKING = False  # type checkers take it for true, see `lightxling`
if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import Int8 as Int8
    from jaxtyping import Integer as Integer
    from jaxtyping import Real as Real
    from jaxtyping import UInt8 as UInt8
else:

    class _Shaped:
        """Of an array type and its shape, keeps the type."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Int = Int8 = UInt8 = Integer = Real = _Shaped

"""What a builder does with options, without a config: they are checked, then the object is made."""

from __future__ import annotations

from typing import Any

from gencli import interfaces
from gencli.core import options


def built(where: str, kind: type, *given: Any, **values: Any) -> Any:
    """An object of a class whose options stand at ``where`` of a config."""
    options.check(values, options.of_class(kind, len(given), vars(interfaces)), where, kind.__name__)
    return kind(*given, **values)

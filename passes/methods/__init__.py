"""Published conversion methods, one declarative recipe a file: which operator stands in for what."""

from .las import LAS
from .method import Method

METHODS: dict[str, Method] = {method.name: method for method in (LAS,)}

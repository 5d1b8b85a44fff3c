"""The expression language: parsed, checked, then compiled to Python, kernels or SQL. Features and rules both use it."""

from shopward.expr.check import Known, Scope, check
from shopward.expr.compile import to_kernel, to_python
from shopward.expr.functions import FUNCTIONS, runtime
from shopward.expr.nodes import Expr, Node, Type, walk
from shopward.expr.parse import names_in
from shopward.expr.sql import to_sql
from shopward.expr.words import describe

__all__ = [
    "FUNCTIONS",
    "Expr",
    "Known",
    "Node",
    "Scope",
    "Type",
    "check",
    "describe",
    "names_in",
    "runtime",
    "to_kernel",
    "to_python",
    "to_sql",
    "walk",
]

"""The `calculate` tool: Python's arithmetic on numbers, in bounded time for any expression.

Values and error messages are those of Python's `eval`, which upstream calls. `9**9**9` would never finish there; here an
integer of more than 10,000 bits is an error.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

ALLOWED = "0123456789+-*/(). "
MAX_CHARACTERS = 2_000
MAX_BITS = 10_000
TOO_LARGE = "int too large to convert to float"
"""Python's message for the value of nearly every expression that is refused here."""


def _checked(value: Any, bits: float) -> Any:
    if isinstance(value, int) and value.bit_length() > bits:
        raise OverflowError(TOO_LARGE)
    return value


def _check_power(base: Any, exponent: Any, bits: float) -> None:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and exponent > 0 and exponent * math.log2(abs(base)) > bits:
        raise OverflowError(TOO_LARGE)


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def _value(node: ast.AST, bits: float) -> Any:
    if isinstance(node, ast.Expression):
        return _value(node.body, bits)
    if isinstance(node, ast.Constant):
        return _checked(node.value, bits)
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left, bits), _value(node.right, bits)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right, bits)
        return _checked(BINARY[type(node.op)](left, right), bits)
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return _checked(UNARY[type(node.op)](_value(node.operand, bits)), bits)
    if isinstance(node, ast.Tuple) and not node.elts:
        return ()
    if isinstance(node, ast.Call):
        _refuse_call(node, bits)
    raise ValueError("only numbers, + - * / // ** and parentheses can be calculated")


def _refuse_call(node: ast.Call, bits: float) -> NoReturn:
    """`2(3)` is a call in Python, not a product, and a number cannot be called."""
    called = _value(node.func, bits)
    for argument in node.args:
        _value(argument, bits)
    raise TypeError(f"'{type(called).__name__}' object is not callable")


def evaluate(expression: str, *, bounded: bool = True) -> str:
    """The value rounded to two decimals, as text. Raises ValueError, TypeError, SyntaxError, ArithmeticError, MemoryError
    or RecursionError.

    Without `bounded` there is no limit on time.
    """
    if not all(character in ALLOWED for character in expression):
        raise ValueError("Invalid characters in expression")
    if not isinstance(expression, str):
        raise TypeError("eval() arg 1 must be a string, bytes or code object")
    if bounded and len(expression) > MAX_CHARACTERS:
        raise ValueError(f"the expression is longer than {MAX_CHARACTERS} characters")
    tree = ast.parse(expression.lstrip(" "), "<string>", "eval")
    return str(round(float(_value(tree, MAX_BITS if bounded else math.inf)), 2))

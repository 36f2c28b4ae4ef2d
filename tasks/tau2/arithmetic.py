"""The `calculate` tool: Python's arithmetic on numbers, in bounded time whatever a model writes.

`9**9**9` would keep Python busy for ever; here an integer of more than 10,000 bits is an error.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

ALLOWED = frozenset("0123456789+-*/(). ")
MAX_CHARACTERS = 2_000
MAX_BITS = 10_000
Number = int | float


def _checked(value: Number, bits: float) -> Number:
    if isinstance(value, int) and value.bit_length() > bits:
        raise ValueError("the result is too large")
    if isinstance(value, complex):
        raise ValueError("the result is not a real number")
    return value


def _check_power(base: Number, exponent: Number, bits: float) -> None:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and exponent > 0 and exponent * math.log2(abs(base)) > bits:
        raise ValueError("the result is too large")


BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def _value(node: ast.AST, bits: float) -> Number:
    if isinstance(node, ast.Expression):
        return _value(node.body, bits)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return _checked(node.value, bits)
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left, bits), _value(node.right, bits)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right, bits)
        return _checked(BINARY[type(node.op)](left, right), bits)
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return _checked(UNARY[type(node.op)](_value(node.operand, bits)), bits)
    raise ValueError("only numbers, + - * / // ** and parentheses can be calculated")


def evaluate(expression: str, *, bounded: bool = True) -> str:
    """The value rounded to two decimals, as text. Raises ValueError, ArithmeticError or RecursionError.

    Unbounded it takes as long as it takes, which may be for ever.
    """
    if not isinstance(expression, str) or not set(expression) <= ALLOWED:
        raise ValueError("Invalid characters in expression")
    if bounded and len(expression) > MAX_CHARACTERS:
        raise ValueError(f"the expression is longer than {MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"Invalid expression: {error}") from error
    return str(round(float(_value(tree, MAX_BITS if bounded else math.inf)), 2))

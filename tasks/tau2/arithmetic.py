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


def _checked(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError("the result is too large")
    if isinstance(value, complex):
        raise ValueError("the result is not a real number")
    return value


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and exponent > 0 and exponent * math.log2(abs(base)) > MAX_BITS:
        raise ValueError("the result is too large")
    return _checked(base**exponent)


BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}
UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def _value(node: ast.AST) -> Number:
    if isinstance(node, ast.Expression):
        return _value(node.body)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return _checked(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        return _checked(BINARY[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return _checked(UNARY[type(node.op)](_value(node.operand)))
    raise ValueError("only numbers, + - * / // ** and parentheses can be calculated")


def evaluate(expression: str) -> str:
    """The value rounded to two decimals, as text. Raises ValueError, ArithmeticError or RecursionError."""
    if not isinstance(expression, str) or not set(expression) <= ALLOWED:
        raise ValueError("Invalid characters in expression")
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"the expression is longer than {MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"Invalid expression: {error}") from error
    return str(round(float(_value(tree)), 2))

"""The helpers that generated kernels call, compiled. Their plain-Python twins, with the same names, are in functions.py."""

from __future__ import annotations

import math

from numba import njit

nan = float("nan")
_jit = njit(cache=True, nogil=True, error_model="numpy")


@_jit
def div(a, b):
    """
    >>> div(1.0, 0.0)
    nan
    """
    return a / b if b != 0.0 else nan


@_jit
def mod(a, b):
    return a % b if b != 0.0 else nan


@_jit
def floor(x):
    return float(math.floor(x)) if x - x == 0.0 else x


@_jit
def round_even(x, p):
    """
    >>> round_even(2.5, 1.0)
    2.0
    """
    y = x * p
    return round(y) / p if y - y == 0.0 and abs(y) < 4503599627370496.0 else y / p


@_jit
def least(a, b):
    return a if a <= b else b if b < a else nan


@_jit
def greatest(a, b):
    return a if a >= b else b if b > a else nan


@_jit
def first(a, b):
    return a if a == a else b

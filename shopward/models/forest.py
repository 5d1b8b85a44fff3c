"""A forest of decision trees as flat arrays, scored in blocks of rows.

What LightGBM trained is read from its text form, so scoring and explaining need neither LightGBM nor a compiler at install. Raw scores
equal LightGBM's `predict(raw_score=True)` bit for bit: the same comparisons, and leaf values added up in the order of the trees.
A block of rows walks down each tree together, so that the processor always has several independent steps in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numba import njit

from shopward.errors import BadData

BLOCK = 256  # rows whose codes and positions stay in the first-level cache together
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision_type; bits 2 and 3 say what counts as missing
_MISSING_ZERO, _MISSING_NAN = 1, 2
MISSING_IS_NAN, DEFAULT_LEFT = _MISSING_NAN << 2, _DEFAULT_LEFT  # for trees of other libraries, which know no other way
_NEVER = 65_535  # the rank of a leaf: no code is above it
_U, _LOW = np.uint64, np.uint64(65_535)
_ZERO = float(np.float32(1e-35))  # LightGBM's kZeroThreshold: what `missing = zero` takes as zero


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees as arrays over all nodes; leaves are nodes that lead to themselves.

    features   d names, in the order of the matrix' columns
    roots      int32[t] first node of each tree         steps int32[t] longest way from root to leaf
    feature, threshold, left, right, value, cover       per node; `cover` is the training weight that passed it
    kind       int8 per node: LightGBM's decision_type (categorical, default side, what is missing)
    cat_start, cat_words   bitsets of the categories that go left, for categorical nodes
    codes      how blocks of rows are compared as small integers (see `_codes`)
    """

    features: tuple[str, ...]
    roots: np.ndarray
    steps: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    cover: np.ndarray
    kind: np.ndarray
    cat_start: np.ndarray
    cat_words: np.ndarray
    codes: Codes

    @property
    def trees(self) -> int:
        return len(self.roots)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Raw scores float64[n] (log odds) of matrix float64[n, d]; NaN is missing. Raises BadData when d does not fit."""
        matrix = np.ascontiguousarray(matrix, np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise BadData(f"the model reads {len(self.features)} features, the matrix has the shape {matrix.shape}")
        out = np.zeros(len(matrix), self.value.dtype)  # single precision where the library adds up so
        if len(matrix) and self.codes.fits:
            c = self.codes
            _score_coded(matrix, c.used, c.start, c.cuts, c.missing, c.nodes, self.roots, self.steps, self.value, out)
        elif len(matrix):
            _score_plain(matrix, *self._walk(), self.roots, self.value, out)
        return out.astype(np.float64, copy=False)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n, d + 1]: what each feature added to the raw score (Shapley values over the trees), and last the base value.

        Lundberg, Erion, Lee 2018 (path-dependent TreeSHAP); equals LightGBM's `pred_contrib` up to rounding.
        """
        matrix = np.ascontiguousarray(matrix, np.float64)
        out = np.zeros((len(matrix), len(self.features) + 1))
        depth = int(self.steps.max(initial=0)) + 2
        _shap(matrix, *self._walk(), self.roots, self.value.astype(np.float64), self.cover, depth, out)
        return out

    def named(self, features: tuple[str, ...]) -> Forest:
        """The same trees over columns of other names."""
        if len(features) != len(self.features):
            raise BadData(f"{len(features)} names for {len(self.features)} columns")
        return replace(self, features=features)

    def _walk(self) -> tuple[np.ndarray, ...]:
        return self.feature, self.threshold, self.left, self.right, self.kind, self.cat_start, self.cat_words


@dataclass(frozen=True, slots=True)
class Codes:
    """Rows as ranks among the thresholds of each feature: one small integer per value replaces every later comparison of doubles.

    A value's code is 1 + the number of this feature's thresholds below it, so `value <= threshold[j]` is `code <= j + 1`. A missing
    value's code is 0 (goes left everywhere) or above all others (goes right); a feature with both habits has two slots. A node is one
    word: its first child (the second one follows it), the rank of its threshold, its slot. A leaf leads to itself, whatever the code.
    """

    fits: bool
    used: np.ndarray  # int32[s]: the matrix column of each slot
    start: np.ndarray  # int32[s + 1] into cuts
    cuts: np.ndarray  # float64, ascending within a slot
    missing: np.ndarray  # int32[s]: the code of NaN; -1: NaN counts as 0
    nodes: np.ndarray  # uint64[n]: child << 32 | rank << 16 | slot


def read_forest(text: str) -> Forest:
    """A Forest from LightGBM's model text (`Booster.model_to_string()`). Raises BadData when it is no such text.

    One output a row; linear trees are refused.
    """
    head, _, rest = text.partition("\nTree=")
    fields = _fields(head)
    if "feature_names" not in fields or fields.get("num_tree_per_iteration", "1") != "1":
        raise BadData("not the text of a LightGBM model with one output")
    names = tuple(fields["feature_names"].split())
    bodies = ("Tree=" + rest).split("\n\nend of trees")[0].split("\nTree=") if rest else []
    trees = [_tree(_fields(body)) for body in bodies if body.strip()]
    return join(names, trees)


def _fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@dataclass(slots=True)
class Tree:
    """One tree: inner nodes 0..k-1, children >= 0 are inner nodes, ~leaf otherwise (LightGBM's own numbering)."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    kind: np.ndarray
    cover: np.ndarray
    leaf: np.ndarray
    leaf_cover: np.ndarray
    cats: list[np.ndarray]  # bitset words of categorical split j

    @classmethod
    def constant(cls, value: float) -> Tree:
        """One leaf: what every row begins with."""
        none = np.empty(0, np.int64)
        return cls(none, np.empty(0), none, none, none, np.empty(0), np.array([value]), np.ones(1), [])


def _tree(f: Mapping[str, str]) -> Tree:
    def numbers(name: str, kind: type) -> np.ndarray:
        return np.array([kind(x) for x in f.get(name, "").split()], np.float64 if kind is float else np.int64)

    if f.get("is_linear", "0") != "0":
        raise BadData("linear trees are not supported")
    bounds, words = numbers("cat_boundaries", int), numbers("cat_threshold", int)
    cats = [words[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    leaf = numbers("leaf_value", float)
    leaf_cover = numbers("leaf_count", float) if f.get("leaf_count") else np.zeros(len(leaf))
    return Tree(
        numbers("split_feature", int), numbers("threshold", float), numbers("left_child", int),
        numbers("right_child", int), numbers("decision_type", int), numbers("internal_count", float), leaf, leaf_cover, cats,
    )  # fmt: skip


def join(features: tuple[str, ...], trees: list[Tree]) -> Forest:
    """One Forest of many trees, nodes in breadth-first order so that the first steps of every tree lie together."""
    roots: list[int] = []
    steps: list[int] = []
    columns: list[list] = [[] for _ in range(8)]
    cat_start: list[int] = [0]
    cat_words: list[int] = []
    for tree in trees:
        roots.append(len(columns[0]))
        steps.append(_append(tree, len(columns[0]), columns, cat_start, cat_words))
    kinds = (np.int32, np.float64, np.int32, np.int32, np.float64, np.float64, np.int8, np.int8)
    feature, threshold, left, right, value, cover, kind, is_leaf = (
        np.array(c, k) for c, k in zip(columns, kinds, strict=True)
    )
    walk = (
        feature,
        threshold,
        left,
        right,
        value,
        cover,
        kind,
        np.array(cat_start, np.int32),
        np.array(cat_words, np.uint32),
    )
    codes = _codes(len(features), feature, threshold, left, kind, is_leaf.astype(bool))
    return Forest(features, np.array(roots, np.int32), np.array(steps, np.int32), *walk, codes)


def _append(tree: Tree, base: int, columns: list[list], cat_start: list[int], cat_words: list[int]) -> int:
    """Add a tree's nodes to the columns; returns its depth."""
    order, depth = [(0 if len(tree.feature) else -1, 0)], 0
    place: dict[int, int] = {}
    for i, (node, level) in enumerate(order):  # grows while it is walked
        place[node] = base + i
        depth = max(depth, level)
        if node >= 0:
            order += [(int(tree.left[node]), level + 1), (int(tree.right[node]), level + 1)]
    for node, _ in order:
        me = place[node]
        if node < 0:
            leaf = ~node
            row = (0, np.inf, me, me, tree.leaf[leaf], tree.leaf_cover[leaf], 0, 1)
        else:
            threshold = tree.threshold[node]
            if tree.kind[node] & _CATEGORICAL:
                cat_words.extend(tree.cats[int(threshold)].tolist())
                threshold = float(len(cat_start) - 1)
                cat_start.append(len(cat_words))
            children = place[int(tree.left[node])], place[int(tree.right[node])]
            row = (tree.feature[node], threshold, *children, 0.0, tree.cover[node], tree.kind[node], 0)
        for column, item in zip(columns, row, strict=True):
            column.append(item)
    return depth


def _codes(d: int, feature, threshold, left, kind, is_leaf) -> Codes:
    """The integer form, when every split compares numbers and takes NaN (or nothing) as missing."""
    inner = ~is_leaf
    how_missing = (kind >> 2) & 3
    fits = not np.any(inner & ((kind & _CATEGORICAL) != 0)) and not np.any(inner & (how_missing == _MISSING_ZERO))
    rank, slot = np.full(len(feature), _NEVER, np.uint64), np.zeros(len(feature), np.uint64)
    way = np.where(how_missing != _MISSING_NAN, 0, np.where(kind & _DEFAULT_LEFT, 1, 2))
    used: list[int] = []
    start: list[int] = [0]
    cuts: list[float] = []
    missing: list[int] = []
    for column, how in product(range(d), range(3)) if fits else ():
        here = np.flatnonzero(inner & (feature == column) & (way == how))
        if not len(here):
            continue
        found = np.unique(threshold[here])
        slot[here], rank[here] = len(used), np.searchsorted(found, threshold[here]) + 1
        used.append(column)
        cuts.extend(found.tolist())
        start.append(len(cuts))
        missing.append((-1, 0, len(found) + 1)[how])
        fits = len(found) < _NEVER - 1 and len(used) < _NEVER
    nodes = (left.astype(np.uint64) << np.uint64(32)) | (rank << np.uint64(16)) | slot
    slots, bounds, gone = (np.array(x, np.int32) for x in (used, start, missing))
    return Codes(fits, slots, bounds, np.array(cuts, np.float64), gone, nodes)


# --- kernels ------------------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _code(matrix, first, rows, used, start, cuts, missing, codes):
    """The codes of a block of rows, uint16[rows * slots]."""
    slots = len(used)
    for s in range(slots):
        column, low, many, gone = used[s], _U(start[s]), _U(start[s + 1] - start[s]), missing[s]
        for r in range(rows):
            x = matrix[first + r, column]
            if np.isnan(x):
                if gone >= 0:
                    codes[r * slots + s] = gone
                    continue
                x = 0.0
            at, size = low, many
            while size > _U(1):  # no branch: the position moves by half, or by nothing
                half = size >> _U(1)
                at += half * _U(cuts[at + half - _U(1)] < x)
                size -= half
            codes[r * slots + s] = at - low + _U(1) + _U(cuts[at] < x)


@njit(cache=True, nogil=True)
def _score_coded(matrix, used, start, cuts, missing, nodes, roots, steps, value, out):
    """Eight rows walk down a tree side by side; each sums its leaves in the order of the trees."""
    n, slots = len(matrix), len(used)
    width = _U(slots)
    codes = np.empty(BLOCK * slots, np.uint16)
    for first in range(0, n, BLOCK):
        rows = min(BLOCK, n - first)
        _code(matrix, first, rows, used, start, cuts, missing, codes)
        for t in range(len(roots)):
            root, depth = _U(roots[t]), steps[t]
            for r in range(0, rows - 7, 8):
                a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = root
                o0 = _U(r) * width
                o1 = o0 + width
                o2 = o1 + width
                o3 = o2 + width
                o4 = o3 + width
                o5 = o4 + width
                o6 = o5 + width
                o7 = o6 + width
                for _ in range(depth):
                    q0 = nodes[a0]
                    q1 = nodes[a1]
                    q2 = nodes[a2]
                    q3 = nodes[a3]
                    q4 = nodes[a4]
                    q5 = nodes[a5]
                    q6 = nodes[a6]
                    q7 = nodes[a7]
                    a0 = (q0 >> _U(32)) + _U(codes[o0 + (q0 & _LOW)] > ((q0 >> _U(16)) & _LOW))
                    a1 = (q1 >> _U(32)) + _U(codes[o1 + (q1 & _LOW)] > ((q1 >> _U(16)) & _LOW))
                    a2 = (q2 >> _U(32)) + _U(codes[o2 + (q2 & _LOW)] > ((q2 >> _U(16)) & _LOW))
                    a3 = (q3 >> _U(32)) + _U(codes[o3 + (q3 & _LOW)] > ((q3 >> _U(16)) & _LOW))
                    a4 = (q4 >> _U(32)) + _U(codes[o4 + (q4 & _LOW)] > ((q4 >> _U(16)) & _LOW))
                    a5 = (q5 >> _U(32)) + _U(codes[o5 + (q5 & _LOW)] > ((q5 >> _U(16)) & _LOW))
                    a6 = (q6 >> _U(32)) + _U(codes[o6 + (q6 & _LOW)] > ((q6 >> _U(16)) & _LOW))
                    a7 = (q7 >> _U(32)) + _U(codes[o7 + (q7 & _LOW)] > ((q7 >> _U(16)) & _LOW))
                at = first + r
                out[at + 0] += value[a0]
                out[at + 1] += value[a1]
                out[at + 2] += value[a2]
                out[at + 3] += value[a3]
                out[at + 4] += value[a4]
                out[at + 5] += value[a5]
                out[at + 6] += value[a6]
                out[at + 7] += value[a7]
            for r in range(rows - rows % 8, rows):
                a, o = root, _U(r) * width
                for _ in range(depth):
                    q = nodes[a]
                    a = (q >> _U(32)) + _U(codes[o + (q & _LOW)] > ((q >> _U(16)) & _LOW))
                out[first + r] += value[a]


@njit(cache=True, nogil=True)
def _goes_left(x, threshold, kind, cat_start, cat_words):
    """LightGBM's decision at one node."""
    missing = (kind >> 2) & 3
    if kind & _CATEGORICAL:
        if np.isnan(x) or x < 0 or x >= 2147483648.0:
            return False
        category, at = int(x), int(threshold)
        word = cat_start[at] + category // 32
        return word < cat_start[at + 1] and (cat_words[word] >> np.uint32(category % 32)) & np.uint32(1) == 1
    if np.isnan(x) and missing != _MISSING_NAN:
        x = 0.0
    if (missing == _MISSING_ZERO and abs(x) <= _ZERO) or (missing == _MISSING_NAN and np.isnan(x)):
        return kind & _DEFAULT_LEFT != 0
    return x <= threshold


@njit(cache=True, nogil=True)
def _score_plain(matrix, feature, threshold, left, right, kind, cat_start, cat_words, roots, value, out):
    for t in range(len(roots)):
        for r in range(len(matrix)):
            node = roots[t]
            while left[node] != node:
                x = matrix[r, feature[node]]
                node = left[node] if _goes_left(x, threshold[node], kind[node], cat_start, cat_words) else right[node]
            out[r] += value[node]


@njit(cache=True, nogil=True)
def _extend(path, size, zero, one, index):
    """Add a split to a path: [feature, share of rows that pass without knowing it, with knowing it, weight]."""
    path[size, 0], path[size, 1], path[size, 2] = index, zero, one
    path[size, 3] = 1.0 if size == 0 else 0.0
    for i in range(size - 1, -1, -1):
        path[i + 1, 3] += one * path[i, 3] * (i + 1) / (size + 1)
        path[i, 3] = zero * path[i, 3] * (size - i) / (size + 1)


@njit(cache=True, nogil=True)
def _unwound_sum(path, size, at):
    """The sum of weights of a path of `size` + 1 elements without element `at`."""
    one, zero = path[at, 2], path[at, 1]
    after, total = path[size, 3], 0.0
    for i in range(size - 1, -1, -1):
        if one != 0:
            step = after * (size + 1) / ((i + 1) * one)
            total += step
            after = path[i, 3] - step * zero * (size - i) / (size + 1)
        else:
            total += path[i, 3] / zero * (size + 1) / (size - i)
    return total


@njit(cache=True, nogil=True)
def _unwind(path, size, at):
    one, zero = path[at, 2], path[at, 1]
    after = path[size, 3]
    for i in range(size - 1, -1, -1):
        if one != 0:
            kept = path[i, 3]
            path[i, 3] = after * (size + 1) / ((i + 1) * one)
            after = kept - path[i, 3] * zero * (size - i) / (size + 1)
        else:
            path[i, 3] = path[i, 3] * (size + 1) / (zero * (size - i))
    for i in range(at, size):
        path[i, 0], path[i, 1], path[i, 2] = path[i + 1, 0], path[i + 1, 1], path[i + 1, 2]


@njit(cache=True, nogil=True)
def _shap(matrix, feature, threshold, left, right, kind, cat_start, cat_words, roots, value, cover, depth, out):
    """TreeSHAP without recursion: a stack of nodes, and one copy of the path per level."""
    d = out.shape[1] - 1
    paths = np.empty((depth + 1, depth + 2, 4))
    node_of = np.empty(2 * depth + 2, np.int64)
    level_of = np.empty(2 * depth + 2, np.int64)
    share_of = np.empty((2 * depth + 2, 3))
    sizes = np.empty(depth + 1, np.int64)
    for r in range(len(matrix)):
        for t in range(len(roots)):
            root = roots[t]
            top = 1
            node_of[0], level_of[0] = root, 0
            share_of[0, 0], share_of[0, 1], share_of[0, 2] = 1.0, 1.0, -1.0
            while top:
                top -= 1
                node, level = node_of[top], level_of[top]
                path = paths[level]
                size = 0
                if level:
                    size = sizes[level - 1]
                    path[:size] = paths[level - 1, :size]
                zero, one, index = share_of[top, 0], share_of[top, 1], share_of[top, 2]
                for i in range(1, size):  # a feature that was asked before counts once
                    if path[i, 0] == index:
                        zero, one = zero * path[i, 1], one * path[i, 2]
                        _unwind(path, size - 1, i)
                        size -= 1
                        break
                _extend(path, size, zero, one, index)
                size += 1
                sizes[level] = size
                if left[node] == node:
                    for i in range(1, size):
                        weight = _unwound_sum(path, size - 1, i)
                        out[r, int(path[i, 0])] += weight * (path[i, 2] - path[i, 1]) * value[node]
                    continue
                x = matrix[r, feature[node]]
                hot = _goes_left(x, threshold[node], kind[node], cat_start, cat_words)
                for side in range(2):
                    child = left[node] if side == 0 else right[node]
                    node_of[top], level_of[top] = child, level + 1
                    share_of[top, 0] = cover[child] / cover[node]
                    share_of[top, 1] = 1.0 if hot == (side == 0) else 0.0
                    share_of[top, 2] = feature[node]
                    top += 1
    base = 0.0
    for t in range(len(roots)):
        base += _expected(left, right, value, cover, roots[t], depth)
    out[:, d] = base


@njit(cache=True, nogil=True)
def _expected(left, right, value, cover, root, depth):
    """The mean leaf value of a tree, weighted by what passed in training."""
    stack = np.empty(2 * depth + 2, np.int64)
    stack[0], top, total = root, 1, 0.0
    while top:
        top -= 1
        node = stack[top]
        if left[node] == node:
            total += value[node] * (cover[node] / cover[root] if cover[root] > 0 else 1.0)
        else:
            stack[top], stack[top + 1] = left[node], right[node]
            top += 2
    return total

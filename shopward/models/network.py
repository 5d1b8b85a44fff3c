"""Nodes and edges as a table: what a node is like, what its neighbours and their neighbours are like, and how it is connected.

Sums over neighbours are sparse matrix products, so a million edges take seconds. Labels of neighbours are never used: on a graph
they are the commonest way to know the future.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shopward.errors import BadData, MissingExtra
from shopward.models.table import column

MOST_PATHS = 2e7  # paths of two steps up to which triangles are counted; above, `clustering` is missing
DAMPING, ROUNDS = 0.85, 50  # PageRank (Brin & Page 1998)


def sparse() -> Any:
    try:
        import scipy.sparse as found
    except ImportError:
        raise MissingExtra("ml", "scipy") from None
    return found


def adjacency(nodes: Any, edges: Any) -> tuple[Any, list[str], list[str]]:
    """(symmetric 0/1 CSR matrix over the rows of `nodes`, node ids, notes); edges to unknown nodes and loops are left out and counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pc.cast(column(nodes, "id", "--nodes, column"), pa.string()).combine_chunks()
    if ids.null_count or len(pc.unique(ids)) < len(ids):
        raise BadData("--nodes: ids must be there and different")
    n, ends, notes = len(ids), [], []
    for name in ("src", "dst"):
        at = pc.index_in(pc.cast(column(edges, name, "--edges, column"), pa.string()).combine_chunks(), value_set=ids)
        ends.append(np.asarray(at.fill_null(-1)))
    keep = (ends[0] >= 0) & (ends[1] >= 0) & (ends[0] != ends[1])
    if not keep.all():
        notes.append(f"{int((~keep).sum()):,} edges left out: loops, or ends that are no node")
    src, dst = ends[0][keep], ends[1][keep]
    if not len(src):
        raise BadData("--edges: no edge joins two of the nodes")
    return adjacency_of(src, dst, n), ids.to_pylist(), notes


def adjacency_of(src: np.ndarray, dst: np.ndarray, n: int) -> Any:
    """Symmetric 0/1 CSR matrix [n, n] of the edges between row numbers; loops are left out."""
    keep = src != dst
    src, dst = src[keep], dst[keep]
    found = sparse().csr_matrix(
        (np.ones(2 * len(src)), (np.concatenate([src, dst]), np.concatenate([dst, src]))), shape=(n, n)
    )
    found.data[:] = 1.0
    return found


def pagerank(a: Any) -> np.ndarray:
    """float64[n], times n so that 1 is average."""
    degree = np.asarray(a.sum(axis=1)).ravel()
    step = np.divide(1.0, degree, out=np.zeros_like(degree), where=degree > 0)
    rank = np.ones(len(degree))
    for _ in range(ROUNDS):
        lost = rank[degree == 0].sum() / len(rank)
        new = (1 - DAMPING) + DAMPING * (a @ (rank * step) + lost)
        if np.abs(new - rank).max() < 1e-9:
            return new
        rank = new
    return rank


def neighbourhood(a: Any, names: list[str], x: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(names, float64[n, m]): own features, means and spread over neighbours (near and two steps away), differences, degree, PageRank,
    clustering. NaN among features counts as the column's mean for the neighbours."""
    mean = np.where(np.isnan(x).all(axis=0), 0.0, np.nanmean(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0))
    filled = np.where(np.isnan(x), mean, x)
    degree = np.asarray(a.sum(axis=1)).ravel()
    weight = np.divide(1.0, degree, out=np.zeros_like(degree), where=degree > 0)[:, None]
    near = (a @ filled) * weight
    spread = np.sqrt(np.maximum((a @ filled**2) * weight - near**2, 0))
    far = (a @ near) * weight
    rarely = weight / np.maximum(np.asarray(a @ weight), 1e-12)  # neighbours with few neighbours of their own say more
    close = (a @ (filled * weight)) / np.maximum(np.asarray(a @ weight), 1e-12)
    paths = float((degree**2).sum())
    common = np.asarray((a @ a).multiply(a).sum(axis=1)).ravel() if paths < MOST_PATHS else np.full(len(degree), np.nan)
    own = np.column_stack([
        degree, (a @ degree) * weight[:, 0], pagerank(a), rarely[:, 0],
        np.divide(common, degree * (degree - 1), out=np.zeros_like(degree), where=degree > 1),
    ])  # fmt: skip
    parts = [
        ("{}", x),
        ("near_{}", near),
        ("near_{}_spread", spread),
        ("far_{}", far),
        ("close_{}", close),
        ("{}_apart", filled - near),
    ]
    found = [form.format(n) for form, _ in parts for n in names]
    return [*found, "degree", "near_degree", "pagerank", "share_of_neighbours", "clustering"], np.column_stack(
        [*(p for _, p in parts), own]
    )

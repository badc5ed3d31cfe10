"""Eight families of random directed acyclic graphs.

A graph is (V, V) bool, edges[i, j] means X_i -> X_j with i < j. `config.GRAPH_FAMILIES` names the
families.

Contract: a function of the generator it is given and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from acbo_ref.arrays import Array


def chain(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """X0 -> X1 -> ... -> Xn-1."""
    return np.eye(n, k=1, dtype=bool)


def fork(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """X0 causes all others: two effects of a common cause look related and are no levers for each
    other.
    """
    edges = np.zeros((n, n), bool)
    edges[0, 1:] = True
    return edges


def collider(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """All others cause Xn-1."""
    edges = np.zeros((n, n), bool)
    edges[:-1, -1] = True
    return edges


def tree(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """Every variable but the first has one parent, uniformly among the earlier ones."""
    edges = np.zeros((n, n), bool)
    for j in range(1, n):
        edges[rng.integers(j), j] = True
    return edges


def layered(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """Consecutive layers of 1 to 3 variables; edges with `edge_probability` from a layer to the
    next, at least one a child.
    """
    edges = np.zeros((n, n), bool)
    previous: list[int] = []
    start = 0
    while start < n:
        layer = list(range(start, min(n, start + int(rng.integers(1, 4)))))
        for j in layer:
            if previous:
                chosen = rng.random(len(previous)) < edge_probability
                chosen[rng.integers(len(previous))] = True
                edges[np.array(previous)[chosen], j] = True
        previous, start = layer, layer[-1] + 1
    return edges


def erdos_renyi(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """Every forward edge independently with `edge_probability`."""
    return np.triu(rng.random((n, n)) < edge_probability, k=1)


def scale_free(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """Preferential attachment (Barabasi & Albert 1999): a new variable takes up to 2 parents,
    likelier those of high degree.
    """
    edges = np.zeros((n, n), bool)
    for j in range(1, n):
        degree = edges[:j].sum(axis=1) + edges[:, :j].sum(axis=0) + 1.0
        parents = rng.choice(j, size=min(2, j), replace=False, p=degree / degree.sum())
        edges[parents, j] = True
    return edges


def sparse(n: int, rng: np.random.Generator, edge_probability: float) -> Array:
    """Bounded in-degree, whatever the size: a quarter of the variables are roots, the others take 1
    to 3 parents, uniformly among the earlier ones. Real networks look like that.
    """
    edges = np.zeros((n, n), bool)
    for j in range(1, n):
        if rng.random() >= 0.25:
            edges[rng.choice(j, size=min(int(rng.integers(1, 4)), j), replace=False), j] = True
    return edges


GRAPHS: dict[str, Callable[[int, np.random.Generator, float], Array]] = {
    "chain": chain,
    "fork": fork,
    "collider": collider,
    "tree": tree,
    "layered": layered,
    "erdos_renyi": erdos_renyi,
    "scale_free": scale_free,
    "sparse": sparse,
}


def sample_graph(kind: str, num_variables: int, rng: np.random.Generator, edge_probability: float = 0.5) -> Array:
    """(V, V) bool, edges[i, j] means X_i -> X_j with i < j; never without any edge."""
    edges = GRAPHS[kind](num_variables, rng, edge_probability)
    if not edges.any():
        edges[rng.integers(num_variables - 1), -1] = True
    return edges


def ancestors(edges: Array, node: int) -> Array:
    """(V,) bool: variables with a directed path to `node`; edges must point forward."""
    found = edges[:, node].copy()
    for j in range(node - 1, -1, -1):
        if found[j]:
            found |= edges[:, j]
    return found

"""Orders of block graphs: permutations, stages, what they cost, and how they compare with others'."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from block_graphs import SHAPES, check_postorder, dense_factor, dense_symbolic, distinct, edges, grid, neighbours
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.errors import MissingDependencyError, SolverError
from sparselm.io.g2o import read_g2o
from sparselm.linear_solvers import ordering as module
from sparselm.linear_solvers.ordering import find_ordering

NAMES = ["auto", "amd", "natural", *(["metis"] if find_spec("pymetis") else [])]
needs_metis = pytest.mark.skipif(find_spec("pymetis") is None, reason="pymetis is not installed")


def check(found, pairs, sizes):
    """The order is a permutation; tree, heights and costs are those of a dense elimination.

    Where another node than the first row is the parent of a column, the rows of the column are among its rows.
    """
    n = len(sizes)
    assert found.order.dtype == found.parent.dtype == np.int32
    assert found.heights.dtype == np.int64
    assert np.array_equal(np.sort(found.order), np.arange(n))
    parent, heights = dense_symbolic(pairs, sizes, found.order)
    filled = dense_factor(pairs, found.order)
    for j in np.flatnonzero(found.parent != parent):
        assert found.name == "amd" and j < found.parent[j] < parent[j]
        assert filled[filled[:, j] & (np.arange(n) > j), found.parent[j]].all()
    assert np.array_equal(found.heights, heights)
    k, h = sizes[found.order].astype(float), heights
    assert found.nonzeros == (k * (k + 1) / 2 + k * h).sum()
    assert found.flops == pytest.approx((k**3 / 3 + k * k * h + k * h * h).sum())


@settings(max_examples=150, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 30),
    choice=st.sampled_from([*NAMES, "given"]),
    stages=st.sampled_from([None, "mask", "many"]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="nothing", n=0, choice="auto", stages="mask", seed=0)
@example(shape="nothing", n=0, choice="given", stages=None, seed=0)
@example(shape="nothing", n=5, choice=NAMES[-1], stages=None, seed=0)
def test_orders_of_small_graphs(shape, n, choice, stages, seed):
    rng = np.random.default_rng(seed)
    pairs = edges(shape, n, rng)
    sizes = rng.integers(1, 13, n).astype(np.int32)
    last = {None: None, "mask": rng.random(n) < 0.3, "many": rng.integers(-5, 5, n)}[stages]
    wanted = rng.permutation(n) if choice == "given" else choice
    graph = neighbours(pairs, n)
    found = find_ordering(*graph, sizes, wanted, last)
    check(found, pairs, sizes)
    assert choice in (found.name, "auto")
    if last is None:
        if choice in ("natural", "given"):
            assert np.array_equal(found.order, np.arange(n) if choice == "natural" else wanted)
    else:
        assert (np.diff(last[found.order].astype(int)) >= 0).all()
    again = find_ordering(*graph, sizes, wanted, last)
    assert np.array_equal(again.order, found.order)
    again = found.postordered()
    position = np.argsort(found.order)[again]
    _, heights = dense_symbolic(pairs, sizes, again)
    assert np.array_equal(heights, found.heights[position])  # the fill stays
    check_postorder(np.append(np.argsort(position), -1)[found.parent[position]])
    kept = find_ordering(*graph, sizes, found.order, last)
    assert np.array_equal(kept.order, found.order)


@pytest.mark.parametrize("choice", NAMES)
def test_long_chains(choice):
    n = 100_000
    every = np.arange(n)
    found = find_ordering(*neighbours(np.stack([every[:-1], every[1:]], axis=1), n), np.full(n, 3, np.int32), choice)
    assert np.array_equal(np.sort(found.order), every)
    assert found.nonzeros < 2 * (6 * n + 9 * n)


def test_dense_rows_are_eliminated_last():
    n = 3000
    hubs = np.stack([np.repeat([7, 8], n), np.tile(np.arange(n), 2)], axis=1)
    found = find_ordering(*neighbours(distinct(hubs), n), np.full(n, 2, np.int32), "amd")
    assert set(found.order[-2:]) == {7, 8}
    assert found.nonzeros == 3 * n + 8 * (n - 2) + 4


@needs_metis
def test_auto_takes_the_cheaper_order_where_that_pays(monkeypatch):
    n = 20**3
    graph, sizes = neighbours(grid(20, 20, 20), n), np.full(n, 6, dtype=np.int32)
    amd, metis, auto = (find_ordering(*graph, sizes, choice) for choice in ("amd", "metis", "auto"))
    assert auto.flops == min(amd.flops, metis.flops)
    assert metis.flops < amd.flops
    monkeypatch.setattr(module, "METIS_FLOPS", np.inf)
    assert find_ordering(*graph, sizes).name == "amd"


def test_without_pymetis(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    monkeypatch.setattr(module, "METIS_FLOPS", 0.0)
    graph, sizes = neighbours(grid(3, 3), 9), np.ones(9, dtype=np.int32)
    assert find_ordering(*graph, sizes).name == "amd"
    with pytest.raises(MissingDependencyError, match=r"pip install 'sparselm\[metis\]'"):
        find_ordering(*graph, sizes, "metis")


@pytest.mark.parametrize(
    ("choice", "last", "message"),
    [
        ("colamd", None, "expected auto, amd, metis, natural or an array of the 9 block numbers"),
        (np.arange(8), None, r"shape \(8,\) .* expected \(9,\)"),
        (np.linspace(0, 8, 9), None, "type float64"),
        (np.array([0, 1, 2, 3, 4, 5, 6, 7, 9]), None, "block 9 at position 8, expected numbers from 0 to 8"),
        (np.array([0, 1, 2, 3, 4, 5, 6, 7, -1]), None, "block -1 at position 8"),
        (np.array([0, 1, 2, 3, 3, 5, 6, 7, 8]), None, "block 3 2 times and lacks block 4"),
        ("amd", np.zeros(4, dtype=bool), r"last has shape \(4,\)"),
        ("amd", np.zeros(9), r"expected \(9,\) and bool or int"),
    ],
)
def test_misuse_is_told(choice, last, message):
    with pytest.raises(SolverError, match=message):
        find_ordering(*neighbours(grid(3, 3), 9), np.ones(9, dtype=np.int32), choice, last)


# -- quality ------------------------------------------------------------------------------------------------------------


def suitesparse_amd(pairs, n):
    cholmod = pytest.importorskip("sksparse.cholmod")
    ends = np.concatenate([pairs, np.repeat(np.arange(n), 2).reshape(-1, 2)])
    graph = sp.csc_matrix((np.ones(len(ends)), (ends.max(axis=1), ends.min(axis=1))), shape=(n, n))
    if hasattr(cholmod, "CholeskyFactor"):
        return np.array(cholmod.CholeskyFactor(graph, lower=True, order="amd", supernodal_mode="simplicial").perm)
    return cholmod.analyze(graph, mode="simplicial", ordering_method="amd", use_long=False).P()


def public_pose_graph(name):
    folder = os.environ.get("SPARSELM_DATA")
    path = Path(folder or "") / "g2o" / f"{name}.g2o.xz"
    if folder is None or not path.exists():
        pytest.skip("needs the public pose graphs in the folder SPARSELM_DATA")
    graph = read_g2o(path)
    return distinct(graph.edges), len(graph.ids)


def synthetic_graph(name):
    if name == "plane":
        return grid(70, 70), 4900
    if name == "space":
        return grid(15, 15, 15), 3375
    return distinct(np.random.default_rng(0).integers(0, 2000, (4000, 2))), 2000


# Ties alone make ±10 % of single graphs, ±3 % of their mean.
@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["plane", "space", "random"], synthetic_graph),
        (["intel", "M3500", "parking-garage", "sphere2500", "torus3D"], public_pose_graph),
    ],
    ids=["synthetic", "public"],
)
def test_operations_are_those_of_suitesparse_amd(names, read):
    ratios = []
    for name in names:
        pairs, n = read(name)
        graph, sizes = neighbours(pairs, n), np.full(n, 3, dtype=np.int32)
        theirs = find_ordering(*graph, sizes, suitesparse_amd(pairs, n))
        ratios.append(find_ordering(*graph, sizes, "amd").flops / theirs.flops)
    assert max(ratios) < 1.2
    assert np.exp(np.mean(np.log(ratios))) < 1.05

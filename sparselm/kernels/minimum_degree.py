"""An approximate minimum degree order of a graph whose nodes have weights.

Eliminating a node p connects all its neighbours with each other. Instead of these edges the *quotient graph* keeps one
*element* p with the list L_p of the variables that it connects; an uneliminated variable i has a list E_i of elements and
a list A_i of variables that it is connected with otherwise, so that its neighbours are A_i and all L_e, e in E_i. Always
next is a variable of least approximate external degree

    d_i = min( w_left − w_i,  d_i before + w(L_p \\ i),  w(A_i) + w(L_p \\ i) + Σ_{e in E_i \\ p} w(L_e \\ L_p) ),

w being weights, here the scalar columns of a block. Elements within L_p are absorbed by p; variables with the same lists
are *indistinguishable*, and go on as one; those with no neighbours outside L_p are eliminated with p. Nodes with very many
neighbours (*dense rows*) are left out and eliminated last.

Where p has few neighbours and no element, edges between these take no more room than an element and a fraction of its
time: so go chains of poses, and points that few cameras see.

L_p is exact when p is eliminated, though degrees are not: tree and heights of the factor come with the order.

The graph is in one array of integers: variable i has E_i, then A_i, at ``start[i]``, and some room for edges; element e
has L_e. A new L_p that cannot take the place of A_p goes behind everything, and where there is no room left, what is alive
is moved together. The order is a function of the input.

References
----------
P. R. Amestoy, T. A. Davis, I. S. Duff, "An approximate minimum degree ordering algorithm", SIAM J. Matrix Anal. Appl.
17(4), 1996: approximate degrees, element absorption, mass elimination, hashing.
I. S. Duff, J. K. Reid, "The multifrontal solution of indefinite sparse symmetric linear equations", ACM TOMS 9(3), 1983:
quotient graphs, elements and variables in one array.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparselm._jit import inlined, serial_kernel

# A row is dense with more than so many times √n neighbours, and more than 16: the choice of AMD, the authors' code.
DENSE = 10.0

# Most neighbours of a node that is eliminated by edges, and the room for edges behind each list. With 2 to 6 and 4 to 10,
# operations on pose graphs and grids are within 3 % of those without such edges, on average; the most take the least time.
FEW, ROOM = 6, 10


class _Graph(NamedTuple):
    """The quotient graph; (n,) where nothing else is said.

    Numbers of nodes and places are unsigned, since numba has to look whether others count from the end of an array.
    """

    lists: np.ndarray  #: all of them
    spare: np.ndarray  #: as many, for moving them
    start: np.ndarray  #: of E_i and A_i, or of L_e
    length: np.ndarray  #: of both together
    limit: np.ndarray  #: end of the room for a list
    num_elements: np.ndarray  #: length of E_i
    weight: np.ndarray  #: of variables, joined ones included, negative in L_p; 0 of what is none any more
    degree: np.ndarray  #: of variables; of elements, w(L_e)
    tag: np.ndarray  #: of elements: 0 when absorbed, flag + w(L_e \ L_p) while p is eliminated
    stage: np.ndarray
    following: np.ndarray  #: circular lists of the variables of each degree d, through n + d
    preceding: np.ndarray
    above: np.ndarray  #: next of the variables that are one; of the last one, what absorbed its element; n for none
    tail: np.ndarray  #: last of the variables that are one
    bucket: np.ndarray  #: a variable of each hash, n for none
    chained: np.ndarray  #: another one of the same hash
    hash_of: np.ndarray


@inlined
def _unlink(g, i):
    """Take a variable out of the list of its degree."""
    before, behind = g.preceding[i], g.following[i]
    g.following[before] = behind
    g.preceding[behind] = before


@inlined
def _link(g, i, first):
    """Put a variable before or behind the others of its degree."""
    ends = np.uint32(g.stage.shape[0] + g.degree[i])
    before = ends if first else g.preceding[ends]
    behind = g.following[before]
    g.following[before] = i
    g.preceding[i] = before
    g.following[i] = behind
    g.preceding[behind] = i


@inlined
def _fill(g, indptr, indices, sizes, dense):
    """Lists and degrees without dense rows; returns where the lists end, the weight of all, and how many are dense."""
    n = sizes.shape[0]
    total = np.int64(0)
    num_dense = 0
    for i in range(n):
        if indptr[i + 1] - indptr[i] > dense:
            g.weight[i] = 0
            num_dense += 1
        else:
            g.weight[i] = sizes[i]
            total += sizes[i]
    free = np.int64(0)
    for i in range(n):
        g.start[i] = free
        g.degree[i] = 0
        if g.weight[i] > 0:
            for q in range(indptr[i], indptr[i + 1]):
                j = indices[q]
                if g.weight[j] > 0:
                    g.lists[free] = j
                    g.degree[i] += g.weight[j]
                    free += 1
        g.length[i] = free - g.start[i]
        free += ROOM
        g.limit[i] = free
    return free, total, num_dense


@inlined
def _compact(g, free):
    """Move the lists of what is alive to the front of the array, one after the other; returns where they end."""
    for q in range(free):
        g.spare[q] = g.lists[q]
    free = np.int64(0)
    for k in range(g.stage.shape[0]):
        i = np.uint32(k)
        if g.weight[i] == 0 and g.tag[i] == 0:
            continue
        begin = g.start[i]
        g.start[i] = free
        for q in range(begin, begin + g.length[i]):
            g.lists[free] = g.spare[q]
            free += 1
        g.limit[i] = free
    return free


@inlined
def _take_least(g, lowest):
    """A variable of least degree, out of its list, and that degree."""
    ends = np.uint32(g.stage.shape[0] + lowest)
    while g.following[ends] == ends:
        ends = np.uint32(ends + 1)
    p = g.following[ends]
    _unlink(g, p)
    return p, np.int64(ends) - g.stage.shape[0]


@inlined
def _can_be_edges(g, p):
    """Whether to eliminate p by edges; A_p becomes L_p.

    No two of its neighbours may have elements, and so have one in common that connects them already.
    """
    if g.num_elements[p] > 0 or g.length[p] > FEW:
        return False
    begin = g.start[p]
    end = begin
    with_elements = 0
    fits = True
    for q in range(begin, begin + g.length[p]):
        i = g.lists[q]
        if g.weight[i] > 0:
            g.lists[end] = i
            end = np.uint32(end + 1)
            with_elements += g.num_elements[i] > 0
            fits &= g.start[i] + g.length[i] + np.uint32(FEW - 1) <= g.limit[i]
    g.length[p] = end - begin
    return fits and with_elements <= 1


@inlined
def _connect_neighbours(g, p, left, current, newest_first, lowest):
    """Eliminate p by edges between its neighbours; returns w(L_p) and the least degree."""
    begin = g.start[p]
    end = begin + g.length[p]
    joined = np.int64(0)
    g.weight[p] = -g.weight[p]
    for s in range(begin, end):
        i = g.lists[s]
        joined += g.weight[i]
        g.weight[i] = -g.weight[i]
    for s in range(begin, end):
        i = g.lists[s]
        first = g.start[i]
        target = np.uint32(first + g.num_elements[i])
        covered = np.int64(0)
        for q in range(target, first + g.length[i]):
            j = g.lists[q]
            w = g.weight[j]
            covered -= min(w, 0)
            g.lists[target] = j
            target = np.uint32(target + (w > 0))
        for q in range(begin, end):
            g.lists[target] = g.lists[q]
            target = np.uint32(target + (g.lists[q] != i))
        g.length[i] = target - first
        own = -g.weight[i]
        degree = min(g.degree[i] + joined - own - covered, left - own)
        if g.stage[i] == current:
            _unlink(g, i)
            g.degree[i] = degree
            _link(g, i, newest_first or end - begin > 2)
            lowest = min(lowest, degree)
        g.degree[i] = degree
    for s in range(begin, end):
        i = g.lists[s]
        g.weight[i] = -g.weight[i]
    g.weight[p] = 0
    g.tag[p] = 1  # for what is alive: L_p tells the parent in the end
    return joined, lowest


@inlined
def _collect(g, begin, end, target):
    """Write those in a list that are not yet in L_p to ``target``; returns where they end."""
    for q in range(begin, end):
        i = g.lists[q]
        w = g.weight[i]
        g.weight[i] = min(w, -w)
        g.lists[target] = i
        target = np.uint32(target + (w > 0))
    return target


@inlined
def _form_element(g, p, free):
    """L_p over A_p or behind everything, where the elements in E_p are absorbed; returns its ends and the new ``free``."""
    if g.num_elements[p] > 0:
        needed = np.int64(g.length[p]) - g.num_elements[p]
        for q in range(g.start[p], g.start[p] + g.num_elements[p]):
            needed += g.length[g.lists[q]]
        if free + min(needed, g.stage.shape[0]) > g.lists.shape[0]:
            free = _compact(g, free)
    g.weight[p] = -g.weight[p]
    first = g.start[p]
    begin = np.uint32(first if g.num_elements[p] == 0 else free)
    end = begin
    for q in range(first, first + g.num_elements[p]):
        e = g.lists[q]
        _absorb(g, e, p)
        end = _collect(g, g.start[e], g.start[e] + g.length[e], end)
    end = _collect(g, first + g.num_elements[p], first + g.length[p], end)
    return begin, end, free


@inlined
def _absorb(g, e, p):
    """Element e is within p."""
    g.tag[e] = 0
    g.above[g.tail[e]] = p


@inlined
def _join(g, j, i):
    """Variable j goes right after i, and all that i stands for."""
    g.weight[j] = 0
    g.tag[j] = 0
    g.length[j] = 0
    g.above[g.tail[i]] = j
    g.tail[i] = g.tail[j]


@inlined
def _measure_elements(g, begin, end, flag, current):
    r"""w(L_e \ L_p) of all elements e that variables in L_p are in; the variables leave the lists of their degrees."""
    for s in range(begin, end):
        i = g.lists[s]
        if g.stage[i] == current:
            _unlink(g, i)
        for q in range(g.start[i], g.start[i] + g.num_elements[i]):
            e = g.lists[q]
            t, fresh = g.tag[e], g.degree[e] + flag
            if t != 0:
                g.tag[e] = (t if t >= flag else fresh) + g.weight[i]


@inlined
def _shorten_lists(g, p, begin, end, flag, current):
    """E_i and A_i without what p absorbed or covers, p in front, and degrees outside L_p.

    Variables with no neighbour but p are joined to it. Returns w(L_p), and whether two variables have one hash.
    """
    joined = np.int64(0)
    alike = False
    mask = g.bucket.shape[0] - 1
    for s in range(begin, end):
        i = g.lists[s]
        first = g.start[i]
        variables = first + g.num_elements[i]
        outside = np.int64(0)
        hashed = np.int64(0)
        target = first
        # Without branches, whose outcome nobody could predict.
        for q in range(first, variables):
            e = g.lists[q]
            rest = g.tag[e] - flag
            if rest == 0:
                _absorb(g, e, p)
            outside += max(rest, 0)
            hashed += np.int64(e) if rest > 0 else 0
            g.lists[target] = e
            target = np.uint32(target + (rest > 0))
        second = target
        for q in range(variables, first + g.length[i]):
            j = g.lists[q]
            w = g.weight[j]
            outside += max(w, 0)
            hashed += np.int64(j) if w > 0 else 0
            g.lists[target] = j
            target = np.uint32(target + (w > 0))
        # There is room: p itself, or an element that p absorbed, was in one of the lists.
        g.lists[target] = g.lists[second]
        g.lists[second] = p
        g.num_elements[i] = second - first + 1
        g.length[i] = target - first + 1
        if outside == 0 and g.stage[i] == current:
            _join(g, i, p)
        else:
            joined -= g.weight[i]
            g.degree[i] = min(g.degree[i], outside)
            h = np.uint32(hashed & mask)
            alike |= g.bucket[h] < g.stage.shape[0]
            g.hash_of[i] = h
            g.chained[i] = g.bucket[h]
            g.bucket[h] = i
    return joined, alike


@inlined
def _join_alike(g, begin, end, flag):
    """Make indistinguishable variables, found among those of one hash, one; returns the next flag."""
    none = g.stage.shape[0]
    for s in range(begin, end):
        if g.weight[g.lists[s]] == 0:
            continue
        h = g.hash_of[g.lists[s]]
        i = g.bucket[h]
        g.bucket[h] = none
        while i != none and g.chained[i] != none:
            for q in range(g.start[i] + np.uint32(1), g.start[i] + g.length[i]):  # p comes first in all lists
                g.tag[g.lists[q]] = flag
            before = i
            j = g.chained[i]
            while j != none:
                if _is_alike(g, i, j, flag):
                    g.weight[i] += g.weight[j]
                    _join(g, j, i)
                    g.chained[before] = g.chained[j]
                else:
                    before = j
                j = g.chained[j]
            flag += 1
            i = g.chained[i]
    return flag


@inlined
def _is_alike(g, i, j, flag):
    """Whether j has the lists of i, which are flagged."""
    if g.length[j] != g.length[i] or g.num_elements[j] != g.num_elements[i] or g.stage[j] != g.stage[i]:
        return False
    q, end = np.int64(g.start[j]) + 1, g.start[j] + g.length[j]
    while q < end and g.tag[g.lists[q]] == flag:
        q += 1
    return q == end


@inlined
def _number(g, p, joined, sizes, step, order, heights):
    """Positions of p and of what it stands for: each is a row below those before it; returns the next position."""
    none = g.stage.shape[0]
    height = joined
    i = g.above[p]
    while i != none:
        height += sizes[i]
        i = g.above[i]
    i = p
    while True:
        order[step] = i
        heights[step] = height
        step += 1
        i = g.above[i]
        if i == none:
            return step
        height -= sizes[i]


@inlined
def _finish_element(g, p, begin, end, joined, left, current, newest_first, lowest):
    """Degrees of the variables in L_p, which keeps those that still are some; returns its end, and the least degree."""
    none = g.stage.shape[0]
    target = begin
    for s in range(begin, end):
        i = g.lists[s]
        g.bucket[g.hash_of[i]] = none
        own = -g.weight[i]
        if own == 0:
            continue
        g.weight[i] = own
        g.degree[i] = min(g.degree[i] + joined - own, left - own)
        g.lists[target] = i
        target = np.uint32(target + 1)
        if g.stage[i] == current:
            _link(g, i, newest_first)
            lowest = min(lowest, g.degree[i])
    g.start[p] = begin
    g.length[p] = target - begin
    g.weight[p] = 0
    g.degree[p] = joined
    g.tag[p] = target > begin
    return target, lowest


@inlined
def _eliminate(g, indptr, indices, sizes, newest_first, order, heights):
    """All but dense rows, which stand at the end of their stages; returns how many these are."""
    n = sizes.shape[0]
    dense = max(16, int(DENSE * np.sqrt(n)))
    free, left, num_dense = _fill(g, indptr, indices, sizes, dense)
    apart = left + 1
    flag = np.int64(2)
    num_stages = 0
    for i in range(n):
        num_stages = max(num_stages, g.stage[i] + 1)
    step = 0
    for current in range(num_stages):
        left_after = left
        for k in range(n):
            i = n - 1 - k if newest_first else k
            if g.weight[i] > 0 and g.stage[i] == current:
                left_after -= g.weight[i]
                _link(g, i, True)
        lowest = np.int64(0)
        while left > left_after:
            p, lowest = _take_least(g, lowest)
            if _can_be_edges(g, p):
                left -= g.weight[p]
                joined, lowest = _connect_neighbours(g, p, left, current, newest_first, lowest)
                step = _number(g, p, joined, sizes, step, order, heights)
                continue
            begin, end, free = _form_element(g, p, free)
            _measure_elements(g, begin, end, flag, current)
            joined, alike = _shorten_lists(g, p, begin, end, flag, current)
            flag += apart
            if alike:
                flag = _join_alike(g, begin, end, flag)
            first = step
            step = _number(g, p, joined, sizes, step, order, heights)
            left -= heights[first] + sizes[p] - joined
            target, lowest = _finish_element(g, p, begin, end, joined, left, current, newest_first, lowest)
            if begin == free:
                free = np.int64(target)
        if num_dense > 0:
            for i in range(n):
                if g.stage[i] == current and indptr[i + 1] - indptr[i] > dense:
                    order[step] = i
                    step += 1
    return num_dense


@inlined
def _find_parents(g, order, position, parent):
    """What absorbed a node, or, where edges were made, the first of its neighbours."""
    n = order.shape[0]
    for k in range(n):
        position[order[k]] = k
    position[n] = -1
    for k in range(n):
        i = np.uint32(order[k])
        parent[k] = position[g.above[i]]
        if g.above[i] == n and g.length[i] > 0:
            first = n
            for q in range(g.start[i], g.start[i] + g.length[i]):
                first = min(first, position[g.lists[q]])
            parent[k] = first


@serial_kernel
def minimum_degree(indptr, indices, sizes, stage, newest_first, order, parent, heights):
    """Write an approximate minimum degree order, and the tree and the heights of its factor; tell whether these are known.

    They are not where there are dense rows: ``parent`` and ``heights`` then say nothing.

    ``order[k]`` is the node eliminated in step k. It is an elimination order and not a postorder; indistinguishable nodes
    follow one another, and dense rows come last in their stage.

    Parameters
    ----------
    indptr, indices : (n + 1,) int64, (nnz,) int32
        Neighbours of each node: both triangles, no diagonal, none twice.
    sizes : (n,) int32
        Weight of each node, at least 1.
    stage : (n,) int32
        All nodes of a stage are eliminated before those of a higher one; stages are numbered from 0.
    newest_first : bool
        Of variables of the same degree take the one whose degree was determined last, in the beginning that of the
        least number, and not the one whose degree was determined first, in the beginning that of the greatest. Of more
        than two neighbours of a node that was eliminated by edges, the last go first either way.
    order : (n,) int32
        Output.
    parent : (n,) int32
        Output: ``parent[k] > k``, or −1; the rows of the factor's column k below ``parent[k]`` are rows of that column, too.
        It is the first row itself, as in the elimination tree, except where an element was absorbed by a node that is
        none of its variables.
    heights : (n,) int64
        Output: weight of the rows below the diagonal in column k of the factor.

    Notes
    -----
    Ties matter: operations of single graphs differ by 10 %, either way, between one rule and another, and are a third
    less on regular graphs where the oldest go first, since these are then eliminated in rounds, all over the graph, as by
    multiple elimination (J. W. H. Liu, "Modification of the minimum-degree algorithm by multiple elimination", ACM TOMS
    11(2), 1985). On the average of pose graphs, grids and others oldest first is as good as newest first, and further from
    the worst.
    """
    n = sizes.shape[0]
    total = np.int64(0)
    for i in range(n):
        total += sizes[i]
    hashes = 1
    while hashes < n:
        hashes *= 2
    size = indices.shape[0] + indices.shape[0] // 4 + (ROOM + 1) * n + 2  # one is written to, and not used
    g = _Graph(
        lists=np.empty(size, np.uint32),
        spare=np.empty(size, np.uint32),
        start=np.empty(n, np.uint32),
        length=np.empty(n, np.uint32),
        limit=np.empty(n, np.uint32),
        num_elements=np.zeros(n, np.uint32),
        weight=np.empty(n, np.int32),
        degree=np.empty(n, np.int32),
        tag=np.zeros(n, np.int64),
        stage=stage,
        following=np.empty(n + total + 1, np.uint32),
        preceding=np.empty(n + total + 1, np.uint32),
        above=np.full(n, n, np.uint32),
        tail=np.empty(n, np.uint32),
        bucket=np.full(hashes, n, np.uint32),
        chained=np.empty(n, np.uint32),
        hash_of=np.zeros(n, np.uint32),
    )
    for i in range(n):
        g.tail[i] = i
    for i in range(n + total + 1):
        g.following[i] = i
        g.preceding[i] = i
    num_dense = _eliminate(g, indptr, indices, sizes, newest_first, order, heights)
    if num_dense == 0:
        _find_parents(g, order, np.empty(n + 1, np.int32), parent)
    return num_dense == 0

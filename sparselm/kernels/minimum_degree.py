"""An approximate minimum degree order of a graph whose nodes have weights.

Eliminating a node p connects all its neighbours with each other. Instead of these edges the *quotient graph* keeps one
*element* p with the list L_p of the variables that it connects; an uneliminated variable i has a list E_i of elements and
a list A_i of variables that it is connected with otherwise, so that its neighbours are A_i and all L_e, e in E_i. Always
next is a variable of least approximate external degree

    d_i = min( w_left − w_i,  d_i before + w(L_p \\ i),  w(A_i) + w(L_p \\ i) + Σ_{e in E_i \\ p} w(L_e \\ L_p) ),

w being weights, here the scalar columns of a block. Elements within L_p are absorbed by p; variables with the same lists
are *indistinguishable*, and go on as one; those with no neighbours outside L_p are eliminated with p. Nodes with very many
neighbours (*dense rows*) are left out and eliminated last.

The graph is in one array of integers: variable i has E_i, then A_i, at ``start[i]``; element e has L_e. Lists only become
shorter; a new L_p that cannot take the place of A_p goes behind everything, and where there is no room, what is alive is
moved together. The order is a function of the input.

References
----------
P. R. Amestoy, T. A. Davis, I. S. Duff, "An approximate minimum degree ordering algorithm", SIAM J. Matrix Anal. Appl.
17(4), 1996: approximate degrees, element absorption, mass elimination, hashing.
I. S. Duff, J. K. Reid, "The multifrontal solution of indefinite sparse symmetric linear equations", ACM TOMS 9(3), 1983:
quotient graphs, elements and variables in one array.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import scalar, serial_kernel

# A row is dense with more than so many times √n neighbours, and more than 16: the choice of AMD, the authors' code.
DENSE = 10.0


@scalar
def _compact(graph, weight, tag, start, length):
    """Move the lists of what is alive to the front of the array, one after the other; returns where they end."""
    old = graph.copy()
    free = np.int64(0)
    for i in range(start.shape[0]):
        if weight[i] == 0 and tag[i] == 0:
            continue
        begin = start[i]
        start[i] = free
        for q in range(begin, begin + length[i]):
            graph[free] = old[q]
            free += 1
    return free


@scalar
def _quotient_graph(indptr, indices, sizes, dense, weight, degree, start, length):
    """The graph without dense rows, with room for elements, and the weight of all nodes in it."""
    n = sizes.shape[0]
    total = np.int64(0)
    for i in range(n):
        if indptr[i + 1] - indptr[i] <= dense:
            weight[i] = sizes[i]
            total += weight[i]
    graph = np.empty(indices.shape[0] + indices.shape[0] // 4 + n + 1, np.int32)
    free = np.int64(0)
    for i in range(n):
        start[i] = free
        if weight[i] > 0:
            for q in range(indptr[i], indptr[i + 1]):
                j = indices[q]
                if weight[j] > 0:
                    graph[free] = j
                    degree[i] += weight[j]
                    free += 1
        length[i] = free - start[i]
    return graph, free, total


@serial_kernel
def minimum_degree(indptr, indices, sizes, stage, newest_first, order):
    """Write an approximate minimum degree order: ``order[k]`` is the node eliminated in step k.

    It is an elimination order and not a postorder; indistinguishable nodes follow one another, and dense rows come last
    in their stage.

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
        least number, and not the one whose degree was determined first, in the beginning that of the greatest.
    order : (n,) int32
        Output.

    Notes
    -----
    Ties matter: operations of single graphs differ by 10 %, either way, between one rule and another, and are a third
    less on regular graphs where the oldest go first, since these are then eliminated in rounds, all over the graph, as by
    multiple elimination (J. W. H. Liu, "Modification of the minimum-degree algorithm by multiple elimination", ACM TOMS
    11(2), 1985). On the average of pose graphs, grids and others oldest first is 3 % better than newest first.
    """
    # One long function: numba counts the references to all arrays at every call, atomically; calls of small helpers took
    # three quarters of the time.
    n = sizes.shape[0]
    dense = max(16, int(DENSE * np.sqrt(n)))
    weight = np.zeros(n, np.int64)  # of variables, joined ones included, negative in L_p; 0 of what is none any more
    degree = np.zeros(n, np.int64)  # of variables; of elements, w(L_e)
    tag = np.zeros(n, np.int64)  # of elements: 0 when absorbed, flag + w(L_e \ L_p) while p is eliminated
    start = np.empty(n, np.int64)
    length = np.empty(n, np.int32)
    num_elements = np.zeros(n, np.int32)
    graph, free, left = _quotient_graph(indptr, indices, sizes, dense, weight, degree, start, length)
    head = np.full(left + 1, -1, np.int32)  # lists of variables of one degree
    rear = np.empty(left + 1, np.int32)
    following = np.empty(n, np.int32)
    preceding = np.empty(n, np.int32)
    chained = np.empty(n, np.int32)  # next of the same hash
    hash_of = np.empty(n, np.int32)
    follower = np.full(n, -1, np.int32)  # what is joined to a variable, and goes right after it
    tail = np.arange(n).astype(np.int32)
    mask = 1
    while mask < n:
        mask *= 2
    bucket = np.full(mask, -1, np.int32)
    mask -= 1
    apart = left + 1
    flag = np.int64(2)
    num_stages = 0
    for i in range(n):
        num_stages = max(num_stages, stage[i] + 1)
    step = 0
    for current in range(num_stages):
        left_after = left
        for k in range(n):
            i = n - 1 - k if newest_first else k
            if weight[i] > 0 and stage[i] == current:
                left_after -= weight[i]
                behind = head[degree[i]]
                following[i] = behind
                preceding[i] = -1
                if behind >= 0:
                    preceding[behind] = i
                else:
                    rear[degree[i]] = i
                head[degree[i]] = i
        lowest = np.int64(0)
        while left > left_after:
            while head[lowest] < 0:
                lowest += 1
            p = head[lowest]
            head[lowest] = following[p]
            if following[p] >= 0:
                preceding[following[p]] = -1

            # L_p, written over A_p or behind everything; the elements in E_p are absorbed.
            if num_elements[p] > 0:
                needed = np.int64(length[p] - num_elements[p])
                for q in range(start[p], start[p] + num_elements[p]):
                    needed += length[graph[q]]
                if free + min(needed, n) > graph.shape[0]:
                    free = _compact(graph, weight, tag, start, length)
            weight[p] = -weight[p]
            elements_end = start[p] + num_elements[p]
            begin = start[p] if num_elements[p] == 0 else free
            end = begin
            for source in range(start[p], elements_end + 1):
                if source < elements_end:
                    e = graph[source]
                    tag[e] = 0
                    q = start[e]
                    q_end = q + length[e]
                else:
                    q = elements_end
                    q_end = start[p] + length[p]
                while q < q_end:
                    i = graph[q]
                    if weight[i] > 0:
                        weight[i] = -weight[i]
                        graph[end] = i
                        end += 1
                    q += 1

            # w(L_e \ L_p) of all elements e that variables in L_p are in.
            for s in range(begin, end):
                i = graph[s]
                own = -weight[i]
                if stage[i] == current:
                    behind = following[i]
                    before = preceding[i]
                    if behind >= 0:
                        preceding[behind] = before
                    else:
                        rear[degree[i]] = before
                    if before >= 0:
                        following[before] = behind
                    else:
                        head[degree[i]] = behind
                for q in range(start[i], start[i] + num_elements[i]):
                    e = graph[q]
                    if tag[e] >= flag:
                        tag[e] -= own
                    elif tag[e] != 0:
                        tag[e] = degree[e] + flag - own

            # E_i and A_i without what p absorbed or covers, p in front; degrees outside L_p; variables with no
            # neighbour but p are joined to it.
            joined = np.int64(0)  # w(L_p)
            for s in range(begin, end):
                i = graph[s]
                first = start[i]
                variables = first + num_elements[i]
                last = first + length[i]
                outside = np.int64(0)
                hashed = np.int64(0)
                target = first
                for q in range(first, variables):
                    e = graph[q]
                    if tag[e] > flag:
                        outside += tag[e] - flag
                        hashed += e
                        graph[target] = e
                        target += 1
                    else:
                        tag[e] = 0
                num_elements[i] = target - first + 1
                second = target
                for q in range(variables, last):
                    j = graph[q]
                    if weight[j] > 0:
                        outside += weight[j]
                        hashed += j
                        graph[target] = j
                        target += 1
                # There is room: p itself, or an element that p absorbed, was in one of the lists.
                graph[target] = graph[second]
                graph[second] = p
                length[i] = target - first + 1
                if outside == 0 and stage[i] == current:
                    weight[i] = 0
                    tag[i] = 0
                    follower[tail[p]] = i
                    tail[p] = tail[i]
                else:
                    joined -= weight[i]
                    degree[i] = min(degree[i], outside)
                    h = hashed & mask
                    hash_of[i] = h
                    chained[i] = bucket[h]
                    bucket[h] = i
            flag += apart

            # Indistinguishable variables, found among those of one hash, become one.
            for s in range(begin, end):
                if weight[graph[s]] == 0:
                    continue
                h = hash_of[graph[s]]
                i = bucket[h]
                bucket[h] = -1
                while i >= 0 and chained[i] >= 0:
                    for q in range(start[i] + 1, start[i] + length[i]):  # p comes first in all lists
                        tag[graph[q]] = flag
                    before = i
                    j = chained[i]
                    while j >= 0:
                        alike = length[j] == length[i] and num_elements[j] == num_elements[i] and stage[j] == stage[i]
                        q = start[j] + 1
                        q_end = start[j] + length[j]
                        while alike and q < q_end:
                            alike = tag[graph[q]] == flag
                            q += 1
                        if alike:
                            weight[i] += weight[j]
                            weight[j] = 0
                            tag[j] = 0
                            follower[tail[i]] = j
                            tail[i] = tail[j]
                            chained[before] = chained[j]
                        else:
                            before = j
                        j = chained[j]
                    flag += 1
                    i = chained[i]

            i = p
            while i >= 0:
                order[step] = i
                step += 1
                left -= sizes[i]
                i = follower[i]

            # Degrees; L_p without what is gone.
            target = begin
            for s in range(begin, end):
                i = graph[s]
                own = -weight[i]
                if own == 0:
                    continue
                weight[i] = own
                degree[i] = min(degree[i] + joined - own, left - own)
                graph[target] = i
                target += 1
                if stage[i] == current:
                    d = degree[i]
                    if newest_first or head[d] < 0:
                        behind = head[d]
                        before = -1
                        head[d] = i
                    else:
                        behind = -1
                        before = rear[d]
                        following[before] = i
                    following[i] = behind
                    preceding[i] = before
                    if behind >= 0:
                        preceding[behind] = i
                    else:
                        rear[d] = i
                    lowest = min(lowest, d)
            if begin == free:
                free = target
            start[p] = begin
            length[p] = target - begin
            weight[p] = 0
            degree[p] = joined
            tag[p] = 1 if target > begin else 0
        for i in range(n):
            if stage[i] == current and indptr[i + 1] - indptr[i] > dense:
                order[step] = i
                step += 1

"""Pose graphs in the text format of g2o, in the plane (SE2) or in space (SE3:QUAT), with landmarks.

Each line is a record: a tag, then ids and numbers. ``VERTEX_SE2 id x y θ`` and ``VERTEX_SE3:QUAT id x y z qx qy qz qw``
give poses, world-from-body; ``EDGE_SE2 i j …`` and ``EDGE_SE3:QUAT i j …`` measure ``X_i⁻¹ X_j`` and end with the upper
triangle of the information matrix, row by row, in the order (translation, rotation). ``VERTEX_XY``/``EDGE_SE2_XY`` and
``VERTEX_TRACKXYZ``/``EDGE_SE3_TRACKXYZ`` are landmarks and where a body saw them, in its own coordinates. ``FIX id …``
holds vertices constant. Lengths are in the (arbitrary) unit of the file, angles in radians.

References
----------
R. Kümmerle, G. Grisetti, H. Strasdat, K. Konolige, W. Burgard, "g2o: A General Framework for Graph Optimization",
ICRA 2011; the format is described on the project's wiki, https://github.com/RainerKuemmerle/g2o/wiki/File-Format.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import IO

import numpy as np

from sparselm.errors import FileWarning
from sparselm.io.g2o_checks import (
    IDENTITY,
    OFFSET,
    TAGS,
    check_offsets,
    check_roles,
    check_table,
    fixed_masks,
    normalized,
    world_dim,
)
from sparselm.io.g2o_records import Records, Table, split_records
from sparselm.io.pose_graph import Array, IdArray, Landmarks, Mask, PoseGraph, check_graph, to_problem, with_poses
from sparselm.io.spanning_tree import connected_components, first_seen_positions, spanning_tree_poses
from sparselm.io.text import PathLike, read_text, replacing

__all__ = [
    "Landmarks",
    "PoseGraph",
    "connected_components",
    "parse_g2o",
    "read_g2o",
    "spanning_tree_poses",
    "to_problem",
    "with_poses",
    "write_g2o",
]

# An eigenvalue is negative when it is so beyond this part of the largest one; Problem allows as much for rounding.
_NEGATIVE = 1e-9

# Information matrices checked, and lines formatted, at a time.
_MATRICES = 256
_LINES = 1 << 13


def read_g2o(path: PathLike) -> PoseGraph:
    """Read a pose graph.

    Blank lines and comments are skipped. Quaternions are normalised and angles wrapped into (−π, π].

    Parameters
    ----------
    path : str or path
        Plain, or compressed with bz2, gzip or xz, which is told by its content.

    Raises
    ------
    FileFormatError
        Where the file cannot be read or is malformed; one line with the file, the line and the remedy.

    Warns
    -----
    FileWarning
        Once each, with a count: lines with unknown tags, which are skipped; vertices without a line of their own, which
        are placed along a spanning tree (:func:`spanning_tree_poses`); information matrices that are not positive
        semi-definite, whose negative eigenvalues are set to 0.
    """
    return parse_g2o(path, read_text(path))


def parse_g2o(path: PathLike, text: bytes) -> PoseGraph:
    """Read a pose graph from the bytes of a file; ``path`` only names it in errors and warnings."""
    records = split_records(path, text)
    dim = world_dim(records)
    tables = vertices, edges, points, sightings = tuple(records.table(tag) for tag in TAGS[dim])
    check_offsets(records, sightings)
    for table in tables:
        check_table(path, table)
    ids = np.unique(np.concatenate([vertices.ids[:, 0], edges.ids.ravel(), sightings.ids[:, 0]]))
    point_ids = np.unique(np.concatenate([points.ids[:, 0], sightings.ids[:, 1]]))
    check_roles(path, tables, ids, point_ids)
    fixed, points_fixed = fixed_masks(records, ids, point_ids)

    width = len(IDENTITY[dim])
    graph = PoseGraph(
        ids,
        *_place(vertices.ids[:, 0], normalized(path, vertices, vertices.values), ids, IDENTITY[dim]),
        fixed,
        np.searchsorted(ids, edges.ids).astype(np.int32),
        normalized(path, edges, edges.values[:, :width]),
        _symmetric(edges.values[:, width:]),
    )
    if len(point_ids):
        landmarks = Landmarks(
            point_ids,
            *_place(points.ids[:, 0], points.values, point_ids, np.zeros(dim)),
            points_fixed,
            np.column_stack(
                [np.searchsorted(ids, sightings.ids[:, 0]), np.searchsorted(point_ids, sightings.ids[:, 1])]
            ).astype(np.int32),
            sightings.values[:, :dim],
            _symmetric(sightings.values[:, dim:]),
        )
        graph = replace(graph, landmarks=landmarks)
    _warn_unknown(path, records)
    graph = _with_semidefinite_information(path, graph, edges, sightings)
    return _completed(path, graph)


def _place(known: IdArray, values: Array, ids: IdArray, default: Array) -> tuple[Array, Mask]:
    """The value of each id, a default where there is none, and which ids have one."""
    placed, has_vertex = np.tile(default, (len(ids), 1)), np.zeros(len(ids), dtype=np.bool_)
    rows = np.searchsorted(ids, known)
    placed[rows], has_vertex[rows] = values, True
    return placed, has_vertex


def _symmetric(upper: Array) -> Array:
    """Matrices from the rows of their upper triangles."""
    d = {3: 2, 6: 3, 21: 6}[upper.shape[1]]
    rows, columns = np.triu_indices(d)
    matrices = np.empty((len(upper), d, d))
    matrices[:, rows, columns] = upper
    matrices[:, columns, rows] = upper
    return matrices


# -- corrections -------------------------------------------------------------------------------------------------------


def _with_semidefinite_information(path: PathLike, graph: PoseGraph, edges: Table, sightings: Table) -> PoseGraph:
    """Set negative eigenvalues of information matrices to 0, and say how many there were and how bad."""
    information, worst = clip_negative_eigenvalues(graph.information)
    landmarks, corrected, tables, ratios = graph.landmarks, [worst < 0], [edges], [worst]
    if landmarks is not None:
        sighting_information, worst = clip_negative_eigenvalues(landmarks.information)
        landmarks = replace(landmarks, information=sighting_information)
        corrected, tables, ratios = [*corrected, worst < 0], [*tables, sightings], [*ratios, worst]
    count = sum(int(mask.sum()) for mask in corrected)
    if not count:
        return graph
    places = [(int(t.lines[m][0]), t.tag, t.ids[m][0]) for t, m in zip(tables, corrected, strict=True) if m.any()]
    line, tag, ids = min(places, key=lambda place: place[0])
    _warn(
        path,
        f"{count} of {sum(len(table.lines) for table in tables)} information matrices are not positive semi-definite "
        f"(worst ratio of smallest to largest eigenvalue {min(float(r.min(initial=0)) for r in ratios):.3g}; "
        f"first: {tag} {ids[0]} {ids[1]} at line {line}); their negative eigenvalues were set to 0",
    )
    return replace(graph, information=information, landmarks=landmarks)


def clip_negative_eigenvalues(information: Array) -> tuple[Array, Array]:
    """The nearest positive semi-definite matrices.

    Parameters
    ----------
    information : (n, d, d) float64
        Symmetric.

    Returns
    -------
    clipped : (n, d, d) float64
        Where nothing is negative beyond rounding, the matrix as it was.
    ratio : (n,) float64
        Smallest over largest eigenvalue where the matrix was clipped, −∞ where no eigenvalue was positive; else 0.
    """
    ratio = np.zeros(len(information))
    clipped = information
    for start in range(0, len(information), _MATRICES):
        piece = information[start : start + _MATRICES]
        # Factors and eigenvalues of matrices as small or large as float64 allows must not overflow.
        size = np.abs(piece).max(axis=(1, 2))
        scaled = piece / np.where(size > 0, size, 1)[:, None, None]
        try:
            np.linalg.cholesky(scaled)  # ten times cheaper, and nearly always enough
        except np.linalg.LinAlgError:
            values, vectors = np.linalg.eigh(scaled)
        else:
            continue
        low, high = values[:, 0], values[:, -1]
        negative = np.flatnonzero(low < -_NEGATIVE * np.maximum(high, 0))
        if not len(negative):
            continue
        if clipped is information:
            clipped = information.copy()
        factor = np.sqrt(values[negative].clip(0))[:, None, :] * vectors[negative]
        clipped[start + negative] = size[negative, None, None] * (factor @ factor.transpose(0, 2, 1))
        positive = high[negative] > 0
        ratio[start + negative] = np.where(positive, low[negative] / np.where(positive, high[negative], 1), -np.inf)
    return clipped, ratio


def _completed(path: PathLike, graph: PoseGraph) -> PoseGraph:
    """Place the vertices that have no line, and say how many."""
    landmarks, missing = graph.landmarks, []
    if not graph.has_vertex.all():
        missing.append(f"{int((~graph.has_vertex).sum())} of {len(graph.ids)} poses")
        graph = replace(graph, poses=spanning_tree_poses(graph, known=graph.has_vertex))
    if landmarks is not None and not landmarks.has_vertex.all():
        missing.append(f"{int((~landmarks.has_vertex).sum())} of {len(landmarks.ids)} landmarks")
        seen = first_seen_positions(graph.poses, landmarks)
        positions = np.where(landmarks.has_vertex[:, None], landmarks.positions, seen)
        graph = replace(graph, landmarks=replace(landmarks, positions=positions))
    if missing:
        _warn(
            path,
            f"{' and '.join(missing)} have no VERTEX line; they were placed by the measurements along a breadth-first "
            "spanning tree",
        )
    return graph


def _warn_unknown(path: PathLike, records: Records) -> None:
    if records.unknown:
        tags = sorted(records.unknown, key=lambda tag: -records.unknown[tag])
        named = ", ".join(tags[:8]) + (f" and {len(tags) - 8} more" if len(tags) > 8 else "")
        _warn(path, f"{sum(records.unknown.values())} lines with unknown tags were skipped: {named}")


def _warn(path: PathLike, what: str) -> None:
    # at the caller of read_g2o, whichever function below it found something
    warnings.warn(f"{os.fspath(path)}: {what}", FileWarning, stacklevel=5)


# -- writing -----------------------------------------------------------------------------------------------------------


def write_g2o(path: PathLike, graph: PoseGraph) -> None:
    """Write a pose graph so that reading it gives the same bits.

    Every pose and landmark is written, whether or not it had a line in the file that the graph was read from. The file
    appears whole or not at all; the suffixes ``.bz2``, ``.gz`` and ``.xz`` compress.

    Raises
    ------
    ProblemError
        Where an index is out of range, ids are not ascending or a number is not finite.
    OSError
        Where the system refuses.
    """
    check_graph(graph)
    vertex, edge, point, sighting = TAGS[graph.world_dim]
    landmarks = graph.landmarks
    with replacing(path) as file:
        _write_lines(file, f"{vertex} ", graph.ids[:, None], graph.poses)
        held = graph.ids[graph.fixed]
        parameter = ""
        if landmarks is not None:
            if graph.world_dim == 3:
                file.write(f"{OFFSET} 0 0 0 0 0 0 0 1\n".encode())
                parameter = "0 "
            _write_lines(file, f"{point} ", landmarks.ids[:, None], landmarks.positions)
            held = np.concatenate([held, landmarks.ids[landmarks.fixed]])
        _write_lines(file, "FIX ", held[:, None], np.empty((len(held), 0)))
        _write_lines(file, f"{edge} ", graph.ids[graph.edges], _with_upper(graph.measured, graph.information))
        if landmarks is not None:
            ids = np.column_stack([graph.ids[landmarks.edges[:, 0]], landmarks.ids[landmarks.edges[:, 1]]])
            values = _with_upper(landmarks.measured, landmarks.information)
            _write_lines(file, f"{sighting} ", ids, values, parameter)


def _with_upper(measured: Array, information: Array) -> Array:
    rows, columns = np.triu_indices(information.shape[1])
    return np.concatenate([measured, information[:, rows, columns]], axis=1)


def _write_lines(file: IO[bytes], tag: str, ids: IdArray, values: Array, parameter: str = "") -> None:
    for start in range(0, len(ids), _LINES):
        rows = slice(start, start + _LINES)
        # repr gives the shortest decimal that reads back to the same bits
        lines = [
            f"{tag}{' '.join(map(str, names))} {parameter}{' '.join(map(repr, numbers))}\n"
            for names, numbers in zip(ids[rows].tolist(), values[rows].tolist(), strict=True)
        ]
        file.write("".join(lines).encode())

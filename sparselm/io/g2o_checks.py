"""What a g2o file may not say, although each of its lines is well-formed, and the values its lines stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sparselm.io.g2o_records import LAYOUTS, Records, Table
from sparselm.io.text import PathLike, malformed

Array = npt.NDArray[np.float64]
IdArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Tags of poses, edges between them, landmarks, edges to them; by dimension of the world.
TAGS = {
    2: ("VERTEX_SE2", "EDGE_SE2", "VERTEX_XY", "EDGE_SE2_XY"),
    3: ("VERTEX_SE3:QUAT", "EDGE_SE3:QUAT", "VERTEX_TRACKXYZ", "EDGE_SE3_TRACKXYZ"),
}
OFFSET = "PARAMS_SE3OFFSET"
IDENTITY = {2: np.zeros(3), 3: np.array([0.0, 0, 0, 0, 0, 0, 1])}


def world_dim(records: Records) -> int:
    """2 or 3, whichever the tags say; both or neither is an error."""
    first = {dim: min((records.lines[tag][0], tag) for tag in tags if tag in records.lines)
             for dim, tags in TAGS.items() if any(tag in records.lines for tag in tags)}  # fmt: skip
    if len(first) == 2:
        (earlier, one), (later, other) = sorted(first.values())
        raise malformed(
            records.path,
            later,
            f"{other} in a graph that began with {one} at line {earlier}, expected poses of one kind, SE2 or SE3; "
            "split the file",
        )
    if not first or not any(tag in records.lines for tag in TAGS[next(iter(first))][1::2]):
        tags = [tag for tag in LAYOUTS if tag.startswith("EDGE")]
        skipped = f" ({sum(records.unknown.values())} lines have unknown tags)" if records.unknown else ""
        raise malformed(
            records.path, None, f"no edges{skipped}, expected lines with {', '.join(tags)}; check the file's contents"
        )
    return next(iter(first))


def check_offsets(records: Records, sightings: Table) -> None:
    """Sensor offsets may be declared, but only the identity: the landmark is seen from the body itself."""
    offsets = records.table(OFFSET)
    check_table(records.path, offsets)
    quaternions = normalized(records.path, offsets, offsets.values)
    quaternions[quaternions[:, 6] < 0, 3:] *= -1
    moved = np.abs(quaternions - IDENTITY[3]).max(axis=1, initial=0) > 1e-12
    if moved.any():
        raise malformed(
            records.path,
            int(offsets.lines[moved][0]),
            f"{OFFSET} {offsets.ids[moved][0, 0]} is not the identity, which alone is supported; "
            "transform the landmark measurements into the body's frame",
        )
    if sightings.ids.shape[1] == 3:
        missing = ~np.isin(sightings.ids[:, 2], offsets.ids)
        if missing.any():
            number = sightings.ids[missing][0, 2]
            raise malformed(
                records.path,
                int(sightings.lines[missing][0]),
                f"{sightings.tag} uses parameter {number}, which no {OFFSET} line declares; "
                f"add '{OFFSET} {number} 0 0 0 0 0 0 1'",
            )


def check_table(path: PathLike, table: Table) -> None:
    """No two different lines for one vertex, no edge from a vertex to itself."""
    if table.tag.startswith("EDGE"):
        loops = table.ids[:, 0] == table.ids[:, 1]
        if loops.any():
            raise malformed(
                path,
                int(table.lines[loops][0]),
                f"{table.tag} joins vertex {table.ids[loops][0, 0]} to itself, expected two vertices; remove the line",
            )
        return
    order = np.argsort(table.ids[:, 0], kind="stable")
    before, after = order[:-1], order[1:]
    same = table.ids[before, 0] == table.ids[after, 0]
    conflict = same & (table.values[before] != table.values[after]).any(axis=1)
    if conflict.any():
        at = int(np.flatnonzero(conflict)[0])
        raise malformed(
            path,
            int(table.lines[after[at]]),
            f"a second {table.tag} {table.ids[after[at], 0]}, which differs from the one at line "
            f"{table.lines[before[at]]}; remove one of them",
        )


def check_roles(path: PathLike, tables: Sequence[Table], ids: IdArray, point_ids: IdArray) -> None:
    """No id may stand for a pose in one line and for a landmark in another."""
    both = np.intersect1d(ids, point_ids)
    if not len(both):
        return
    vertices, edges, points, sightings = tables
    pose_uses = ((vertices, 0), (edges, 0), (edges, 1), (sightings, 0))
    point_uses = ((points, 0), (sightings, 1))
    first = []
    for role, uses in (("a pose", pose_uses), ("a landmark", point_uses)):
        places = [(int(t.lines[t.ids[:, c] == both[0]][0]), t.tag) for t, c in uses if (t.ids[:, c] == both[0]).any()]
        first.append((*min(places), role))
    (earlier, tag, role), (later, other_tag, other_role) = sorted(first)
    raise malformed(
        path,
        later,
        f"{other_tag} takes vertex {both[0]} for {other_role}, but {tag} at line {earlier} for {role}; "
        "give one of them another id",
    )


def fixed_masks(records: Records, ids: IdArray, point_ids: IdArray) -> tuple[Mask, Mask]:
    fixed, points_fixed = np.zeros(len(ids), dtype=np.bool_), np.zeros(len(point_ids), dtype=np.bool_)
    known = {int(value): (mask, row) for values, mask in ((ids, fixed), (point_ids, points_fixed))
             for row, value in enumerate(values.tolist())} if "FIX" in records.lines else {}  # fmt: skip
    for line, held in records.id_lists("FIX"):
        for name in held:
            if name not in known:
                raise malformed(
                    records.path, line, f"FIX names vertex {name}, which no other line has; correct or remove the id"
                )
            mask, row = known[name]
            mask[row] = True
    return fixed, points_fixed


def normalized(path: PathLike, table: Table, values: Array) -> Array:
    """Poses with unit quaternions, or with angles in (−π, π]; numbers that are so already keep their bits."""
    values = values.copy()
    if values.shape[1] == 3:
        angles = values[:, 2]
        out = (angles > np.pi) | (angles <= -np.pi)
        wrapped = np.pi - np.remainder(np.pi - angles[out], 2 * np.pi)
        angles[out] = np.clip(wrapped, np.nextafter(-np.pi, 0), np.pi)
        return values
    quaternions = values[:, 3:]
    size = np.abs(quaternions).max(axis=1, initial=0)
    if (size == 0).any():
        line = int(table.lines[size == 0][0])
        what = f"{table.tag} has a zero quaternion, expected a rotation; correct or remove the line"
        raise malformed(path, line, what)
    scaled = quaternions / size[:, None]  # squares neither overflow nor vanish
    length = np.sqrt((scaled**2).sum(axis=1))
    with np.errstate(over="ignore"):
        # the rounding of a division by the norm stays below this, so that normalising twice changes nothing
        off = np.abs(length * size - 1) > 8 * np.finfo(np.float64).eps
    quaternions[off] = scaled[off] / length[off, None]
    return values

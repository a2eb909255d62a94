"""g2o files: what is read, completed and corrected, and that what is written reads back to the same bits."""

from __future__ import annotations

import lzma
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselm.errors import FileWarning, ProblemError
from sparselm.io import read
from sparselm.io.g2o import Landmarks, PoseGraph, clip_negative_eigenvalues, read_g2o, with_poses, write_g2o
from tests.io.malformed import GOOD_SE2, GOOD_SE3

LANDMARKS_3D = (
    b"PARAMS_SE3OFFSET 5 0 0 0 0 0 0 -1\n"
    b"VERTEX_TRACKXYZ 8 3 2 1\n"
    b"EDGE_SE3_TRACKXYZ 0 8 5 3 2 1 4 1 0 5 0 6\n"
    b"EDGE_SE3_TRACKXYZ 1 9 5 1 2 3 4 0 0 5 0 6\n"
)


def read_text(tmp_path: Path, content: bytes, *expected: str) -> PoseGraph:
    """Read and make sure that exactly these warnings were given, in this order."""
    path = tmp_path / "t.g2o"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = read(path)
    assert len(caught) == len(expected), [str(w.message) for w in caught]
    for warning, words in zip(caught, expected, strict=True):
        assert issubclass(warning.category, FileWarning)
        assert warning.filename == __file__
        assert str(warning.message).startswith(f"{path}: ")
        assert words in str(warning.message)
    assert isinstance(graph, PoseGraph)
    return graph


def assert_same_bits(a: PoseGraph, b: PoseGraph) -> None:
    for one, other in ((a, b), (a.landmarks, b.landmarks)):
        if one is None:
            assert other is None
            continue
        for name in ("ids", "fixed", "edges", "measured", "information"):
            assert getattr(one, name).dtype == getattr(other, name).dtype
            assert getattr(one, name).shape == getattr(other, name).shape
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert a.poses.tobytes() == b.poses.tobytes()
    if a.landmarks is not None:
        assert a.landmarks.positions.tobytes() == b.landmarks.positions.tobytes()


def test_reads_what_the_text_says(tmp_path: Path) -> None:
    graph = read_text(tmp_path, GOOD_SE2 + b"FIX 2 0\n")
    assert graph.world_dim == 2
    assert graph.ids.tolist() == [0, 1, 2]
    assert graph.poses.tolist() == [[0, 0, 0], [1, 0.5, 0.1], [2, 1, 0.2]]
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.measured[1].tolist() == [1, 0.5, 0.1]
    assert graph.information[1].tolist() == [[10, 0, 0], [0, 10, 0], [0, 0, 20]]
    assert graph.has_vertex.all()
    assert graph.fixed.tolist() == [True, False, True]
    assert graph.landmarks is None


def test_upper_triangle_goes_row_by_row(tmp_path: Path) -> None:
    upper = b" ".join(b"%d" % (100 if k in (0, 6, 11, 15, 18, 20) else k) for k in range(21))
    graph = read_text(tmp_path, b"\n".join(GOOD_SE3.splitlines()[:2]) + b"\nEDGE_SE3:QUAT 0 1 1 0 0 0 0 0 1 " + upper)
    omega = graph.information[0]
    assert omega[0].tolist() == [100, 1, 2, 3, 4, 5]
    assert omega[1].tolist() == [1, 100, 7, 8, 9, 10]
    assert omega[:, 5].tolist() == [5, 10, 14, 17, 19, 100]


def test_blank_lines_comments_and_line_ends(tmp_path: Path) -> None:
    expected = read_text(tmp_path, GOOD_SE2)
    text = b"# a graph\n\n" + GOOD_SE2.replace(b"\n", b" # noise \r\n \t \r\n")
    assert_same_bits(read_text(tmp_path, text), expected)
    assert_same_bits(read_text(tmp_path, GOOD_SE2.rstrip()), expected)


def test_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    lines = GOOD_SE2.splitlines(keepends=True)
    text = b"".join([lines[3], lines[2], lines[0], lines[4], lines[1], lines[1]])  # one vertex twice, but the same
    assert_same_bits(read_text(tmp_path, text), read_text(tmp_path, GOOD_SE2))


def test_ids_may_be_any_64_bit_integers(tmp_path: Path) -> None:
    low, high = b"-9223372036854775808", b"9223372036854775807"
    text = b"EDGE_SE2 %b %b 1 0 0 1 0 0 1 0 1\nEDGE_SE2 -3 %b 1 0 0 1 0 0 1 0 1\n" % (low, high, high)
    graph = read_text(tmp_path, text, "3 of 3 poses have no VERTEX line")
    assert graph.ids.tolist() == [-(2**63), -3, 2**63 - 1]
    assert graph.edges.tolist() == [[0, 2], [1, 2]]
    assert graph.poses[:, 0].tolist() == [0, 0, 1]


def test_angles_are_wrapped_and_quaternions_normalised(tmp_path: Path) -> None:
    text = GOOD_SE2.replace(b"2 1 0.2", b"2 1 3.141593").replace(b"1 1 0.5 0.1\n", b"1 1 0.5 -3.141592653589793\n", 1)
    graph = read_text(tmp_path, text)
    assert graph.poses[2, 2] == pytest.approx(3.141593 - 2 * np.pi, abs=1e-15)
    assert graph.poses[1, 2] == np.pi
    text = GOOD_SE3.replace(b"1 1 0 0 0 0 0 1\n", b"1 1 0 0 1e200 0 0 1e200\n").replace(b"0 0 0 1 1 ", b"0 0 3 4 1 ", 1)
    graph = read_text(tmp_path, text)
    np.testing.assert_allclose(graph.poses[1, 3:], [0.5**0.5, 0, 0, 0.5**0.5], rtol=1e-15)
    np.testing.assert_allclose(graph.measured[0, 3:], [0, 0, 0.6, 0.8], rtol=1e-15)


def test_unknown_tags_give_one_warning(tmp_path: Path) -> None:
    text = GOOD_SE2 + b"EDGE_PRIOR 1 2\nVERTEX_CAM 3\nEDGE_PRIOR 3 4\n"
    graph = read_text(tmp_path, text, "3 lines with unknown tags were skipped: 'EDGE_PRIOR', 'VERTEX_CAM'")
    assert_same_bits(graph, read_text(tmp_path, GOOD_SE2))
    many = b"".join(b"TAG%d 1\n" % k for k in range(50))
    read_text(tmp_path, GOOD_SE2 + many, "and 42 more")


def test_missing_vertices_follow_the_measurements(tmp_path: Path) -> None:
    turn = np.pi / 2
    text = GOOD_SE2.splitlines(keepends=True)[1] + (
        b"EDGE_SE2 1 2 1 0 %r 1 0 0 1 0 1\nEDGE_SE2 3 2 1 0 0 1 0 0 1 0 1\n" % turn
    )
    graph = read_text(tmp_path, text, "2 of 3 poses have no VERTEX line")
    assert graph.has_vertex.tolist() == [True, False, False]
    c, s = np.cos(0.1), np.sin(0.1)
    second = np.array([1 + c, 0.5 + s, 0.1 + turn])
    third = second - [np.cos(0.1 + turn), np.sin(0.1 + turn), 0]  # against the edge
    np.testing.assert_allclose(graph.poses[1:], [second, third], atol=1e-15)


def test_information_that_is_not_semidefinite_is_clipped(tmp_path: Path) -> None:
    bad = GOOD_SE2.replace(b"1 2 1 0.5 0.1 10 0 0 10 0 20", b"1 2 1 0.5 0.1 10 0 0 -5 0 20")
    graph = read_text(tmp_path, bad, "1 of 2 information matrices are not positive semi-definite")
    np.testing.assert_allclose(graph.information[1], np.diag([10.0, 0, 20]), atol=1e-14)
    worse = bad.replace(b"0 1 1 0.5 0.1 10 0 0 10 0 20", b"0 1 1 0.5 0.1 1 0 0 -1 0 -2")
    read_text(tmp_path, worse, "largest eigenvalue -2; first: EDGE_SE2 0 1 at line 4)")
    negative = bad.replace(b"0 1 1 0.5 0.1 10 0 0 10 0 20", b"0 1 1 0.5 0.1 -1 0 0 -1 0 -2")
    assert not read_text(tmp_path, negative, "largest eigenvalue -inf; first").information[0].any()
    # semi-definite, even zero or of extreme size, is as good as definite
    for numbers in (b"0 0 0 0 0 0", b"1 1 1 1 1 1", b"1e308 0 0 1e308 0 1e308", b"1e-310 0 0 1e-310 0 0"):
        read_text(tmp_path, GOOD_SE2.replace(b"10 0 0 10 0 20\n", numbers + b"\n", 1))


def test_clipping_many_against_each_alone() -> None:
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((700, 6, 4))
    matrices = factors @ factors.transpose(0, 2, 1)
    expected = matrices.copy()
    bad = np.sort(rng.permutation(700)[:50])
    matrices[bad] -= 0.5 * np.eye(6)
    expected[bad] = matrices[bad]
    for k in bad:
        values, vectors = np.linalg.eigh(matrices[k])
        expected[k] = vectors @ np.diag(values.clip(0)) @ vectors.T
    clipped, ratio = clip_negative_eigenvalues(matrices)
    assert np.flatnonzero(ratio).tolist() == bad.tolist()
    np.testing.assert_allclose(clipped, expected, atol=1e-12)
    good = np.setdiff1d(np.arange(700), bad)
    assert clipped[good].tobytes() == matrices[good].tobytes()
    assert not clip_negative_eigenvalues(clipped)[1].any()


def test_landmarks_in_space(tmp_path: Path) -> None:
    graph = read_text(tmp_path, GOOD_SE3 + LANDMARKS_3D, "1 of 2 landmarks have no VERTEX line")
    landmarks = graph.landmarks
    assert landmarks is not None
    assert landmarks.ids.tolist() == [8, 9]
    assert landmarks.has_vertex.tolist() == [True, False]
    assert landmarks.positions.tolist() == [[3, 2, 1], [2, 2, 3]]
    assert landmarks.edges.tolist() == [[0, 0], [1, 1]]
    assert landmarks.information[0].tolist() == [[4, 1, 0], [1, 5, 0], [0, 0, 6]]
    assert graph.ids.tolist() == [0, 1]


def test_landmarks_in_the_plane(tmp_path: Path) -> None:
    text = GOOD_SE2 + b"EDGE_SE2_XY 1 7 2 3 4 0 5\nVERTEX_XY 6 1 1\nFIX 6 0\n"
    graph = read_text(tmp_path, text, "1 of 2 landmarks have no VERTEX line")
    landmarks = graph.landmarks
    assert landmarks is not None
    assert landmarks.fixed.tolist() == [True, False]
    assert graph.fixed.tolist() == [True, False, False]
    c, s = np.cos(0.1), np.sin(0.1)
    np.testing.assert_allclose(landmarks.positions[1], [1 + 2 * c - 3 * s, 0.5 + 2 * s + 3 * c])
    assert landmarks.information[0].tolist() == [[4, 0], [0, 5]]


finite = st.floats(-1e9, 1e9)


@st.composite
def graphs(draw):
    world_dim, seed = draw(st.sampled_from([2, 3])), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    ids = np.array(sorted(draw(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=9))))
    num_landmarks, m, k = draw(st.integers(0, 2)), draw(st.integers(1, 6)), 3 * world_dim - 3
    n = len(ids) - num_landmarks

    def motions(count):
        values = np.array(draw(st.lists(finite, min_size=count * world_dim, max_size=count * world_dim)))
        turns = rng.standard_normal((count, 4)) if world_dim == 3 else rng.uniform(-np.pi, np.pi, (count, 1))
        turns = turns / np.linalg.norm(turns, axis=1, keepdims=True) if world_dim == 3 else turns
        return np.column_stack([values.reshape(count, world_dim), turns])

    def semidefinite(count, size):
        factor = rng.standard_normal((count, size, size)) * 10.0 ** rng.integers(-3, 4, (count, 1, 1))
        return factor @ factor.transpose(0, 2, 1)

    def pairs(count, first, second):
        i = rng.integers(0, first, count)
        return np.column_stack([i, (i + rng.integers(1, second, count)) % second if first == second else i])

    pose_ids, landmark_ids = np.sort(ids[num_landmarks:]), np.sort(ids[:num_landmarks])
    landmarks = None
    if num_landmarks:
        landmarks = Landmarks(
            landmark_ids,
            rng.standard_normal((num_landmarks, world_dim)),
            np.ones(num_landmarks, dtype=bool),
            rng.random(num_landmarks) < 0.3,
            np.column_stack([rng.integers(0, n, m), rng.integers(0, num_landmarks, m)]),
            rng.standard_normal((m, world_dim)),
            semidefinite(m, world_dim),
        )
    return PoseGraph(
        pose_ids,
        motions(n),
        np.ones(n, dtype=bool),
        rng.random(n) < 0.3,
        pairs(m, n, n),
        motions(m),
        semidefinite(m, k),
        landmarks,
    )


@settings(max_examples=80, deadline=None)
@given(graph=graphs())
def test_round_trip_keeps_every_bit(graph: PoseGraph, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("g2o") / "t.g2o"
    write_g2o(path, graph)
    assert_same_bits(read_g2o(path), graph)


def test_normalising_twice_changes_nothing(tmp_path: Path) -> None:
    quaternions = np.random.default_rng(0).standard_normal((2000, 4))
    lines = [f"VERTEX_SE3:QUAT {k} 0 0 0 {' '.join(map(repr, q))}\n" for k, q in enumerate(quaternions.tolist())]
    once = read_text(tmp_path, "".join(lines).encode() + GOOD_SE3.splitlines()[2])
    write_g2o(tmp_path / "again.g2o", once)
    assert_same_bits(read_g2o(tmp_path / "again.g2o"), once)


def test_compressed_result_of_an_optimisation(tmp_path: Path) -> None:
    graph = read_text(tmp_path, GOOD_SE3 + LANDMARKS_3D, "landmarks")
    poses = graph.poses.copy()
    poses[1, :3] += 0.5
    assert graph.landmarks is not None
    moved = with_poses(graph, poses, graph.landmarks.positions + 1)
    assert moved.landmarks is not None
    assert moved.landmarks.has_vertex.all()
    write_g2o(tmp_path / "t.g2o.xz", moved)
    assert (tmp_path / "t.g2o.xz").read_bytes().startswith(b"\xfd7zXZ")
    assert_same_bits(read_g2o(tmp_path / "t.g2o.xz"), moved)
    write_g2o(tmp_path / "t.g2o", moved)
    assert lzma.decompress((tmp_path / "t.g2o.xz").read_bytes()) == (tmp_path / "t.g2o").read_bytes()


def test_misuse_is_told(tmp_path: Path) -> None:
    graph = read_text(tmp_path, GOOD_SE2)
    with pytest.raises(ProblemError, match=r"poses have shape \(2, 3\), expected \(3, 3\)"):
        with_poses(graph, graph.poses[:2])
    with pytest.raises(ProblemError, match="there are no landmarks"):
        with_poses(graph, graph.poses, np.zeros((1, 2)))
    with pytest.raises(ProblemError, match="4 columns"):
        replace(graph, poses=np.zeros((3, 4)))
    wrong = {
        "ids must ascend": {"ids": graph.ids[::-1]},
        "edge 0 joins rows": {"edges": graph.edges + 2},
        "measured in row 0": {"measured": graph.measured * np.nan},
    }
    for words, change in wrong.items():
        with pytest.raises(ProblemError, match=words):
            write_g2o(tmp_path / "x", replace(graph, **change))


@pytest.mark.parametrize(
    ("name", "num_poses", "num_edges"),
    [
        ("intel", 1728, 2512),
        ("MIT", 808, 827),
        ("M3500", 3500, 5453),
        ("manhattan", 3500, 5453),
        ("sphere2500", 2500, 4949),
        ("torus3D", 5000, 9048),
        ("parking-garage", 1661, 6275),
    ],
)
def test_public_data_sets(name: str, num_poses: int, num_edges: int) -> None:
    folder = os.environ.get("SPARSELM_DATA")
    if folder is None:
        pytest.skip("SPARSELM_DATA, the folder of public data sets, is not set")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = read(Path(folder, "g2o", f"{name}.g2o.xz"))
    assert isinstance(graph, PoseGraph)
    assert (len(graph.ids), len(graph.edges)) == (num_poses, num_edges)
    assert graph.has_vertex.all() == (name != "manhattan")
    assert len(caught) == (name == "manhattan")
    assert all("3500 of 3500 poses have no VERTEX line" in str(warning.message) for warning in caught)

"""Every registered residual keeps the contract, and the check of the contract finds what breaks it."""

from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np
import pytest
from small_problems import AmbientRotation

from sparselm.errors import ProblemError
from sparselm.manifolds import SE2, SE3, SO3, Euclidean
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals import Between, BetweenUncoupled, Landmark, Prior
from sparselm.residuals.base import AbstractResidual, OperandBlocks
from sparselm.testing import check_residual

REGISTERED = [entry.load() for entry in sorted(entry_points(group="sparselm.residuals"), key=lambda entry: entry.name)]
INSTANCES = [residual for cls in REGISTERED for residual in cls.examples()]


def test_all_residuals_are_registered():
    cameras = {f"{model}Reprojection" for model in ("Pinhole", "SimpleRadial", "Radial", "OpenCV", "Fisheye", "Stereo")}
    others = {"Between", "BetweenUncoupled", "Landmark", "Prior", "SnavelyReprojection"}
    assert cameras | others <= {cls.__name__ for cls in REGISTERED}


@pytest.mark.parametrize("residual", INSTANCES, ids=repr)
def test_contract(residual):
    check_residual(residual)


@pytest.mark.parametrize("residual", INSTANCES, ids=repr)
def test_built_from_the_manifolds_of_its_operands(residual):
    assert type(residual).for_operands(residual.manifolds) == residual
    assert hash(type(residual).for_operands(residual.manifolds)) == hash(residual)


@pytest.mark.parametrize("residual", INSTANCES, ids=repr)
def test_no_blocks(residual):
    operands = [
        OperandBlocks(values, np.empty(0, np.int32), np.zeros((3, width)))
        for values, width in zip(
            residual.random_operands(np.random.default_rng(0), 3), residual.prepared_dims(), strict=True
        )
    ]
    data = [np.empty((0, *shape)) for shape in residual.data_shapes]
    width = sum(manifold.tangent_dim for manifold in residual.manifolds)
    residual.evaluate(operands, data, np.empty((0, residual.dim)))
    columns = np.arange(width, dtype=np.int32)
    residual.linearize(operands, data, columns, np.empty((0, residual.dim)), np.empty((0, residual.dim, width)))


@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
@pytest.mark.parametrize("manifolds", [(SE3(),), (SE2(), SE3()), (SO3(), SO3()), (Euclidean(3), Euclidean(3)), ()])
def test_between_refuses_other_operands(cls, manifolds):
    with pytest.raises(ProblemError, match=cls.__name__):
        cls.for_operands(manifolds)


@pytest.mark.parametrize(
    "manifolds", [(SE3(), Euclidean(2)), (SE2(), Euclidean(3)), (Euclidean(3), SE3()), (SE2(),), (SO3(), Euclidean(3))]
)
def test_landmark_refuses_other_operands(manifolds):
    with pytest.raises(ProblemError, match="Landmark"):
        Landmark.for_operands(manifolds)
    with pytest.raises(ProblemError, match="Landmark"):
        Landmark(Euclidean(3))


def test_prior_refuses_what_is_no_single_manifold():
    with pytest.raises(ProblemError, match="one operand"):
        Prior.for_operands((SE2(), SE2()))
    with pytest.raises(ProblemError, match="manifold"):
        Prior(3)


# -- the check itself --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product(AbstractResidual):
    """r = (x₁y₁ − d, x₂y₂ − d), with at most one fault."""

    fault: str = ""

    @property
    def dim(self) -> int:
        return 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (Euclidean(2), Euclidean(2))

    @property
    def data_shapes(self):
        return ((),)

    def evaluate(self, blocks, data, r):
        x, y = self._gather(blocks)
        r[:] = x * y - data[0][:, None]
        if self.fault == "evaluate differs":
            r += 1e-9
        if self.fault == "hides NaN":
            r[np.isnan(r)] = 0.0
        if self.fault == "spoils the batch" and np.isnan(r).any():
            r[:] = np.nan
        if self.fault == "overwrites values":
            blocks[0].values[0] += 1.0
        if self.fault == "evaluate depends on batch":
            r += 1e-15 * (len(r) % 2)

    def linearize(self, blocks, data, columns, r, J):
        x, y = self._gather(blocks)
        r[:] = x * y - data[0][:, None]
        full = np.zeros((len(r), 2, 4))
        for k in range(2):
            full[:, k, k], full[:, k, 2 + k] = y[:, k], x[:, k]
        if self.fault == "wrong by a tenth of a per cent":
            full[:, 1, 3] *= 1.001
        if self.fault == "wrong sign":
            full[:, 0, 0] *= -1.0
        if self.fault == "not zero":
            full[:, 0, 1] = 1e-5
        if self.fault == "depends on held" and columns[0] < 0:
            full *= 1.0 + 1e-15
        if self.fault == "depends on batch":
            full *= 1.0 + 1e-15 * (len(r) % 2)
        for k, column in enumerate(columns):
            if column >= 0 and not (self.fault == "unwritten" and k == 3):
                J[:, :, column] = full[:, :, k]

    def _gather(self, blocks):
        if self.fault == "ignores index":
            return tuple(block.values[: len(block.index)] for block in blocks)
        return tuple(block.values[block.index] for block in blocks)


def test_a_strangers_residual_passes():
    check_residual(_Product())
    check_residual(_Product(), np.random.default_rng(7), n=40)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("evaluate differs", "evaluate gives"),
        ("hides NaN", "operands are NaN is not"),
        ("spoils the batch", "spoils the other blocks"),
        ("overwrites values", "were changed"),
        ("wrong by a tenth of a per cent", r"r\[1\].*component 1 of operand 1"),
        ("wrong sign", r"r\[0\].*component 0 of operand 0"),
        ("not zero", r"r\[0\].*component 1 of operand 0"),
        ("depends on held", "columns that are left"),
        ("depends on batch", "other bits in batches"),
        ("evaluate depends on batch", "evaluate gives other bits"),
        ("unwritten", "not finite or was not written"),
        ("ignores index", "differences give|other bits"),
    ],
)
def test_check_residual_finds_faults(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_residual(_Product(fault))


def test_ambient_jacobians_and_prepared_numbers():
    check_residual(AmbientRotation())
    with pytest.raises(AssertionError, match="differences give"):
        check_residual(AmbientRotation(slope=1.4))


def test_shapes_of_the_points_are_checked():
    class Misshapen(_Product):
        def random_data(self, rng, n):
            return (rng.standard_normal((n, 1)),)

    with pytest.raises(AssertionError, match="random_data gives arrays of shapes"):
        check_residual(Misshapen())

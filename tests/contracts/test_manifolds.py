"""Every registered manifold keeps the promises of AbstractManifold."""

from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np
import pytest

from sparselm.errors import ProblemError
from sparselm.manifolds import SE2, SE3, SO2, SO3, AbstractManifold, Euclidean, Product, Sphere
from sparselm.testing import check_manifold

EXAMPLES = [
    pytest.param(example, id=f"{entry.name}-{number}")
    for entry in entry_points(group="sparselm.manifolds")
    for number, example in enumerate(entry.load().examples())
]


@pytest.mark.parametrize("manifold", EXAMPLES)
def test_contract(manifold):
    check_manifold(manifold)


@dataclass(frozen=True)
class Positive(AbstractManifold):
    """What a stranger may write: positive numbers, x ⊞ δ = x e^δ, in plain NumPy, which insists on what it is given."""

    ambient_dim = 1
    tangent_dim = 1

    def _require_contiguous(self, *arrays):
        for array in arrays:
            assert array.flags.c_contiguous
            assert array[0].size == 1

    def retract(self, x, delta, out):
        self._require_contiguous(x, delta, out)
        np.multiply(x, np.exp(delta), out=out)

    def local(self, x, y, out):
        self._require_contiguous(x, y, out)
        np.log(y / x, out=out)

    def plus_jacobian(self, x, out):
        self._require_contiguous(x, out)
        out[:, :, 0] = x

    def local_jacobian(self, x, y, out):
        self._require_contiguous(x, y, out)
        out[...] = 1.0

    def project(self, x, out):
        self._require_contiguous(x, out)
        np.maximum(x, 0.0, out=out)

    def random(self, rng, n):
        return rng.uniform(0.5, 2.0, (n, 1))


@pytest.mark.parametrize(
    "manifold",
    [Product(SO3(), Positive(), SE2()), Product(Product(Positive(), SO2()), Positive())],
    ids=["flat", "nested"],
)
def test_product_takes_strangers(manifold, monkeypatch):
    monkeypatch.setattr("sparselm.manifolds.product._CHUNK", 48)
    monkeypatch.setattr(Positive, "_require_contiguous", _allow_empty(Positive._require_contiguous))
    check_manifold(manifold)


def _allow_empty(check):
    return lambda self, *arrays: check(self, *arrays) if len(arrays[0]) else None


def test_product_equals_its_factors():
    rng = np.random.default_rng(1)
    product, factors = Product(SE3(), Euclidean(2)), (SE3(), Euclidean(2))
    x, delta = product.random(rng, 300), rng.standard_normal((300, 8))
    out = np.empty_like(x)
    product.retract(x, delta, out)
    parts = []
    for factor, point, step in zip(factors, (x[:, :7], x[:, 7:]), (delta[:, :6], delta[:, 6:]), strict=True):
        part = np.empty(point.shape)
        factor.retract(np.ascontiguousarray(point), np.ascontiguousarray(step), part)
        parts.append(part)
    np.testing.assert_array_equal(out, np.hstack(parts))


def test_sphere_at_the_poles():
    """The south pole, where the tangent basis jumps, and points a rounding error from it are points like others."""
    sphere = Sphere()
    x = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1e-9, 0.0, -1.0], [1e-200, 0.0, -1.0], [3e-17, -4e-17, -1.0]])
    delta = np.tile([0.3, -0.4], (len(x), 1))
    y, back, jacobian = np.empty_like(x), np.empty_like(delta), np.empty((len(x), 3, 2))
    sphere.retract(x, delta, y)
    sphere.local(x, y, back)
    sphere.plus_jacobian(x, jacobian)
    np.testing.assert_allclose(back, delta, rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1.0, rtol=0, atol=4e-16)
    np.testing.assert_allclose(np.arccos(np.sum(x * y, axis=1)), 0.5, rtol=0, atol=1e-15)
    np.testing.assert_allclose(jacobian.transpose(0, 2, 1) @ jacobian, np.tile(np.eye(2), (len(x), 1, 1)), atol=1e-15)


def test_sphere_between_antipodes():
    x = Sphere().random(np.random.default_rng(2), 20)
    out, y = np.empty((20, 2)), np.empty_like(x)
    Sphere().local(x, -x, out)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), np.pi, rtol=1e-15)
    Sphere().retract(x, out, y)
    np.testing.assert_allclose(y, -x, rtol=0, atol=1e-15)


def test_nothing_to_normalise_is_nan():
    for manifold in (SO3(), SE3(), Sphere()):
        out = np.empty((1, manifold.ambient_dim))
        manifold.project(np.zeros_like(out), out)
        assert np.isnan(out).any()


def test_equality_and_names():
    assert SE3() == SE3()
    assert SE3() != SO3()
    assert Euclidean(3) != Euclidean(2)
    assert Product(Euclidean(3), SO3()) == Product(Euclidean(3), SO3())
    assert Product(Euclidean(3), SO3()) != Product(SO3(), Euclidean(3))
    assert len({Sphere(), Sphere(2), Sphere(3)}) == 2
    assert repr(Product(Euclidean(3), SO3())) == "Product(Euclidean(dim=3), SO3())"


def test_misuse():
    with pytest.raises(ProblemError, match="at least 1"):
        Euclidean(0)
    with pytest.raises(ProblemError, match="at least 1"):
        Sphere(0)
    with pytest.raises(ProblemError, match="at least one"):
        Product()
    with pytest.raises(TypeError, match="SO3"):
        Product(Euclidean(3), SO3)


class _Broken(AbstractManifold):
    """An angle with one method replaced."""

    ambient_dim = 1
    tangent_dim = 1

    def __init__(self, **methods):
        for name in ("retract", "local", "plus_jacobian", "local_jacobian", "project", "random"):
            setattr(self, name, methods.get(name, getattr(SO2(), name)))

    def __eq__(self, other):
        return isinstance(other, _Broken)

    __hash__ = None

    retract = local = plus_jacobian = local_jacobian = project = random = None


def _unwrapped(x, y, out):
    np.subtract(y, x, out=out)


def _too_long(x, y, out):
    SO2().local(x, y, out)
    out *= 1.0 + 1e-10


def _doubled(x, out):
    out[...] = 2.0


def _slipping(x, out):
    np.multiply(x, 1.0 + 1e-9, out=out)


def _swallowing(x, delta, out):
    SO2().retract(x, np.nan_to_num(delta), out)


def _constant_jacobian(x, y, out):
    out[...] = 1.001


def _unwritten(x, out):
    pass


@pytest.mark.parametrize(
    ("methods", "complaint"),
    [
        ({"local": _unwrapped}, "local"),
        ({"local": _too_long}, "x ⊞ local"),
        ({"plus_jacobian": _doubled}, "plus_jacobian"),
        ({"plus_jacobian": _unwritten}, "plus_jacobian"),
        ({"local_jacobian": _constant_jacobian}, "local_jacobian"),
        ({"project": _slipping}, "project"),
        ({"retract": _swallowing}, "NaN"),
    ],
)
def test_check_finds_what_is_wrong(methods, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_manifold(_Broken(**methods))

"""What the user states: variables, residual groups, weights and losses. Data only; it never solves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparselm.bounds import check_box
from sparselm.errors import ProblemError
from sparselm.losses.base import AbstractLoss
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals.base import AbstractResidual, UnboundResidual
from sparselm.variables import Selection, Variables

if TYPE_CHECKING:
    from sparselm.result import Result

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexLike = npt.ArrayLike


def _for_all_blocks(selections: tuple[Selection, ...], data_lengths: list[int]) -> tuple[Selection, ...]:
    """Operands of which one of a single row is repeated for every block of the others, or of the data."""
    num_blocks = max([len(selection.index) for selection in selections] + data_lengths)
    return tuple(
        Selection(selection.variables, np.full(num_blocks, selection.index[0], dtype=np.int32))
        if len(selection.index) == 1 < num_blocks
        else selection
        for selection in selections
    )


class ResidualGroup:
    """Residual blocks of one kind. Made by :meth:`Problem.add_residuals`; data, weights and loss may change later."""

    def __init__(
        self,
        name: str,
        residual: AbstractResidual,
        operands: tuple[Selection, ...],
        data: Any,
        loss: AbstractLoss | None,
        information: npt.ArrayLike | None,
        sqrt_information: npt.ArrayLike | None,
    ) -> None:
        self.name = name
        self.residual = residual
        self.operands = operands
        self._check_operands()
        self._loss: AbstractLoss | None = None
        self.loss = loss
        self.sqrt_information: Array | None = None
        self.set_data(data)
        self.set_weight(information=information, sqrt_information=sqrt_information)

    @property
    def num_blocks(self) -> int:
        return len(self.operands[0].index)

    @property
    def loss(self) -> AbstractLoss | None:
        """Robust loss of each block; None for ρ(s) = s."""
        return self._loss

    @loss.setter
    def loss(self, loss: AbstractLoss | None) -> None:
        if loss is not None and not isinstance(loss, AbstractLoss):
            raise ProblemError(
                f"residual group {self.name!r}: loss must be an instance such as slm.Huber(1.0), got {loss!r}"
            )
        self._loss = loss

    def _check_operands(self) -> None:
        expected = self.residual.manifolds
        if len(self.operands) != len(expected):
            raise ProblemError(
                f"residual group {self.name!r}: {len(self.operands)} operands, {type(self.residual).__name__} takes "
                f"{len(expected)}"
            )
        for position, (operand, manifold) in enumerate(zip(self.operands, expected, strict=True)):
            given = operand.variables.manifold
            fits = given.ambient_dim == manifold.ambient_dim if self.residual.ambient_jacobian else given == manifold
            if not fits:
                raise ProblemError(
                    f"residual group {self.name!r}: operand {position} is on {given!r}, expected {manifold!r}; give "
                    f"add_variables({operand.variables.name!r}, …, manifold={manifold!r})"
                )
            if len(operand.index) != self.num_blocks:
                raise ProblemError(
                    f"residual group {self.name!r}: operand {position} selects {len(operand.index)} rows, operand 0 "
                    f"{self.num_blocks}; each must select one row per block, as in "
                    f"{operand.variables.name}[index]"
                )

    def set_data(self, data: Any) -> None:
        """Give the blocks' measurements: an array ``(n, …)``, a tuple of them, or None. Float64 C arrays are not copied."""
        arrays = () if data is None else data if isinstance(data, tuple) else (data,)
        shapes = self.residual.data_shapes
        if len(arrays) != len(shapes):
            raise ProblemError(f"residual group {self.name!r}: {len(arrays)} data arrays, expected {len(shapes)}")
        checked = []
        for array, shape in zip(arrays, shapes, strict=True):
            converted = np.ascontiguousarray(array, dtype=np.float64)
            if converted.shape != (self.num_blocks, *shape):
                raise ProblemError(
                    f"residual group {self.name!r}: data has shape {converted.shape}, expected "
                    f"{(self.num_blocks, *shape)} = (n, {', '.join(map(str, shape))})"
                )
            checked.append(converted)
        self.data: tuple[Array, ...] = tuple(checked)

    def set_weight(
        self, *, information: npt.ArrayLike | None = None, sqrt_information: npt.ArrayLike | None = None
    ) -> None:
        """Weigh the blocks by Ω, or by W with Ω = WᵀW, so that r is whitened to W r; neither takes the weight off.

        A number, ``(n,)`` numbers, one matrix ``(dim, dim)``, or a matrix for each block ``(n, dim, dim)``.
        """
        if information is not None and sqrt_information is not None:
            raise ProblemError(f"residual group {self.name!r}: give information= or sqrt_information=, not both")
        if information is not None:
            self.sqrt_information = _square_root(self._check_weight(information, "information"), self.name)
        elif sqrt_information is not None:
            self.sqrt_information = self._check_weight(sqrt_information, "sqrt_information")
        else:
            self.sqrt_information = None

    def _check_weight(self, weight: npt.ArrayLike, what: str) -> Array:
        """Bring a weight to ``(n | 1, dim | 1, dim | 1)``."""
        n, dim = self.num_blocks, self.residual.dim
        array = np.asarray(weight, dtype=np.float64, order="C")
        allowed: dict[tuple[int, ...], tuple[int, ...]] = {
            (n,): (n, 1, 1), (): (1, 1, 1), (dim, dim): (1, dim, dim), (n, dim, dim): (n, dim, dim)
        }  # fmt: skip
        if array.shape not in allowed:
            raise ProblemError(
                f"residual group {self.name!r}: {what} has shape {array.shape}, expected (), ({n},), ({dim}, {dim}) or "
                f"({n}, {dim}, {dim})"
            )
        array = array.reshape(allowed[array.shape])
        if not np.isfinite(array).all():
            block = int(np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))[0])
            raise ProblemError(f"residual group {self.name!r}: {what} of block {block} is not finite")
        return array


def _square_root(information: Array, name: str) -> Array:
    """W with WᵀW = Ω, upper triangular where Ω is positive definite, from eigenvectors where it is only semi-definite."""
    if information.shape[1:] == (1, 1):
        if (information < 0).any():
            block = int(np.flatnonzero((information < 0).ravel())[0])
            raise ProblemError(f"residual group {name!r}: information of block {block} is negative")
        return np.sqrt(information)
    asymmetry = np.abs(information - information.transpose(0, 2, 1)).max(axis=(1, 2), initial=0)
    magnitude = np.abs(information).max(axis=(1, 2), initial=0)
    if (asymmetry > 1e-9 * magnitude).any():
        block = int(np.argmax(asymmetry - 1e-9 * magnitude))
        raise ProblemError(f"residual group {name!r}: information of block {block} is not symmetric")
    try:
        return np.ascontiguousarray(np.linalg.cholesky(information).transpose(0, 2, 1))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(information)
    if (values[:, 0] < -1e-9 * values[:, -1]).any():
        block = int(np.flatnonzero(values[:, 0] < -1e-9 * values[:, -1])[0])
        raise ProblemError(
            f"residual group {name!r}: information of block {block} has the eigenvalue {values[block, 0]:.3g}; it must "
            "be positive semi-definite (clip negative eigenvalues at 0)"
        )
    return np.ascontiguousarray(np.sqrt(values.clip(0))[:, :, None] * vectors.transpose(0, 2, 1))


class Problem:
    """A sum of residual blocks over variable blocks: f(x) = ½ Σ_b ρ_b(‖W_b r_b(x)‖²).

    Examples
    --------
    >>> import numpy as np
    >>> import sparselm as slm
    >>> problem = slm.Problem()
    >>> pose = problem.add_variables("pose", np.zeros((3, 3)), manifold=slm.SE2())
    >>> pose.fix([0])
    >>> group = problem.add_residuals(
    ...     slm.Between(slm.SE2()), pose[[0, 1]], pose[[1, 2]], data=np.array([[1.0, 0, 0], [1.0, 0, 0]])
    ... )
    >>> result = slm.solve(problem)
    >>> result[pose].round(6)[:, 0]
    array([0., 1., 2.])
    """

    def __init__(self) -> None:
        self.variables: list[Variables] = []
        self.residuals: list[ResidualGroup] = []

    def add_variables(
        self,
        name: str,
        values: npt.ArrayLike,
        manifold: AbstractManifold | None = None,
        *,
        lower: npt.ArrayLike | None = None,
        upper: npt.ArrayLike | None = None,
    ) -> Variables:
        """Add variable blocks of one kind.

        Parameters
        ----------
        name
            Used in messages and reports.
        values
            Their start ``(n, ambient_dim)``; copied.
        manifold
            Euclidean where None.
        lower, upper
            Bounds that no iterate leaves: a number, ``(ambient_dim,)`` or ``(n, ambient_dim)``, ±inf for none. Only
            Euclidean components, alone or as factors of a product, can be bounded. Equal bounds hold a component.

        Raises
        ------
        ProblemError
            The name is taken; values or bounds have the wrong shape or are not numbers; a lower bound exceeds the upper
            one; a component cannot be bounded. That the start lies within the bounds is checked by a solve.
        """
        if any(variables.name == name for variables in self.variables):
            raise ProblemError(f"variables {name!r} exist already; names must differ")
        variables = Variables(name, values, manifold)
        variables.lower, variables.upper = lower, upper
        check_box(name, variables.lower, variables.upper)
        self.variables.append(variables)
        return variables

    def add_residuals(
        self,
        residual: AbstractResidual | UnboundResidual,
        *operands: Selection | Variables | None,
        data: Any = None,
        loss: AbstractLoss | None = None,
        information: npt.ArrayLike | None = None,
        sqrt_information: npt.ArrayLike | None = None,
        name: str | None = None,
    ) -> ResidualGroup:
        """Add residual blocks of one kind, one per row of the operands' index arrays; nothing large is copied.

        Parameters
        ----------
        residual
            The function of one block: one made by :func:`sparselm.residual`, a :class:`sparselm.BatchResidual`, or an
            instance of a residual class.
        *operands
            ``variables[index]`` for each operand; bare ``variables`` select every row in order. One row, as ``lens[0]``,
            stands for all blocks. None leaves an optional operand out.
        data
            Measurements ``(n, …)``, or a tuple of such arrays.
        loss
            Robust loss of each block; none is ρ(s) = s.
        information, sqrt_information
            Weight Ω, or W with Ω = WᵀW: a number, ``(n,)``, ``(dim, dim)`` or ``(n, dim, dim)``.
        name
            Used in reports; the function's name, or the residual's class name in lower case, by default.
        """
        if not isinstance(residual, (AbstractResidual, UnboundResidual)):
            raise ProblemError(
                f"a residual must be a function decorated with @slm.residual(dim=…), a slm.BatchResidual or an instance "
                f"of a residual class, got {residual!r}"
            )
        given = tuple(o[:] if isinstance(o, Variables) else o for o in operands)
        selections = tuple(o for o in given if o is not None)
        if not selections:
            raise ProblemError("a residual group needs an operand, such as cameras[camera_index]")
        for selection in selections:
            if not isinstance(selection, Selection):
                kind = type(selection).__name__
                raise ProblemError(
                    f"an operand must be variables or variables[index], got {kind}; measurements go into data="
                )
            if not any(selection.variables is known for known in self.variables):
                raise ProblemError(f"variables {selection.variables.name!r} belong to another problem")
        rows = data if isinstance(data, tuple) else () if data is None else (data,)
        selections = _for_all_blocks(selections, [np.shape(array)[0] for array in rows if np.ndim(array)])
        if isinstance(residual, UnboundResidual):
            base = residual.name if name is None else name
            manifolds = tuple(None if o is None else o.variables.manifold for o in given)
            residual = residual.bind(manifolds, tuple(np.shape(array)[1:] for array in rows))
        else:
            base = type(residual).__name__.lower() if name is None else name
        taken = {group.name for group in self.residuals}
        unique = base if base not in taken else next(f"{base}-{i}" for i in range(2, 10**9) if f"{base}-{i}" not in taken)
        group = ResidualGroup(unique, residual, selections, data, loss, information, sqrt_information)
        self.residuals.append(group)
        return group

    def update(self, result: Result) -> None:
        """Take a result's values as the start of the next solve."""
        missing = [v.name for v in self.variables if v.name not in result.values]
        if missing:
            raise ProblemError(f"the result has no values of {', '.join(map(repr, missing))}: it is of another problem")
        for variables in self.variables:
            variables.values = result[variables]

    def __repr__(self) -> str:
        lines = [repr(v) for v in self.variables]
        lines += [f"{g.name!r}: {g.num_blocks} × {type(g.residual).__name__}" for g in self.residuals]
        return "Problem(\n  " + "\n  ".join(lines) + "\n)"

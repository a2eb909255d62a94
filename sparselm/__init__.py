"""Huge sparse nonlinear least squares by Levenberg–Marquardt.

    min_x  f(x) = ½ Σ_b ρ_b(‖W_b r_b(x)‖²)

State a :class:`Problem` (variables, residual groups), call :func:`solve`, read the :class:`Result`.
"""

from sparselm import math
from sparselm.checking import check_residual
from sparselm.damping import Fixed, Marquardt, More, Nielsen
from sparselm.debugging import debug
from sparselm.driver import Analysis, Evaluation, analyze, evaluate, solve
from sparselm.errors import (
    FileFormatError,
    MissingDependencyError,
    NonFiniteStartError,
    PluginError,
    ProblemError,
    ResidualFunctionError,
    SolverError,
    SparselmError,
)
from sparselm.linear_solvers.block_cholesky import BlockCholesky
from sparselm.linear_solvers.cholmod import Cholmod
from sparselm.linear_solvers.dense_cholesky import DenseCholesky
from sparselm.linear_solvers.dense_qr import DenseQR
from sparselm.linear_solvers.lsmr import LSMR
from sparselm.linear_solvers.lsqr import LSQR
from sparselm.linear_solvers.schur import SchurCholesky, SchurPCG
from sparselm.linear_solvers.superlu import SuperLU
from sparselm.losses import (
    Arctan,
    Cauchy,
    Composed,
    GemanMcClure,
    Huber,
    Scaled,
    SoftL1,
    Tolerant,
    Trivial,
    Tukey,
    Welsch,
)
from sparselm.manifolds import SE2, SE3, SO2, SO3, Euclidean, Product, Sphere
from sparselm.preconditioners import BlockJacobi, ClusterJacobi, ClusterTridiagonal, PowerSeries, SchurJacobi
from sparselm.problem import Problem, ResidualGroup
from sparselm.residuals import (
    BatchResidual,
    Between,
    BetweenUncoupled,
    FisheyeReprojection,
    Landmark,
    OpenCVReprojection,
    PinholeReprojection,
    Prior,
    RadialReprojection,
    SimpleRadialReprojection,
    SnavelyReprojection,
    StereoReprojection,
)
from sparselm.residuals.autodiff import ResidualFunction, residual
from sparselm.result import Iteration, Result
from sparselm.scipy_api import least_squares
from sparselm.termination import Status
from sparselm.variables import Variables

__version__ = "0.1.0"

__all__ = [
    "LSMR",
    "LSQR",
    "SE2",
    "SE3",
    "SO2",
    "SO3",
    "Analysis",
    "Arctan",
    "BatchResidual",
    "Between",
    "BetweenUncoupled",
    "BlockCholesky",
    "BlockJacobi",
    "Cauchy",
    "Cholmod",
    "ClusterJacobi",
    "ClusterTridiagonal",
    "Composed",
    "DenseCholesky",
    "DenseQR",
    "Euclidean",
    "Evaluation",
    "FileFormatError",
    "FisheyeReprojection",
    "Fixed",
    "GemanMcClure",
    "Huber",
    "Iteration",
    "Landmark",
    "Marquardt",
    "MissingDependencyError",
    "More",
    "Nielsen",
    "NonFiniteStartError",
    "OpenCVReprojection",
    "PinholeReprojection",
    "PluginError",
    "PowerSeries",
    "Prior",
    "Problem",
    "ProblemError",
    "Product",
    "RadialReprojection",
    "ResidualFunction",
    "ResidualFunctionError",
    "ResidualGroup",
    "Result",
    "Scaled",
    "SchurCholesky",
    "SchurJacobi",
    "SchurPCG",
    "SimpleRadialReprojection",
    "SnavelyReprojection",
    "SoftL1",
    "SolverError",
    "SparselmError",
    "Sphere",
    "Status",
    "StereoReprojection",
    "SuperLU",
    "Tolerant",
    "Trivial",
    "Tukey",
    "Variables",
    "Welsch",
    "analyze",
    "check_residual",
    "debug",
    "evaluate",
    "least_squares",
    "math",
    "residual",
    "solve",
]

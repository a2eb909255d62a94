"""Sparse Cholesky: sparselm's block factorisation against scikit-sparse's CHOLMOD, live, in one process.

Both sides factorise the same matrices with the same number of threads, taking turns: the lower triangle of a symmetric
positive definite matrix in the natural order of its variables. Measured are

* the numeric factorisation into a known analysis (``refactorize`` against ``cholesky_inplace``);
* the analysis, which contains the ordering (``analyze`` on both sides);
* the solution for one right-hand side.

CHOLMOD runs at its best: ``mode="auto"``, in the order of AMD or METIS, with or without its own OpenMP threads beside
those of BLAS, with BLAS on all threads or on one, whichever is fastest (``+omp`` and ``1 blas`` in the table). Its
OpenMP regions ask for four threads, whatever OMP_NUM_THREADS says; on fewer cores that costs up to half of the time.

GFLOP/s are Σ h² over the columns of L, h the height of a column, each side in its own order, divided by the time. Times
are medians over turns; a turn is one run to get caches and threads back, then timed ones, after a pause in which the
other side's threads, which go on waiting actively for a while, fall asleep.

OpenBLAS of a distribution may be too old to know the processor, and then works with its most generic kernels. Where
CHOLMOD's does and SciPy's does not, the former is told by OPENBLAS_CORETYPE to use the kernels that the latter found;
``--coretype`` overrides that.
"""

import argparse
import contextlib
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import geometric_mean, median

HERE = Path(__file__).resolve().parent
DEFAULT = [
    "intel",
    "M3500",
    "parking-garage",
    "sphere2500",
    "torus3D",
    "ladybug-49-full",
    "ladybug-49-reduced",
    "street-200-reduced",
    "street-1000-reduced",
]
ORDERINGS = ("amd", "metis")
GENERIC = "Prescott"  # what OpenBLAS takes on an x86-64 processor that it does not know


def main():
    parser = argparse.ArgumentParser(description="Sparse Cholesky factorisation: sparselm against CHOLMOD.")
    parser.add_argument("matrices", nargs="*", default=DEFAULT, help="names of benchmarks/matrices.py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each side")
    parser.add_argument("--seconds", type=float, default=30.0, help="stop a measurement after that, with fewer runs")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between turns")
    parser.add_argument("--coretype", default="auto", help="OPENBLAS_CORETYPE, or auto, or as-is")
    arguments = parser.parse_args()
    set_environment(arguments)
    sys.path.insert(0, str(HERE))
    from benchmarks.matrices import block_matrix

    rows = []
    print(conditions(arguments), flush=True)
    dense = dense_rate()
    print(f"dense LAPACK (SciPy's dpotrf, n = 2000): {dense:.1f} GFLOP/s\n", flush=True)
    for name in arguments.matrices:
        try:
            matrix = block_matrix(name)
        except NotImplementedError as error:
            print(f"skipped: {error}", flush=True)
            continue
        print(f"… {name}", file=sys.stderr, flush=True)
        rows.append(compare(matrix, arguments))
    tell(rows, max(dense, dense_rate()))


def set_environment(arguments):
    """Number of threads and kind of kernels, which libraries read once, when they are loaded."""
    threads = str(arguments.threads)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    if arguments.coretype == "auto":
        blas = blas_libraries()
        of_scipy = next((kind for path, kind in blas.items() if "scipy.libs" in path), GENERIC)
        generic = [path for path, kind in blas.items() if kind == GENERIC]
        if generic and of_scipy != GENERIC:
            os.environ["OPENBLAS_CORETYPE"] = of_scipy
            print(f"{', '.join(generic)} does not know this processor: told to use {of_scipy}", flush=True)
    elif arguments.coretype != "as-is":
        os.environ["OPENBLAS_CORETYPE"] = arguments.coretype


def blas_libraries():
    """Path and kind of kernels of each OpenBLAS that the two sides load, from a process of its own."""
    code = (
        "import scipy.linalg, sksparse.cholmod, threadpoolctl\n"
        "for i in threadpoolctl.threadpool_info():\n"
        "    if i['internal_api'] == 'openblas': print(i['filepath'], i['architecture'], sep='\\t')"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split("\t") for line in output.splitlines())


def conditions(arguments):
    """Versions, BLAS libraries and number of threads."""
    import scipy.linalg
    import sksparse.cholmod
    import threadpoolctl

    lines = [f"{arguments.threads} threads; scikit-sparse {sksparse.__version__}, SciPy {scipy.__version__}"]
    for i in threadpoolctl.threadpool_info():
        if i["user_api"] == "blas":
            kind = f"{i['internal_api']} {i['version']} {i.get('architecture', '')}"
            lines.append(f"  {kind}, {i['num_threads']} threads: {i['filepath']}")
    return "\n".join(lines)


def dense_rate():
    """GFLOP/s of LAPACK's Cholesky factorisation at its fastest: slowed down, it would flatter us."""
    import numpy as np
    from scipy.linalg.lapack import dpotrf

    n = 2000
    A = np.asfortranarray(np.eye(n) * 2.0 * n + np.ones((n, n)))
    work = np.empty_like(A)
    seconds = []
    for _ in range(12):
        work[:] = A
        seconds.append(clocked(lambda: dpotrf(work, lower=1, overwrite_a=1, clean=0)))
    return n**3 / 3 / min(seconds) * 1e-9


def clocked(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def alternate(sides, arguments, per_turn=2):
    """Median seconds of each function, in its context; the sides take turns."""
    began, seconds = time.perf_counter(), {name: [] for name in sides}
    while len(seconds[next(iter(sides))]) < arguments.runs and time.perf_counter() - began < arguments.seconds:
        for name, (context, run) in sides.items():
            time.sleep(arguments.pause)
            with context():
                run()
                seconds[name] += [clocked(run) for _ in range(per_turn)]
    return {name: median(own) for name, own in seconds.items()}


# -- one matrix --------------------------------------------------------------------------------------------------------


def compare(matrix, arguments):
    """All measurements of one matrix, as a dictionary."""
    import numpy as np
    import scipy.sparse as sp
    from sksparse import cholmod

    from sparselm.linear_solvers.block_cholesky import analyze

    A, sizes = matrix.lower, matrix.sizes
    n = A.shape[0]
    other = A.copy()  # other values in the same places; a sum would drop zeros that are stored
    other.data[A.indices == np.repeat(np.arange(n), np.diff(A.indptr))] *= 1.001
    both = (other, A)
    analysed = analyze(A, sizes)
    ours = analysed.factorize(A)
    factors = {ordering: cholmod.analyze(A, mode="auto", ordering_method=ordering) for ordering in ORDERINGS}
    settings = peer_settings(arguments)

    def alternating(refill):
        state = [0]

        def run():
            state[0] ^= 1
            refill(both[state[0]])

        return run

    theirs = {
        (ordering, setting): (context, alternating(factor.cholesky_inplace))
        for ordering, factor in factors.items()
        for setting, context in settings.items()
    }
    warm = {key: fastest_of_two(*side) for key, side in theirs.items()}
    close = {key: side for key, side in theirs.items() if warm[key] < 1.25 * min(warm.values())}
    numeric = alternate({"ours": (contextlib.nullcontext, alternating(ours.refactorize))} | close, arguments)
    best = ordering, setting = min(close, key=lambda key: numeric[key])
    factor = factors[ordering]

    def analyze_theirs(ordering):
        return lambda: cholmod.analyze(A, mode="auto", ordering_method=ordering)

    analyses = {"ours": lambda: analyze(A, sizes)} | {o: analyze_theirs(o) for o in {ordering, "amd"}}
    analyses = {name: (contextlib.nullcontext, run) for name, run in analyses.items()}
    analysis = alternate(analyses, arguments)

    ours.refactorize(other)
    factor.cholesky_inplace(other)
    full = (other + sp.tril(other, -1).T).tocsr()
    b = full @ np.sin(np.arange(n) + 1.0)
    solves = {s: (context, lambda: factor.solve_A(b)) for s, context in settings.items()}
    solve = alternate({"ours": (contextlib.nullcontext, lambda: ours.solve(b))} | solves, arguments)
    x, y = ours.solve(b), factor.solve_A(b)
    logdet = float(ours.logdet()), float(factor.logdet())
    nonzeros, flops = factor_sizes(A, factor.P())
    return {
        "name": matrix.name,
        "n": n,
        "sizes": "/".join(str(size) for size in sorted(set(sizes.tolist()), reverse=True)),
        "nonzeros": (ours.analysis.nonzeros, nonzeros),
        "flops": (ours.analysis.flops, flops),
        "numeric": (numeric["ours"], numeric[best]),
        "analysis": (analysis["ours"], analysis[ordering], analysis["amd"]),
        "solve": (solve["ours"], min(solve[s] for s in settings)),
        "ordering": ordering + setting,
        "difference": float(np.abs(x - y).max() / np.abs(y).max()),
        "residuals": tuple(backward_error(full, z, b) for z in (x, y)),
        "logdet": abs(logdet[0] - logdet[1]) / abs(logdet[1]),
    }


def peer_settings(arguments):
    """Contexts in which CHOLMOD may run, by what the table calls them."""
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    openmp = [i["filepath"] for i in ThreadpoolController().info() if i["user_api"] == "openmp"]

    @contextlib.contextmanager
    def without_openmp(blas_threads):
        libraries = [ctypes.CDLL(path) for path in openmp]
        before = [library.omp_get_max_active_levels() for library in libraries]
        for library in libraries:
            library.omp_set_max_active_levels(0)
        try:
            with blas.limit(limits=blas_threads):
                yield
        finally:
            for library, levels in zip(libraries, before, strict=True):
                library.omp_set_max_active_levels(levels)

    settings = {"": lambda: without_openmp(arguments.threads)}
    if arguments.threads > 1:
        settings |= {" +omp": lambda: blas.limit(limits=arguments.threads), " 1 blas": lambda: without_openmp(1)}
    return settings


def fastest_of_two(context, run):
    with context():
        run()
        return min(clocked(run) for _ in range(2))


def factor_sizes(A, order):
    """Non-zeros of L, and Σ h² over its columns, of a scalar matrix in an order."""
    import numpy as np

    from sparselm.linear_solvers.block_graph import make_graph
    from sparselm.linear_solvers.ordering import find_ordering

    n = A.shape[0]
    column = np.repeat(np.arange(n, dtype=np.int32), np.diff(A.indptr))
    below = column != A.indices
    graph = make_graph(np.ones(n, dtype=np.int32), A.indices[below].astype(np.int32), column[below])
    found = find_ordering(graph.indptr, graph.indices, graph.sizes, order)
    heights = found.heights + 1.0
    return found.nonzeros, float((heights**2).sum())


def backward_error(full, x, b):
    """‖b − A x‖∞ / (‖A‖∞ ‖x‖∞)."""
    import numpy as np

    norm = np.abs(full).sum(axis=1).max()
    return float(np.abs(b - full @ x).max() / (norm * np.abs(x).max()))


# -- the tables --------------------------------------------------------------------------------------------------------


def tell(rows, dense):
    if not rows:
        sys.exit("no matrix was measured")
    table(
        "numeric factorisation (ms; ratio: CHOLMOD's time over ours; share: our GFLOP/s over dense LAPACK's)",
        "matrix                   n  sizes   nnz(L)   CHOLMOD      ours  CHOLMOD  by          ratio  GF/s  GF/s  share",
        (
            f"{r['name']:19s} {r['n']:6d} {r['sizes']:>6s} {r['nonzeros'][0]:9d} {r['nonzeros'][1]:9d}"
            f" {in_ms(r['numeric'])}  {r['ordering']:11s} {ratio(r['numeric']):5.2f}"
            f" {rate(r, 0):5.1f} {rate(r, 1):5.1f} {100.0 * rate(r, 0) / dense:4.0f} %"
            for r in rows
        ),
    )
    table(
        "analysis, ordering included (ms; ratio: CHOLMOD's, in the order taken above, over ours)",
        "matrix                    ours  CHOLMOD  its AMD  ratio   flops of L: ours    CHOLMOD",
        (
            f"{r['name']:20s} {in_ms(r['analysis'])} {ratio(r['analysis']):6.2f}"
            f"          {r['flops'][0]:9.3g}  {r['flops'][1]:9.3g}"
            for r in rows
        ),
    )
    table(
        "solution for one right-hand side (ms); agreement (x: largest difference over largest entry; backward errors)",
        "matrix                    ours  CHOLMOD  ratio        x     ours  CHOLMOD  log det",
        (
            f"{r['name']:20s} {in_ms(r['solve'])} {ratio(r['solve']):6.2f}"
            f"  {r['difference']:7.1e}  {r['residuals'][0]:7.1e}  {r['residuals'][1]:7.1e}  {r['logdet']:7.1e}"
            for r in rows
        ),
    )
    means = {what: geometric_mean(ratio(r[what]) for r in rows) for what in ("numeric", "analysis", "solve")}
    print("geometric means of the ratios: " + ", ".join(f"{what} {value:.2f}" for what, value in means.items()))


def table(title, header, lines):
    print(title, header, *lines, sep="\n", end="\n\n")


def in_ms(times):
    return " ".join(f"{1e3 * seconds:{9 if number == 0 else 8}.2f}" for number, seconds in enumerate(times))


def ratio(times):
    return times[1] / times[0]


def rate(row, side):
    return row["flops"][side] / row["numeric"][side] * 1e-9


if __name__ == "__main__":
    main()

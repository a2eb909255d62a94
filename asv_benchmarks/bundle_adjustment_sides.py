"""One solver of ``bundle_adjustment_peers.py`` in a process of its own: solves when asked, over and over, from one start.

    python bundle_adjustment_sides.py SIDE OPTIONS FILE

FILE is an ``.npz`` as ``sparselm.io.write_bal`` writes it, OPTIONS a JSON object. A line on standard input, the limits
of a solve as a JSON object, is answered by a line on standard output. What libraries print goes to standard error. Every
answer has the trace (see ``traces.py``), how the solve ended, the memory of the process, and, as ``check``, the final
cost by NumPy: a library that leaves out residuals of points behind a camera is found out.
"""

import contextlib
import ctypes
import gc
import json
import os
import sys
import tempfile
import time

import numpy as np
import snavely


def main():
    side, options, file = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)

    with np.load(file) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    try:
        facts, prepare = SIDES[side](data, **json.loads(options))
    except Exception as error:  # nothing to import, no such plug-in
        answer(error=f"{type(error).__name__}: {error}")
        return
    answer(facts=facts)
    for line in sys.stdin:
        try:
            answer(**measure(data, prepare(**json.loads(line))))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")
            raise


def measure(data, solve):
    """Run a solve and see what it took of the machine."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # memory of earlier runs that is free but was not given back
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = memory("VmRSS")
    began, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
    found, values = solve()
    wall, own = time.perf_counter() - began, time.process_time() - own
    found |= {"wall": wall, "cpu": own, "foreign": max(0.0, busy_seconds() - busy - own) / wall}
    found |= {"memory_before": before, "memory_peak": memory("VmHWM")}
    return found | {"check": snavely.cost(data, *values())}


def memory(name):
    """A line of /proc/self/status, in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def busy_seconds():
    """Processor time that the whole machine has worked."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, *_ = (int(ticks) for ticks in file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


# -- the sides: facts, and a function that prepares a solve, which returns what it found and how to read the values -----


def with_sparselm(data, threads, solver, settings):
    """Levenberg–Marquardt of sparselm; the clock starts with the call of ``solve`` and sees analysis and compiling."""
    import sparselm as slm
    from sparselm.io import BundleAdjustmentData
    from sparselm.io.bal import to_problem
    from sparselm.plugins import create

    arrays = {name: array for name, array in data.items() if name != "format_version"}
    problem = to_problem(BundleAdjustmentData(**arrays))
    linear_solver = None if solver == "auto" else create("linear_solvers", solver, settings)

    def prepare(iterations, function_tolerance, seconds):
        def solve():
            trace, began = [], time.perf_counter()
            result = slm.solve(
                problem,
                linear_solver=linear_solver,
                num_threads=threads,
                max_iterations=iterations,
                function_tolerance=function_tolerance,
                time_limit=seconds,
                callback=lambda now: trace.append((time.perf_counter() - began, now.cost)),
            )
            cameras = result["camera"]
            values = snavely.rotation_matrices(cameras[:, :3]), cameras, result["point"]
            found = {"trace": trace, "stop": result.message, "inner_iterations": result.inner_iterations}
            found |= {"compiling": result.times.compile, "loading": result.times.load}
            return found | {"facts": f"{result.linear_solver}: {result.linear_solver_facts}"}, lambda: values

        return solve

    return f"sparselm {slm.__version__}", prepare


def with_ceres(data, threads, solver, preconditioner=None):
    """Ceres within pycolmap; the trace is that of its table, and starts with its preprocessing."""
    import colmap
    import pycolmap
    from pycolmap import pyceres

    pycolmap.logging.minloglevel = 2
    options = {"linear_solver_type": getattr(pyceres.LinearSolverType, solver), "num_threads": threads}
    if preconditioner:
        options |= {"preconditioner_type": getattr(pyceres.PreconditionerType, preconditioner)}
    # The forcing term of its program bundle_adjuster; iterative solvers only.
    options |= {"eta": 1e-2, "max_linear_solver_iterations": 500}
    options |= {"logging_type": pyceres.LoggingType.PER_MINIMIZER_ITERATION, "minimizer_progress_to_stdout": True}

    def prepare(iterations, function_tolerance, seconds):
        import traces

        limits = {"max_num_iterations": iterations, "function_tolerance": function_tolerance}
        reconstruction = colmap.as_reconstruction(data)
        adjuster = colmap.make_adjuster(reconstruction, **options, **limits, max_solver_time_in_seconds=seconds)

        def solve():
            with captured() as table:
                summary = adjuster.solve().ceres_summary
            found = {"trace": traces.ceres_trace(table[0]), "stop": summary.message, "total": summary.total_time_in_seconds}
            return found, lambda: colmap.read_back(reconstruction)

        return solve

    return f"Ceres {pycolmap.__ceres_version__} (pycolmap {pycolmap.__version__})", prepare


@contextlib.contextmanager
def captured():
    """What a library prints on standard output; a list of one string after the block."""
    text, keep = [], os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            yield text
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(keep, 1)
            os.close(keep)
            file.seek(0)
            text.append(file.read().decode())


def with_gtsam(data, threads):
    """GTSAM's Levenberg–Marquardt by Ceres's rule, points eliminated first; the clock starts with the ordering.

    Of its solvers this is the fastest on BAL's problems: those made for structure from motion take twice as long. A step
    of its trace contains the attempts that were rejected before it. The wheel has no threads.
    """
    import gtsam
    from gtsam.symbol_shorthand import P

    graph, initial = factor_graph(data)
    points = [P(point) for point in range(len(data["points"]))]

    def prepare(iterations, function_tolerance, seconds):
        parameters = gtsam.LevenbergMarquardtParams.CeresDefaults()
        parameters.setLinearSolverType("MULTIFRONTAL_CHOLESKY")

        def solve():
            began = time.perf_counter()
            parameters.setOrdering(gtsam.Ordering.ColamdConstrainedFirstNonlinearFactorGraph(graph, points, False))
            optimizer = gtsam.LevenbergMarquardtOptimizer(graph, initial, parameters)
            trace, stop = [(time.perf_counter() - began, optimizer.error())], "iteration limit"
            for _ in range(iterations):
                optimizer.iterate()
                trace.append((time.perf_counter() - began, optimizer.error()))
                (_, before), (now, cost) = trace[-2:]
                if before - cost <= function_tolerance * before or now > seconds:
                    stop = "function tolerance" if now <= seconds else "time limit"
                    break
            return {"trace": trace, "stop": stop}, lambda: read_gtsam(optimizer.values(), data)

        return solve

    from importlib.metadata import version

    return f"GTSAM {version('gtsam')}", prepare


def factor_graph(data):
    """Factors and start; cameras are world-from-camera with axes as in COLMAP."""
    import gtsam
    from gtsam.symbol_shorthand import P

    graph, initial, noise = gtsam.NonlinearFactorGraph(), gtsam.Values(), gtsam.noiseModel.Unit.Create(2)
    seen = zip(data["camera_index"].tolist(), data["point_index"].tolist(), strict=True)
    for (camera, point), pixel in zip(seen, data["pixels"] * snavely.FLIP[:2], strict=True):
        graph.add(gtsam.GeneralSFMFactorCal3Bundler(pixel, noise, camera, P(point)))
    rotations = (snavely.FLIP[:, None] * snavely.rotation_matrices(data["cameras"][:, :3])).transpose(0, 2, 1)
    for number, (rotation, (*_, focal, k1, k2)) in enumerate(zip(rotations, data["cameras"], strict=True)):
        centre = -rotation @ (snavely.FLIP * data["cameras"][number, 3:6])
        pose = gtsam.Pose3(gtsam.Rot3(rotation), centre)
        initial.insert(number, gtsam.PinholeCameraCal3Bundler(pose, gtsam.Cal3Bundler(focal, k1, k2, 0.0, 0.0)))
    for number, point in enumerate(data["points"]):
        initial.insert(P(number), point)
    return graph, initial


def read_gtsam(values, data):
    """Rotations, cameras and points in BAL's convention."""
    from gtsam.symbol_shorthand import P

    found = [values.atPinholeCameraCal3Bundler(number) for number in range(len(data["cameras"]))]
    rotations = snavely.FLIP[:, None] * np.array([camera.pose().rotation().matrix().T for camera in found])
    cameras = np.zeros((len(found), 9))
    cameras[:, 3:6] = [-rotation @ camera.pose().translation() for rotation, camera in zip(rotations, found, strict=True)]
    cameras[:, 6:] = [[c.calibration().fx(), c.calibration().k1(), c.calibration().k2()] for c in found]
    return rotations, cameras, np.array([values.atPoint3(P(number)) for number in range(len(data["points"]))])


def with_scipy(data, threads):
    """``scipy.optimize.least_squares`` as its cookbook has it, with the cookbook's tolerance; takes no time limit."""
    import scipy
    from scipy.optimize import least_squares
    from scipy_cookbook import residual_function, sparsity

    fun, start = residual_function(data)
    pattern = sparsity(data)

    def prepare(iterations, function_tolerance, seconds):
        def solve():
            trace, began = [(0.0, 0.5 * float(np.sum(fun(start) ** 2)))], time.perf_counter()

            def note(intermediate_result):
                trace.append((time.perf_counter() - began, float(intermediate_result.cost)))

            result = least_squares(
                fun, start, jac_sparsity=pattern, x_scale="jac", ftol=1e-4, method="trf", max_nfev=iterations, callback=note
            )
            cameras, points = result.x[: data["cameras"].size].reshape(-1, 9), result.x[data["cameras"].size :]
            values = snavely.rotation_matrices(cameras[:, :3]), cameras, points.reshape(-1, 3)
            return {"trace": trace, "stop": result.message}, lambda: values

        return solve

    return f"SciPy {scipy.__version__}", prepare


SIDES = {"sparselm": with_sparselm, "ceres": with_ceres, "gtsam": with_gtsam, "scipy": with_scipy}


if __name__ == "__main__":
    main()

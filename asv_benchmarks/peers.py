"""One evaluation of residuals, Jacobian and gradient: sparselm against the Ceres inside the pycolmap wheel, live.

Both sides evaluate the same bundle-adjustment problem on the same number of threads, taking turns, each in a process and
an interpreter of its own. The time of ours is that of ``Evaluator.linearize``: r, J, Jᵀr, diag JᵀJ and the cost. The time
of Ceres is what its summary calls Jacobian evaluation, divided by the number of evaluations: r, J and Jᵀr. Both are means
over a turn; each side's best turn counts. Run it on an idle machine: parallel kernels of a millisecond wait for every
thread, and suffer most from other work. ``--residual function`` takes Snavely's camera as a user would write it, in twelve
lines with automatic derivatives, ``prepared`` the same with its rotation matrix prepared per camera.

``colmap.py`` says how COLMAP's camera is made that of BAL, so that costs agree. They differ for points behind a camera, to
which COLMAP gives no residual: points with an observation at z ≥ 0 in BAL's camera frame are left out on both sides.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median


def main():
    parser = argparse.ArgumentParser(description="Time of one linearisation: sparselm against pycolmap's Ceres.")
    parser.add_argument("file", help="BAL file")
    parser.add_argument("--python", default=sys.executable, help="interpreter with sparselm (this one)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with pycolmap and numpy (this one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--residual", choices=("built-in", "function", "prepared"), default="built-in", help="of ours")
    parser.add_argument("--evaluations", type=int, default=30, help="evaluations per turn")
    parser.add_argument("--side", choices=("front", "ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = {"front": write_front, "ours": measure_ours, "peer": measure_peer}[arguments.side]
        print(json.dumps(side(arguments.file, arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        front = os.path.join(folder, "front.npz")
        sizes = call(arguments.python, "front", arguments.file, arguments, {"SPARSELM_FRONT": front})
        call(arguments.python, "ours", front, arguments)  # compiles
        rounds = [
            (call(arguments.python, "ours", front, arguments), call(arguments.peer_python, "peer", front, arguments))
            for _ in range(arguments.rounds)
        ]
    tell(sizes, rounds, arguments)


def call(python, side, file, arguments, more=None):
    """Run one side in its interpreter and return what it prints."""
    threads = str(arguments.threads)
    environment = os.environ | {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads} | (more or {})
    options = ["--threads", threads, "--evaluations", str(arguments.evaluations), "--residual", arguments.residual]
    command = [python, str(Path(__file__).resolve()), file, "--side", side, *options]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def tell(sizes, rounds, arguments):
    ours, peer = zip(*rounds, strict=True)
    start = ours[0]["cost"], peer[0]["cost"]
    difference = abs(start[0] / start[1] - 1.0)
    print(f"{Path(arguments.file).name}, points seen from behind left out: {sizes}; {arguments.threads} threads")
    print(f"residual of sparselm: {arguments.residual}")
    print(f"cost at the start: sparselm {start[0]:.9e}, Ceres {start[1]:.9e} (relative difference {difference:.1e})")
    if difference > 1e-6:
        sys.exit("the costs differ: not the same problem")
    for name, side in (("sparselm", ours), (f"Ceres (pycolmap {peer[0]['version']})", peer)):
        turns = [1e3 * turn["seconds"] for turn in side]
        print(f"{name}: {min(turns):.3f} ms an evaluation (best of {len(turns)} turns), {median(turns):.3f} ms (median)")
    print(f"the fastest single evaluation of sparselm: {1e3 * min(turn['fastest'] for turn in ours):.3f} ms")
    ratios = [pick(o["seconds"] for o in ours) / pick(p["seconds"] for p in peer) for pick in (min, median)]
    print(f"ratio sparselm / Ceres: {ratios[0]:.3f} (best), {ratios[1]:.3f} (medians)")


# -- our side ----------------------------------------------------------------------------------------------------------


def write_front(file, arguments):
    """Write the problem without the points that are seen from behind; sizes."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # the folder problems is never installed
    from problems.bundle_adjustment import without_points_behind
    from sparselm.io import read_bal, write_bal

    front = without_points_behind(read_bal(file))
    write_bal(os.environ["SPARSELM_FRONT"], front)
    return f"{len(front.cameras)} cameras, {len(front.points)} points, {len(front.pixels)} observations"


def measure_ours(file, arguments):
    """The fastest of many evaluations at the start."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # the folder problems is never installed
    from problems.user_written import SNAVELY
    from sparselm.evaluator import Evaluator
    from sparselm.io import read_bal
    from sparselm.io.bal import to_problem
    from sparselm.structure import Structure
    from sparselm.threads import use_threads

    problem = to_problem(read_bal(file), SNAVELY[arguments.residual])
    evaluator = Evaluator(problem, Structure(problem))
    with use_threads(arguments.threads):
        cost = evaluator.linearize().cost
        seconds = [clocked(evaluator.linearize) for _ in range(arguments.evaluations)]
    return {"seconds": fmean(seconds), "fastest": min(seconds), "cost": cost}


def clocked(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


# -- the peer's side ---------------------------------------------------------------------------------------------------


def measure_peer(file, arguments):
    """Jacobian evaluation time per evaluation, over as many steps of a solve that does not stop early."""
    import colmap
    import numpy as np
    import pycolmap
    from pycolmap import pyceres

    with contextlib.suppress(AttributeError):
        pycolmap.logging.minloglevel = 2
    data = np.load(file)
    reconstruction = colmap.as_reconstruction(data)
    adjuster = colmap.make_adjuster(
        reconstruction,
        linear_solver_type=pyceres.LinearSolverType.SPARSE_SCHUR,
        num_threads=arguments.threads,
        max_num_iterations=arguments.evaluations,
        function_tolerance=0.0,
        gradient_tolerance=0.0,
        parameter_tolerance=0.0,
    )
    summary = adjuster.solve().ceres_summary
    return {
        "seconds": summary.jacobian_evaluation_time_in_seconds / summary.num_jacobian_evaluations,
        "evaluations": summary.num_jacobian_evaluations,
        "cost": summary.initial_cost,
        "version": pycolmap.__version__,
    }


if __name__ == "__main__":
    main()

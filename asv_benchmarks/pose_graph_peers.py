"""Pose graphs: Levenberg–Marquardt of sparselm against that of GTSAM, live.

Both sides read the same g2o file and start from its poses, each in an interpreter of its own; they take turns. Both
minimise ½ Σ rᵀΩr with the full logarithm of the relative pose as residual. GTSAM puts a prior on the first pose,
sparselm holds it: at the optimum the prior is zero.

The time of GTSAM is that of making the optimizer, which orders the variables, and of ``optimize()`` with its default
parameters, to its own stop; besides, of ``iterate()`` until the cost is within 0.1 % of the best one it comes to. The
time of ours is the analysis and the iterations until the cost is within 0.1 % of the one we converge to, as ``Result``
tells them; besides, to our own stop. Reading, start-up and compiling count on neither side; each process has a first
run, which does not count either.

What environment variables say (OPENBLAS_CORETYPE, OMP_WAIT_POLICY) holds for both sides.
"""

import argparse
import bz2
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean, median

DEFAULT = ["sphere2500", "M3500", "intel", "parking-garage", "torus3D"]
NEAR = 1.001
PHASES = ("analyze", "linearize", "linear_solve", "evaluate", "other")


def main():
    parser = argparse.ArgumentParser(description="Time of pose graph optimisation: sparselm against GTSAM.")
    parser.add_argument("graphs", nargs="*", default=DEFAULT, help="g2o files, or names below $SPARSELM_DATA/g2o")
    parser.add_argument("--python", default=sys.executable, help="interpreter with sparselm (this one)")
    parser.add_argument("--gtsam-python", help="interpreter with gtsam and numpy; without it only ours is measured")
    parser.add_argument("--ordering", choices=("COLAMD", "METIS"), default="COLAMD", help="of GTSAM")
    parser.add_argument("--linear-solver", help="of ours, by name; by default what it chooses itself")
    parser.add_argument("--damping", default="nielsen", help="of ours, by name")
    parser.add_argument("--set", action="append", default=[], metavar="PART.KEY=VALUE", help="as in sparselm solve")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--runs", type=int, default=3, help="timed runs in each process")
    parser.add_argument("--trace", action="store_true", help="print the iterations of both sides")
    parser.add_argument("--side", choices=("ours", "gtsam"), help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = {"ours": measure_ours, "gtsam": measure_gtsam}[arguments.side]
        print(json.dumps(side(arguments.graphs[0], arguments.options)))
        return
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for graph in arguments.graphs:
            file = plain_file(graph, folder)
            ours, gtsam = [], []
            for _ in range(arguments.rounds):
                ours.append(call(arguments.python, "ours", file, arguments))
                if arguments.gtsam_python:
                    gtsam.append(call(arguments.gtsam_python, "gtsam", file, arguments))
            table.append(tell(Path(file).stem, ours, gtsam, arguments))
    if arguments.gtsam_python:
        summary(table)


def plain_file(graph, folder):
    """The graph as an uncompressed file, which GTSAM wants."""
    path = Path(graph)
    if not path.is_file():
        path = Path(os.environ.get("SPARSELM_DATA", ".")) / "g2o" / f"{graph}.g2o.xz"
    if not path.is_file():
        sys.exit(f"no file {graph}, and no {path}: set SPARSELM_DATA to the folder of data sets")
    unpack = {".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix)
    if unpack is None:
        return str(path)
    plain = Path(folder) / path.stem
    with unpack(path) as file:
        plain.write_bytes(file.read())
    return str(plain)


def call(python, side, file, arguments):
    """Run one side in its interpreter and return what it prints."""
    threads = str(arguments.threads)
    environment = os.environ | {
        "NUMBA_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    options = ["--side", side, "--options", json.dumps(vars(arguments))]
    command = [python, str(Path(__file__).resolve()), file, *options]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


# -- our side ----------------------------------------------------------------------------------------------------------


def measure_ours(file, options):
    """Times of several solves, and the way to the optimum."""
    import warnings

    import sparselm as slm
    from sparselm.cli.arguments import parse_settings
    from sparselm.io.g2o import read_g2o, to_problem
    from sparselm.plugins import create

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # indefinite information, poses without a vertex line
        problem, _ = to_problem(read_g2o(file))
    settings = parse_settings(options["set"])
    parts = {"damping": create("damping", options["damping"], settings["damping"])}
    if options["linear_solver"]:
        parts["linear_solver"] = create("linear_solvers", options["linear_solver"], settings["solver"])
    parts["num_threads"] = options["threads"]
    patient = {
        "max_iterations": 300,
        "function_tolerance": 1e-12,
        "gradient_tolerance": 0.0,
        "parameter_tolerance": 0.0,
    }
    converged = slm.solve(problem, **parts, **patient)
    near = next(i.iteration for i in converged.iterations if i.cost <= NEAR * converged.final_cost)
    runs = []
    for _ in range(options["runs"]):
        result = slm.solve(problem, **parts, **(patient | {"max_iterations": near}))
        whole = slm.solve(problem, **parts, max_iterations=300)
        runs.append(
            {
                "near": result.iterations[-1].time,
                "phases": {name: getattr(result.times, name) for name in PHASES},
                "start": result.iterations[0].time,
                "own_stop": whole.iterations[-1].time,
                "own_iterations": whole.num_iterations,
                "trace": [(i.time, i.cost, i.accepted) for i in result.iterations],
            }
        )
    return {
        "cost": converged.final_cost,
        "near_iterations": near,
        "facts": f"{converged.linear_solver}: {converged.linear_solver_facts}",
        "runs": runs,
    }


# -- the peer's side ---------------------------------------------------------------------------------------------------


def measure_gtsam(file, options):
    """Times of several optimisations, and the way to the optimum."""
    import gtsam

    in_space = "EDGE_SE3" in Path(file).read_text()
    graph, initial = gtsam.readG2o(file, in_space)
    graph.add(gtsam_prior(gtsam, initial, in_space))

    def make():
        parameters = gtsam.LevenbergMarquardtParams()
        parameters.setOrderingType(options["ordering"])
        return gtsam.LevenbergMarquardtOptimizer(graph, initial, parameters)

    runs = []
    for _ in range(options["runs"] + 1):
        began = time.perf_counter()
        optimizer = make()
        made = time.perf_counter() - began
        optimizer.optimize()
        whole = time.perf_counter() - began
        runs.append({"make": made, "own_stop": whole, "own_iterations": optimizer.iterations()})
        runs[-1]["trace"] = trace = walk(make, optimizer.iterations())
        runs[-1]["near"], runs[-1]["near_iterations"] = next(
            (seconds, number) for number, (seconds, cost) in enumerate(trace) if cost <= NEAR * optimizer.error()
        )
    return {"cost": optimizer.error(), "runs": runs[1:]}


def gtsam_prior(gtsam, initial, in_space):
    """A stiff prior that holds the first pose."""
    first = min(initial.keys())
    if in_space:
        pose, make, sigmas = initial.atPose3(first), gtsam.PriorFactorPose3, [1e-3] * 6
    else:
        pose, make, sigmas = initial.atPose2(first), gtsam.PriorFactorPose2, [1e-3] * 3
    import numpy as np

    return make(first, pose, gtsam.noiseModel.Diagonal.Sigmas(np.array(sigmas)))


def walk(make, iterations):
    """Seconds and cost after each iteration; the first entry is the start."""
    began = time.perf_counter()
    optimizer = make()
    trace = [(time.perf_counter() - began, optimizer.error())]
    for _ in range(iterations):
        optimizer.iterate()
        trace.append((time.perf_counter() - began, optimizer.error()))
    return trace


# -- what is printed ---------------------------------------------------------------------------------------------------


def tell(name, ours, gtsam, arguments):
    """Print one graph's figures; returns the line of the summary."""
    runs = [run for side in ours for run in side["runs"]]
    near, steps = middle(runs, "near"), ours[0]["near_iterations"]
    phases = {phase: 1e3 * median(run["phases"][phase] for run in runs) for phase in PHASES}
    print(f"{name}; {arguments.threads} threads, {len(runs)} runs of each side; ms")
    print(f"  sparselm  {ours[0]['facts']}")
    print(f"    cost {ours[0]['cost']:.6f}; to 0.1 % of it {near:.1f} in {steps} iterations, {spread(runs, 'near')}")
    own = f"{middle(runs, 'own_stop'):.1f} in {runs[0]['own_iterations']} iterations"
    print(f"    to its own stop {own}; before the first step {middle(runs, 'start'):.1f}")
    print("    phases to 0.1 %: " + ", ".join(f"{phase} {value:.1f}" for phase, value in phases.items()))
    each = (near - middle(runs, "start")) / max(steps, 1)
    print(f"    an iteration {each:.2f}")
    if arguments.trace:
        print_trace([(1e3 * seconds, cost) for seconds, cost, _ in runs[-1]["trace"]], ours[0]["cost"])
    line = {"name": name, "near": near, "own_stop": middle(runs, "own_stop"), "steps": steps}
    if gtsam:
        peer = [run for side in gtsam for run in side["runs"]]
        line |= {"gtsam_near": middle(peer, "near"), "gtsam": middle(peer, "own_stop")}
        line["gtsam_steps"] = peer[0]["own_iterations"]
        print(f"  GTSAM LM, {arguments.ordering}")
        print(
            f"    cost {gtsam[0]['cost']:.6f}; to 0.1 % of it {line['gtsam_near']:.1f} in {peer[0]['near_iterations']}"
        )
        own = f"{line['gtsam']:.1f} in {line['gtsam_steps']} iterations, {spread(peer, 'own_stop')}"
        print(f"    optimize() {own}; of it making the optimizer {middle(peer, 'make'):.1f}")
        if arguments.trace:
            print_trace([(1e3 * seconds, cost) for seconds, cost in peer[-1]["trace"]], gtsam[0]["cost"])
    print(flush=True)
    return line


def middle(runs, key):
    """Median in milliseconds."""
    return 1e3 * median(run[key] for run in runs)


def spread(runs, key):
    values = [1e3 * run[key] for run in runs]
    return f"{min(values):.1f} … {max(values):.1f}"


def print_trace(trace, cost):
    for number, (seconds, value) in enumerate(trace):
        print(f"      {number:3d} {seconds:9.1f} {value:16.6f} {value / cost - 1.0:10.2e}")


def summary(table):
    print(
        "                        sparselm to 0.1 %   GTSAM optimize()   to 0.1 %   optimize() / ours   at 0.1 % / ours"
    )
    for line in table:
        ours = f"{line['near']:9.1f} ms ({line['steps']:3d})"
        peer = f"{line['gtsam']:9.1f} ms ({line['gtsam_steps']:3d}) {line['gtsam_near']:10.1f}"
        ratios = line["gtsam"] / line["near"], line["gtsam_near"] / line["near"]
        print(f"{line['name']:22s} {ours} {peer} {ratios[0]:19.2f} {ratios[1]:17.2f}")
    means = [geometric_mean(line[key] / line["near"] for line in table) for key in ("gtsam", "gtsam_near")]
    print(f"geometric means of the ratios: optimize() {means[0]:.2f}, to 0.1 % {means[1]:.2f}")


if __name__ == "__main__":
    main()

"""Bundle adjustment: cost over time of sparselm against Ceres (in the pycolmap wheel), GTSAM and SciPy, live.

Every solver works in a process of its own, in an interpreter of its own where that is asked for, on the same problem
from the same start with the same number of threads. The processes stay, and solve in turns: ours, a peer, another peer,
ours, … Levenberg–Marquardt has Ceres's parameters everywhere (initial radius 10⁴, Nielsen's update; tolerances 10⁻¹⁰ of
the gradient and 10⁻⁸ of the step, which GTSAM does not have), but SciPy's is a trust region. Costs are ½ Σ ‖r‖², in pixels.

What is told is the time until the cost is within 1 %, 0.1 % and 0.01 % of the best one that is known: total times say
where somebody chose to stop. The clock of ours starts with the call of ``solve`` and contains the analysis; that of
Ceres contains its preprocessing; that of GTSAM the ordering. Reading and building the problem count nowhere. The
first run of each process, in which ours compiles, is told apart.

COLMAP and GTSAM give no residual to a point behind its camera, BAL's model does: ``--front`` leaves out every point with
such an observation at the start, and problems that have some are refused without it. Final costs are computed anew by
BAL's model, and the difference is told where there is one.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import traces

HERE = Path(__file__).resolve().parent
SIDES = HERE / "bundle_adjustment_sides.py"

# Which side a peer is, and its options.
PEERS = {
    "ceres-sparse-schur": ("ceres", {"solver": "SPARSE_SCHUR"}),
    "ceres-dense-schur": ("ceres", {"solver": "DENSE_SCHUR"}),
    "ceres-schur-jacobi": ("ceres", {"solver": "ITERATIVE_SCHUR", "preconditioner": "SCHUR_JACOBI"}),
    "ceres-cluster-jacobi": ("ceres", {"solver": "ITERATIVE_SCHUR", "preconditioner": "CLUSTER_JACOBI"}),
    "gtsam": ("gtsam", {}),
    "scipy": ("scipy", {}),
}
DEFAULT_PEERS = [name for name in PEERS if name != "scipy"]
STRICT = ("ceres", "gtsam")  # sides whose cost is not BAL's behind a camera
PATIENT = {"iterations": 100, "function_tolerance": 0.0}  # limits of the run that looks for the best cost


def main():
    arguments = parse()
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate([*arguments.files, *map(tuple, arguments.street)]):
            file = os.path.join(folder, f"{number}.npz")
            facts = write_problem(name, file, arguments)
            found.append(compare(facts, file, arguments))
            tell(found[-1], arguments)
            if arguments.json:
                write_json(arguments.json, {"machine": machine(), "problems": found})
    if arguments.plot:
        plot(found, arguments.plot)


def parse():
    parser = argparse.ArgumentParser(description="Bundle adjustment: cost over time of sparselm and its peers.")
    add = parser.add_argument
    add("files", nargs="*", help="BAL files, text (also compressed) or .npz")
    add("--street", nargs=2, type=int, action="append", default=[], metavar=("CAMERAS", "POINTS"), help="a synthetic one")
    add("--front", action="store_true", help="leave out points that a camera sees from behind at the start")
    add("--ours", nargs="+", default=["auto"], metavar="NAME[:KEY=VALUE,…]", help="linear solvers, by registered name")
    add("--peers", nargs="*", default=DEFAULT_PEERS, choices=PEERS, help="(all but scipy, which takes minutes)")
    add("--pycolmap-python", default=sys.executable, help="interpreter with pycolmap and numpy (this one)")
    add("--gtsam-python", default=sys.executable, help="interpreter with gtsam and numpy (this one)")
    add("--threads", type=int, default=2, help="of every solver (2)")
    add("--runs", type=int, default=3, help="timed runs of each solver (3)")
    add("--iterations", type=int, default=50, help="most steps of a run (50)")
    add("--function-tolerance", type=float, default=1e-6, help="where runs stop (1e-6)")
    add("--time-limit", type=float, default=600.0, help="seconds of a run (600)")
    add("--pause", type=float, default=0.2, help="seconds between turns, in which waiting threads fall asleep (0.2)")
    add("--best", type=float, help="best cost known, of the one problem; without it ours looks for it in 100 steps")
    add("--json", help="write all figures and traces")
    add("--plot", help="write cost over time as a picture; needs matplotlib")
    arguments = parser.parse_args()
    num_problems = len(arguments.files) + len(arguments.street)
    if not num_problems or (arguments.best and num_problems > 1):
        parser.error("expected files or --street" if not num_problems else "--best is that of one problem")
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: expected at least one")
    return arguments


# -- the problem -------------------------------------------------------------------------------------------------------


def write_problem(name, file, arguments):
    """Write the problem where every side reads it; name, sizes and how many points were left out."""
    sys.path.append(str(HERE.parent))  # the folder problems is never installed
    from problems.bundle_adjustment import without_points_behind
    from sparselm.datasets import street
    from sparselm.io import read_bal, write_bal

    data = street(*name).data if isinstance(name, tuple) else read_bal(name)
    front = without_points_behind(data)
    behind = len(data.points) - len(front.points)
    title = f"street {name[0]} {name[1]}" if isinstance(name, tuple) else Path(name).name
    strict = [peer for peer in arguments.peers if PEERS[peer][0] in STRICT]
    if behind and not arguments.front and strict:
        sys.exit(
            f"{title}: {behind} points have an observation behind its camera at the start, whose residual COLMAP and GTSAM "
            "leave out: costs would not compare; leave out these points with --front, or those peers with --peers"
        )
    if arguments.front:
        data = front
    write_bal(file, data)
    sizes = {"cameras": len(data.cameras), "points": len(data.points), "observations": len(data.pixels)}
    return {"name": title, "sizes": sizes, "points_left_out": behind if arguments.front else 0}


# -- the solvers -------------------------------------------------------------------------------------------------------


class Solver:
    """A process that solves when asked; ``reason`` says why it does not do so any more."""

    def __init__(self, name, side, options, python, file, threads):
        self.name, self.side, self.first, self.runs = name, side, {}, []
        count = str(threads)
        variables = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self._environment = os.environ | dict.fromkeys(variables, count)
        self._command = [python, str(SIDES), side, json.dumps(options | {"threads": threads}), file]
        self.start()

    def start(self):
        """Start the process, which reads the problem."""
        self.process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.reason = None
        self.facts = self._hear().get("facts", "")

    def solve(self, **limits):
        """One solve's answer; empty where the process has failed."""
        if self.reason is None:
            print(json.dumps(limits), file=self.process.stdin, flush=True)
            return self._hear()
        return {}

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _hear(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"ended with exit status {self.process.wait()}"}
        self.reason = answer.get("error")
        return answer if self.reason is None else {}


def open_solvers(file, arguments):
    """All processes, ours first, with the problem in their memory; without those that cannot run."""
    wanted = [(text, "sparselm", linear_solver(text)) for text in arguments.ours]
    wanted += [(name, *PEERS[name]) for name in arguments.peers]
    pythons = {"ceres": arguments.pycolmap_python, "gtsam": arguments.gtsam_python}
    solvers = []
    for name, side, options in wanted:
        solver = Solver(name, side, options, pythons.get(side, sys.executable), file, arguments.threads)
        solvers.append(solver)
        if solver.reason:
            print(f"skipped: {name}: {solver.reason}{remedy(side)}", flush=True)
    return [solver for solver in solvers if solver.reason is None]


def linear_solver(text):
    """The options of our side from NAME:KEY=VALUE,…"""
    from sparselm.plugins import parse_value

    name, _, rest = text.partition(":")
    pairs = [pair.partition("=")[::2] for pair in rest.split(",") if pair]
    if any(not value for _, value in pairs):
        sys.exit(f"--ours {text}: expected NAME or NAME:KEY=VALUE,…")
    return {"solver": name, "settings": {key: parse_value(value) for key, value in pairs}}


def remedy(side):
    package = {"ceres": "pycolmap", "gtsam": "gtsam"}.get(side)
    if package is None:
        return ""
    return f" (pip install {package} into a virtual environment, and name its interpreter with --{package}-python)"


def compare(facts, file, arguments):
    """Solve in turns; everything that was found, as a dictionary."""
    limits = {"function_tolerance": arguments.function_tolerance, "seconds": arguments.time_limit}
    limits |= {"iterations": arguments.iterations}
    solvers = open_solvers(file, arguments)
    if not solvers:
        sys.exit("no solver can run")
    for solver in solvers:
        solver.first = solver.solve(**limits)
        if solver.first.get("compiling"):  # a compiler takes memory that it does not give back
            solver.close()
            solver.start()
            solver.solve(**limits)
    search = solvers[0].solve(**limits | PATIENT) if arguments.best is None else {}
    for _ in range(arguments.runs):
        for solver in solvers:
            time.sleep(arguments.pause)
            solver.runs.append(solver.solve(**limits))
    for solver in solvers:
        solver.close()
        if solver.reason:
            print(f"{solver.name} failed: {solver.reason}", flush=True)
    solvers = [solver for solver in solvers if solver.reason is None]
    if not solvers:
        sys.exit("every solver failed")
    seen = [run["trace"] for solver in solvers for run in [solver.first, *solver.runs]]
    seen += [search["trace"]] if search else []
    best = min(traces.lowest_cost(seen), arguments.best or math.inf)
    return facts | {
        "threads": arguments.threads,
        "initial": solvers[0].first["trace"][0][1],
        "best": best,
        "solvers": [result(solver, best) for solver in solvers],
    }


def result(solver, best):
    runs = [run["trace"] for run in solver.runs]
    found = {"name": solver.name, "side": solver.side, "facts": solver.facts, "first": solver.first, "runs": solver.runs}
    summary = traces.summary(runs, best)
    if "total" in solver.runs[0]:  # Ceres's table lacks the step that meets a tolerance: it is tried, but not applied
        summary["own_stop"] = median(run["total"] for run in solver.runs)
    return found | {"summary": summary}


def machine():
    return {"platform": platform.platform(), "processors": os.cpu_count(), "load": os.getloadavg()}


# -- what is printed ---------------------------------------------------------------------------------------------------


def tell(problem, arguments):
    """Print one problem's figures."""
    sizes = ", ".join(f"{count:,} {what}" for what, count in problem["sizes"].items())
    left_out = f"; {problem['points_left_out']} points left out" if arguments.front else ""
    print(f"\n{problem['name']}: {sizes}{left_out}; {arguments.threads} threads, {arguments.runs} runs")
    print(f"initial cost {problem['initial']:.6e}, best known {problem['best']:.8e}")
    solvers = problem["solvers"]
    ceres = [solver["summary"]["median"] for solver in solvers if solver["side"] == "ceres"]
    print("seconds to within … of the best cost: median (fastest), and the median over that of the fastest Ceres")
    levels = "".join(f"{f'{100.0 * level:g} %':^24s}" for level in traces.LEVELS)
    print(f"{'':26s}{levels}  steps to  seconds    own stop                   RSS in MB")
    print(f"{'':100s}0.1 %    a step     seconds steps excess    before   peak")
    for solver in solvers:
        print(line(solver, ceres))
    for solver in solvers:
        print(f"{solver['name']}: {solver['first'].get('facts') or solver['facts']}; {first_run(solver['first'])}")
        for warning in warnings(solver, problem["initial"]):
            print(f"  {warning}")
    foreign = median(run["foreign"] for solver in solvers for run in solver["runs"])
    print(f"other processes took {100.0 * foreign:.0f} % of a processor during the runs (median)", flush=True)


def line(solver, ceres):
    """A solver's row of the table."""
    own = solver["summary"]
    quotients = traces.ratios(own["median"], ceres)
    cells = "".join(
        f"{number(middle, '8.3f')} {'(' + number(least, '.3f') + ')':>9s} {number(ratio, '5.2f')}"
        for middle, least, ratio in zip(own["median"], own["fastest"], quotients, strict=True)
    )
    stop = f"{own['own_stop']:8.3f} {own['own_steps']:5g} {own['own_excess']:9.1e}"
    run = max(solver["runs"], key=lambda run: run["memory_peak"])
    memory = f"{run['memory_before']:8.0f} {run['memory_peak']:6.0f}"
    steps, each = number(own["steps"], "8g"), number(own["seconds_per_step"], "9.4f")
    return f"{solver['name']:25s} {cells} {steps} {each}   {stop}  {memory}"


def number(value, form):
    """A number in a column, or a dash where there is none."""
    width = form.partition(".")[0].rstrip("g")
    return format(value, form) if value is not None and value < math.inf else format("–", f">{width}s")


def first_run(run):
    told = "".join(f", {what} {run[what]:.2f} s" for what in ("compiling", "loading") if run.get(what))
    return f"first run {run['wall']:.2f} s{told}"


def warnings(solver, initial):
    """What makes a solver's figures doubtful."""
    last = solver["runs"][-1]
    start, final = last["trace"][0][1], last["trace"][-1][1]
    if abs(start / initial - 1.0) > 1e-5:
        yield f"WARNING: its cost at the start is {start:.6e}: not the same problem"
    if abs(final / last["check"] - 1.0) > 1e-5:
        yield f"WARNING: its final cost {final:.6e} is {last['check']:.6e} by BAL's model: points went behind cameras?"
    late = max(run.get("compiling", 0.0) + run.get("loading", 0.0) for run in solver["runs"])
    if late > 0.0:
        yield f"WARNING: {late:.2f} s of compiling and loading in a timed run"


def write_json(path, figures):
    """Write what was measured; what is infinite, because it was never reached, becomes null."""
    figures = json.loads(json.dumps(figures), parse_constant=lambda _: None)
    Path(path).write_text(json.dumps(figures, indent=1))


def plot(problems, path):
    """Relative excess of the cost over seconds, one line a solver: its run in the middle."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.5 * len(problems)), layout="constrained")
    for axes, problem in zip(figure.subplots(len(problems), squeeze=False)[:, 0], problems, strict=True):
        for solver in problem["solvers"]:
            middle = traces.middle_run([run["trace"] for run in solver["runs"]], problem["best"])
            above = traces.excess(middle, problem["best"])
            seconds, excess = [now for now, _ in above], [value for _, value in above]
            style = "-" if solver["side"] == "sparselm" else "--"
            axes.plot(seconds, excess, style, drawstyle="steps-post", label=solver["name"])
        for level in traces.LEVELS:
            axes.axhline(level, color="0.8", linewidth=0.8, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="cost / best − 1", title=problem["name"])
        axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

"""Bundle adjustment of growing streets: what one more doubling costs, phase by phase.

Streets of one track law, with as many cameras near one another, that get longer: cameras, points and observations double
together. Each phase is timed in turns over all sizes, best of ``--rounds``; memory is what arrays of the plan and the
linearisation hold, per observation. The factor of the reduced system, whose size depends on the graph of the cameras, stands
apart from the rest of the direct solver.
"""

import argparse
import importlib.util
import json
import sys
import time

import numpy as np

import sparselm as slm
from sparselm.datasets import street
from sparselm.evaluator import Evaluator
from sparselm.io.bal import to_problem
from sparselm.structure import Structure
from sparselm.threads import use_threads

PHASES = ("analyze", "linearize", "eliminate", "factorize", "product")
MOST_FACTORIZATIONS = 3
BYTES = ("bytes_implicit", "bytes_direct", "bytes_factor")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=int, nargs="*", default=[250, 500, 1000, 2000])
    parser.add_argument("--points-per-camera", type=int, default=100)
    parser.add_argument("--observations-per-camera", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write all figures to a file")
    parser.add_argument("--plot", help="write a picture")
    arguments = parser.parse_args()
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    with use_threads(arguments.threads):
        sizes = [Size(n, arguments) for n in arguments.cameras]
        for _ in range(arguments.rounds):
            for size in sizes:
                size.measure()
    tell(sizes)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([{"cameras": s.cameras, "observations": s.observations, **s.best()} for s in sizes], file)
    if arguments.plot:
        draw(sizes, arguments.plot)


class Size:
    """One street, analysed for both solvers."""

    def __init__(self, cameras, arguments):
        scene = street(
            cameras,
            cameras * arguments.points_per_camera,
            num_observations=cameras * arguments.observations_per_camera,
        )
        self.cameras, self.observations = cameras, len(scene.data.pixels)
        problem = to_problem(scene.data)
        self.structure = Structure(problem)
        self.evaluator = Evaluator(problem, self.structure)
        self.direct, self.iterative = slm.SchurCholesky(), slm.SchurPCG()
        self.times = {phase: [] for phase in PHASES}
        self.linearization = self.evaluator.linearize()
        self.damping = 1e-4 * np.clip(self.linearization.diagonal, 1e-6, 1e32)
        self.plan = self.direct.analyze(self.structure)
        self.system = self.iterative.analyze(self.structure)
        self.iterative.factorize(self.iterative.prepare(self.system, self.linearization), self.damping)
        self.x = np.random.default_rng(0).standard_normal(len(self.system.reduced))
        self.measure()
        self.times = {phase: [] for phase in PHASES}

    def measure(self):
        """Time each phase once."""
        reduced, out = self.plan, np.zeros_like(self.x)
        self.clock("analyze", lambda: self.direct.analyze(self.structure))
        self.clock("linearize", self.evaluator.linearize)
        self.direct.prepare(reduced, self.linearization)
        self.clock("eliminate", lambda: self.eliminate(reduced))
        if len(self.times["factorize"]) < MOST_FACTORIZATIONS:  # they take longer than all the rest, and are told apart
            self.clock("factorize", lambda: reduced.numeric.factorize(reduced.damping))
        self.clock("product", lambda: self.system.system.multiply(self.x, out))

    def eliminate(self, plan):
        """All but the factorisation: factors of points, and the blocks of S."""
        plan.elimination.factorize(self.linearization, self.damping)
        plan.matrix.compute(plan.elimination, plan.numeric.store)
        np.take(self.damping, plan.partition.columns, out=plan.damping)

    def clock(self, phase, run):
        """Note the seconds of one call."""
        began = time.perf_counter()
        run()
        self.times[phase].append(time.perf_counter() - began)

    def best(self):
        """Milliseconds of each phase, and bytes."""
        found = {phase: 1e3 * min(times) for phase, times in self.times.items()}
        found["bytes_implicit"] = held([self.linearization, self.system])
        found["bytes_direct"] = held([self.linearization, self.plan.elimination, self.plan.matrix])
        found["bytes_factor"] = held([self.plan.numeric])
        return found


def held(roots):
    """Bytes of all arrays that can be reached, each memory counted once."""
    seen, pending, total = set(), list(roots), 0
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            if thing.base is None:
                total += thing.nbytes
            else:
                pending.append(thing.base)
        elif isinstance(thing, (list, tuple)):
            pending += thing
        elif isinstance(thing, dict):
            pending += thing.values()
        elif type(thing).__module__.startswith("sparselm"):
            slots = [getattr(thing, name) for name in getattr(thing, "__slots__", ()) if hasattr(thing, name)]
            pending += [*slots, *getattr(thing, "__dict__", {}).values()]
    return total


def tell(sizes):
    """A table: each phase, and what doubling costs."""
    names = [*PHASES, *BYTES]
    print(f"{'cameras':>8} {'observations':>13}" + "".join(f"{name:>24}" for name in names))
    before = None
    for size in sizes:
        now = size.best()
        cells = []
        for name in names:
            value = f"{now[name] / size.observations:.0f} B/obs" if name.startswith("bytes") else f"{now[name]:.2f} ms"
            cells.append(value + (f" (x{now[name] / before[name]:.2f})" if before else ""))
        print(f"{size.cameras:>8} {size.observations:>13,}" + "".join(f"{cell:>24}" for cell in cells))
        before = now


def draw(sizes, path):
    """Milliseconds and megabytes over observations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    observations = [size.observations for size in sizes]
    for phase in PHASES:
        axes.loglog(observations, [size.best()[phase] for size in sizes], marker="o", label=f"{phase}, ms")
    for name in BYTES:
        axes.loglog(observations, [size.best()[name] / 1e6 for size in sizes], "--", label=f"{name[6:]}, MB")
    axes.set_xlabel("observations")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()

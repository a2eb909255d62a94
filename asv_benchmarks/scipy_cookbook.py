"""SciPy's cookbook on bundle adjustment: ``scipy.optimize.least_squares`` against ``sparselm.least_squares``, live.

The residual function is one of a SciPy user, vectorised over the observations with NumPy, and both sides get the same
arguments: ``jac_sparsity``, ``x_scale="jac"``, ``ftol=1e-4``, ``method="trf"``. Each side runs in a process of its own,
taking turns; the best turn of each counts. A step is made before the clock runs, so that kernels are compiled and loaded.

    python scipy_cookbook.py problem-49-7776-pre.txt.bz2 --rounds 3
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from scipy.sparse import coo_array


def main():
    parser = argparse.ArgumentParser(description="SciPy's bundle adjustment: SciPy against sparselm.")
    parser.add_argument("file", help="BAL file")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side")
    parser.add_argument("--side", choices=("scipy", "sparselm"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.file, arguments.side)))
        return
    turns = {"scipy": [], "sparselm": []}
    for _ in range(arguments.rounds):
        for side, found in turns.items():
            found.append(call(arguments.file, side))
    for side, found in turns.items():
        seconds = [turn["seconds"] for turn in found]
        last = found[-1]
        print(
            f"{side}: {min(seconds):.2f} s (best of {len(seconds)}), {median(seconds):.2f} s (median); "
            f"cost {last['cost']:.6e}, {last['nfev']} evaluations, {last['njev']} Jacobians, status {last['status']}"
        )
    for name, pick in (("best", min), ("medians", median)):
        ratio = pick(t["seconds"] for t in turns["scipy"]) / pick(t["seconds"] for t in turns["sparselm"])
        print(f"ratio scipy / sparselm ({name}): {ratio:.1f}")
    if turns["sparselm"][-1]["cost"] > turns["scipy"][-1]["cost"]:
        sys.exit("the cost of sparselm is the higher one: times do not compare")


def call(file, side):
    command = [sys.executable, str(Path(__file__).resolve()), file, "--side", side]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def rotate(points, vectors):
    """Rodrigues's formula, row by row."""
    angle = np.linalg.norm(vectors, axis=1)[:, None]
    axis = np.divide(vectors, angle, out=np.zeros_like(vectors), where=angle > 0.0)
    along = np.sum(points * axis, axis=1)[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * points + sine * np.cross(axis, points) + along * (1.0 - cosine) * axis


def project(points, cameras):
    """Pixels of points in cameras of the BAL kind, row by row."""
    seen = rotate(points, cameras[:, :3]) + cameras[:, 3:6]
    plane = -seen[:, :2] / seen[:, 2:]
    squared = np.sum(plane * plane, axis=1)
    distortion = 1.0 + cameras[:, 7] * squared + cameras[:, 8] * squared**2
    return plane * (cameras[:, 6] * distortion)[:, None]


def residual_function(data):
    """Residuals as a function of one vector, cameras then points, and where it starts; data as arrays by name."""
    num_camera_values = data["cameras"].size

    def fun(x):
        cameras, points = x[:num_camera_values].reshape(-1, 9), x[num_camera_values:].reshape(-1, 3)
        return (project(points[data["point_index"]], cameras[data["camera_index"]]) - data["pixels"]).ravel()

    return fun, np.hstack((data["cameras"].ravel(), data["points"].ravel()))


def sparsity(data):
    """Two rows an observation, nine columns a camera, three a point."""
    offset = 9 * len(data["cameras"])
    columns = np.hstack(
        (9 * data["camera_index"][:, None] + np.arange(9), offset + 3 * data["point_index"][:, None] + np.arange(3))
    )
    columns = np.repeat(columns, 2, axis=0)
    rows = np.repeat(np.arange(len(columns)), 12)
    shape = (len(columns), offset + 3 * len(data["points"]))
    return coo_array((np.ones(rows.size, dtype=int), (rows, columns.ravel())), shape=shape).tocsr()


def measure(file, side):
    """Seconds of one run."""
    from sparselm.io import read_bal

    if side == "scipy":
        from scipy.optimize import least_squares
    else:
        from sparselm import least_squares
    data = vars(read_bal(file))
    fun, start = residual_function(data)
    pattern = sparsity(data)
    options = {"jac_sparsity": pattern, "x_scale": "jac", "ftol": 1e-4, "method": "trf"}
    least_squares(fun, start, **options, max_nfev=2)
    began = time.perf_counter()
    result = least_squares(fun, start, **options)
    return {
        "seconds": time.perf_counter() - began,
        "cost": float(result.cost),
        "nfev": int(result.nfev),
        "njev": int(result.njev),
        "status": int(result.status),
    }


if __name__ == "__main__":
    main()

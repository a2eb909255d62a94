"""One evaluation of residuals, Jacobian and gradient: sparselm against the Ceres inside the pycolmap wheel, live.

Both sides evaluate the same bundle-adjustment problem on the same number of threads, taking turns, each in a process and
an interpreter of its own. The time of ours is that of ``Evaluator.linearize``: r, J, Jᵀr, diag JᵀJ and the cost. The time
of Ceres is what its summary calls Jacobian evaluation, divided by the number of evaluations: r, J and Jᵀr. Both are means
over a turn; each side's best turn counts. Run it on an idle machine: parallel kernels of a millisecond wait for every
thread, and suffer most from other work. ``--residual function`` takes Snavely's camera as a user would write it, in twelve
lines with automatic derivatives, ``prepared`` the same with its rotation matrix prepared per camera.

COLMAP cameras look along +z, those of BAL along −z: with D = diag(1, −1, −1), a BAL camera (R, t) is COLMAP's (D R, D t)
and a pixel (u, v) becomes (u, −v); its RADIAL model with a principal point held at zero is then Snavely's, and costs agree.
They differ for points behind a camera, to which COLMAP gives no residual: points with an observation at z ≥ 0 in BAL's
camera frame are left out on both sides.
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
    import numpy as np

    from sparselm.datasets.bundle_adjustment import camera_coordinates
    from sparselm.io import BundleAdjustmentData, read_bal, write_bal

    data = read_bal(file)
    depth = camera_coordinates(data.cameras, data.points, data.camera_index, data.point_index)[:, 2]
    keep = np.ones(len(data.points), dtype=bool)
    keep[data.point_index[depth >= 0.0]] = False
    seen = keep[data.point_index]
    point_index = (np.cumsum(keep) - 1)[data.point_index[seen]]
    front = BundleAdjustmentData(data.cameras, data.points[keep], data.camera_index[seen], point_index, data.pixels[seen])
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
    import numpy as np
    import pycolmap
    from pycolmap import pyceres

    with contextlib.suppress(AttributeError):
        pycolmap.logging.minloglevel = 2
    data = np.load(file)
    reconstruction = as_reconstruction(pycolmap, data)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = True
    options.refine_principal_point = options.refine_sensor_from_rig = False
    options.ceres.auto_select_solver_type = False
    options.ceres.min_num_residuals_for_cpu_multi_threading = 0
    solver = options.ceres.solver_options
    solver.linear_solver_type = pyceres.LinearSolverType.SPARSE_SCHUR
    solver.num_threads = arguments.threads
    solver.max_num_iterations = arguments.evaluations
    solver.function_tolerance = solver.gradient_tolerance = solver.parameter_tolerance = 0.0
    options.ceres.solver_options = solver
    config = pycolmap.BundleAdjustmentConfig()
    for image in range(1, len(data["cameras"]) + 1):
        config.add_image(image)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, reconstruction)
    summary = adjuster.solve().ceres_summary
    return {
        "seconds": summary.jacobian_evaluation_time_in_seconds / summary.num_jacobian_evaluations,
        "evaluations": summary.num_jacobian_evaluations,
        "cost": summary.initial_cost,
        "version": pycolmap.__version__,
    }


def as_reconstruction(pycolmap, data):
    """One camera, rig, image and frame per BAL camera, and a track per point."""
    import numpy as np

    flip = np.array([1.0, -1.0, -1.0])
    camera_index, point_index, pixels = data["camera_index"], data["point_index"], data["pixels"]
    reconstruction = pycolmap.Reconstruction()
    tracks = [pycolmap.Track() for _ in data["points"]]
    for number, (*pose, focal, k1, k2) in enumerate(data["cameras"], start=1):
        observations = np.flatnonzero(camera_index == number - 1)
        camera = pycolmap.Camera(
            model="RADIAL", width=1, height=1, camera_id=number, params=[focal, 0.0, 0.0, k1, k2]
        )
        reconstruction.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(
            name=str(number), keypoints=pixels[observations] * flip[:2], camera_id=number, image_id=number
        )
        rotation = pycolmap.Rotation3d(flip[:, None] * rotation_matrix(np.array(pose[:3])))
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, flip * np.array(pose[3:])))
        for keypoint, observation in enumerate(observations):
            tracks[point_index[observation]].add_element(number, keypoint)
    for point, track in zip(data["points"], tracks, strict=True):
        reconstruction.add_point3D(point, track)
    return reconstruction


def rotation_matrix(axis_angle):
    """Rodrigues's formula."""
    import numpy as np

    angle = np.linalg.norm(axis_angle)
    x, y, z = axis_angle / angle if angle > 0.0 else axis_angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


if __name__ == "__main__":
    main()

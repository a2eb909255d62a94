"""Bundle adjustment problems of BAL as pycolmap has them, and its Ceres set up for them.

COLMAP cameras look along +z, those of BAL along −z: with D = diag(1, −1, −1), a BAL camera (R, t) is COLMAP's (D R, D t)
and a pixel (u, v) becomes (u, −v); its RADIAL model with a principal point held at zero is then Snavely's, and costs agree.
They differ for points behind a camera, to which COLMAP gives no residual.
"""

import numpy as np
import pycolmap
from pycolmap import pyceres
from snavely import FLIP, rotation_matrices


def as_reconstruction(data):
    """One camera, rig, image and frame per BAL camera, numbered from 1, and a track per point."""
    cameras, pixels = data["cameras"], data["pixels"] * FLIP[:2]
    camera_index, point_index = data["camera_index"], data["point_index"]
    reconstruction = pycolmap.Reconstruction()
    tracks = [pycolmap.Track() for _ in data["points"]]
    rotations = FLIP[:, None] * rotation_matrices(cameras[:, :3])
    by_camera = np.argsort(camera_index, kind="stable")
    starts = np.searchsorted(camera_index, np.arange(1, len(cameras)), sorter=by_camera)
    for number, observations in enumerate(np.split(by_camera, starts), start=1):
        focal, k1, k2 = cameras[number - 1, 6:]
        camera = pycolmap.Camera(
            model="RADIAL", width=1, height=1, camera_id=number, params=[focal, 0.0, 0.0, k1, k2]
        )
        reconstruction.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=str(number), keypoints=pixels[observations], camera_id=number, image_id=number)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotations[number - 1]), FLIP * cameras[number - 1, 3:6])
        reconstruction.add_image_with_trivial_frame(image, pose)
        for keypoint, point in enumerate(point_index[observations].tolist()):
            tracks[point].add_element(number, keypoint)
    for point, track in zip(data["points"], tracks, strict=True):
        reconstruction.add_point3D(point, track)
    return reconstruction


def make_adjuster(reconstruction, **solver_options):
    """Ceres's problem with every camera and point free; options are fields of ``ceres::Solver::Options``.

    It points into the reconstruction without keeping it: the caller has to, for as long as it solves.
    """
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = True
    options.refine_principal_point = options.refine_sensor_from_rig = False
    options.ceres.auto_select_solver_type = False
    options.ceres.min_num_residuals_for_cpu_multi_threading = 0
    # Ceres's defaults rather than COLMAP's, which stop elsewhere.
    solver = pyceres.SolverOptions()
    for name, value in solver_options.items():
        setattr(solver, name, value)
    options.ceres.solver_options = solver
    config = pycolmap.BundleAdjustmentConfig()
    for image in range(1, reconstruction.num_images() + 1):
        config.add_image(image)
    return pycolmap.create_default_ceres_bundle_adjuster(options, config, reconstruction)


def read_back(reconstruction):
    """Rotations ``(n, 3, 3)``, cameras ``(n, 9)`` without theirs, and points in BAL's convention."""
    numbers = range(1, reconstruction.num_images() + 1)
    poses = [reconstruction.image(number).cam_from_world() for number in numbers]
    cameras = np.zeros((len(poses), 9))
    cameras[:, 3:6] = FLIP * np.array([pose.translation for pose in poses])
    cameras[:, 6:] = [np.asarray(reconstruction.camera(number).params)[[0, 3, 4]] for number in numbers]
    rotations = FLIP[:, None] * np.array([pose.rotation.matrix() for pose in poses])
    points = np.array([reconstruction.point3D(number).xyz for number in sorted(reconstruction.point3D_ids())])
    return rotations, cameras, points

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from datasets.layout import NTU25
from leaderboard.skeletons import SIDES, Skeleton, draw_strip, flatten, pose_lines, side_by_side
from leaderboard.style import canvas

SKELETON = Skeleton(NTU25.bones, NTU25.sides)


def body(frames: int = 4, persons: int = 2) -> np.ndarray:
    """An upright body (T, M, V, 3): head above, feet below, left shoulder at -x."""
    pose = np.random.default_rng(0).normal(0, 0.02, (frames, persons, 25, 3))
    names = NTU25.joints
    for joint, place in {"head": (0, 0.4, 0), "left_foot": (-0.1, -0.9, 0), "right_foot": (0.1, -0.9, 0)}.items():
        pose[:, :, names.index(joint)] += place
    pose[:, :, names.index("left_shoulder")] += (-0.2, 0, 0)
    pose[:, :, names.index("right_shoulder")] += (0.2, 0, 0)
    return pose


def test_seen_from_the_front_heads_are_up_and_the_left_side_is_on_the_right() -> None:
    flat = flatten(body())
    x, y = flat[..., 0], flat[..., 1]
    names = NTU25.joints
    assert (y[..., names.index("head")] > y[..., names.index("left_foot")]).all()
    assert (x[..., names.index("left_shoulder")] > x[..., names.index("right_shoulder")]).all()
    front = flatten(np.array([[1.0, 2.0, 3.0]]), azimuth=0)
    np.testing.assert_allclose(front, [[-1.0, 2.0]])


def test_turning_keeps_lengths_in_the_plane_of_the_page() -> None:
    points = np.random.default_rng(1).normal(size=(5, 3))
    full = np.stack([flatten(points, azimuth)[:, 0] for azimuth in (0, 90)])
    np.testing.assert_allclose((full**2).sum(axis=0), points[:, 0] ** 2 + points[:, 2] ** 2)


def test_two_persons_do_not_overlap_and_absent_ones_stay_absent() -> None:
    poses = body()
    flat = side_by_side(flatten(poses))
    assert flat[:, 1, :, 0].min() > flat[:, 0, :, 0].max()
    np.testing.assert_allclose(np.ptp(flat[:, 1, :, 0]), np.ptp(flatten(poses)[:, 1, :, 0]))
    poses[2, 1] = 0
    assert not side_by_side(flatten(poses))[2, 1].any()
    poses[:, 1] = 0
    np.testing.assert_array_equal(side_by_side(flatten(poses)), flatten(poses))


def test_bones_join_every_joint_with_its_parent_in_the_colour_of_its_side() -> None:
    flat = flatten(body(1))[0]
    flat[1] = 0
    lines, colours, joints = pose_lines(flat, SKELETON)
    pairs = [(v, p) for v, p in enumerate(NTU25.bones) if v != p]
    assert lines.shape == (24, 2, 2)  # of the person that is there
    for line, (joint, parent) in zip(lines, pairs, strict=True):
        np.testing.assert_array_equal(line, flat[0][[joint, parent]])
    assert len(joints) == 25
    assert len(np.unique(colours, axis=0)) == len(SIDES)
    assert [NTU25.sides[NTU25.joints.index(name)] for name in ("left_hand", "right_hand", "neck")] == [
        "left",
        "right",
        "",
    ]


def test_a_bone_is_marked_when_both_its_ends_are() -> None:
    flat = flatten(body(1, 1))[0, 0]
    weights = np.zeros(25)
    weights[NTU25.joints.index("left_hand")] = 1
    _, grey, _ = pose_lines(flat, SKELETON, np.zeros(25))
    _, bones, joints = pose_lines(flat, SKELETON, weights)
    np.testing.assert_array_equal(bones, grey)
    assert len(np.unique(joints, axis=0)) == 2


@pytest.mark.parametrize("persons", [1, 2])
def test_a_strip_holds_all_poses_inside_its_limits(persons) -> None:
    poses = body(5, persons)
    with canvas():
        axes = Figure().subplots()
        spacing = draw_strip(axes, poses, SKELETON, np.ones((5, persons, 25)), [str(i) for i in range(5)])
        places = np.concatenate(
            [np.concatenate(c.get_segments()) for c in axes.collections if hasattr(c, "get_segments")]
        )
    assert spacing > 0
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert low < places[:, 0].min() < places[:, 0].max() < high
    assert bottom < places[:, 1].min() < places[:, 1].max() < top
    assert len(axes.texts) == 5

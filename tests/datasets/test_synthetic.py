"""The embedded set: deterministic, plausible bodies, balanced, fair splits, and a truth that fits what moves."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from datasets.actionlets import actionlet_iou, chance_iou, largest, motion_energy, score_actionlets
from datasets.clips import from_storage, to_storage
from datasets.layout import NTU25
from datasets.synthetic import (
    AROUND,
    DISPLACED,
    SUBJECTS,
    TRAINING_SUBJECTS,
    Synthetic,
    displacement,
    generate,
    load_actionlets,
    partner_of,
)
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_body import (
    ANGLES,
    PARENTS,
    bone_offsets,
    forward_kinematics,
    mirror,
    pose_angles,
    stand,
    turn_about_y,
)
from datasets.synthetic_scene import make_subject, observe, perform
from engine.config import BenchError

JOINT = {name: index for index, name in enumerate(NTU25.joints)}
LABEL = {action.name: label for label, action in enumerate(ACTIONS)}
TWO = [label for label, action in enumerate(ACTIONS) if action.partner]
NORMAL = bone_offsets(1.75, dict.fromkeys(("trunk", "head", "shoulders", "arms", "hands", "hips", "legs", "feet"), 1.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder with the whole set."""
    folder = tmp_path_factory.mktemp("data")
    Synthetic(folder).prepare(None, lambda line: None)
    return folder


@pytest.fixture(scope="module")
def split(root):
    """The default split."""
    return Synthetic(root).load("xsub")


@pytest.fixture(scope="module")
def performances():
    """One performance of every class."""
    return [perform(label, 2, 1, partner_of(2)) for label in range(len(ACTIONS))]


def posed(**pose):
    """Joint positions of a normal body in a pose, the pelvis at the origin."""
    return forward_kinematics(pose_angles(pose)[None], NORMAL)[0]


def bones(bodies):
    child = [v for v, parent in enumerate(PARENTS) if parent >= 0]
    return np.linalg.norm(bodies[..., child, :] - bodies[..., [PARENTS[v] for v in child], :], axis=-1)


# --- the body


def test_rest_pose_is_symmetric_and_as_tall_as_asked():
    body = posed()
    np.testing.assert_allclose(body[list(NTU25.flip)] * (-1, 1, 1), body, atol=1e-12)
    assert body[JOINT["right_shoulder"], 0] > 0, "x points to the subject's right"
    assert body[JOINT["right_foot"], 2] < body[JOINT["right_ankle"], 2], "toes point to the front, which is -z"
    height = body[JOINT["head"], 1] - body[[JOINT["left_foot"], JOINT["right_foot"]], 1].min()
    assert 0.9 * 1.75 < height < 1.75


@pytest.mark.parametrize(
    ("pose", "joint", "parent", "direction"),
    [
        ({"right_arm_forward": 90}, "right_elbow", "right_shoulder", (0, 0, -1)),
        ({"right_arm_outward": 90}, "right_elbow", "right_shoulder", (1, 0, 0)),
        ({"left_arm_outward": 90}, "left_elbow", "left_shoulder", (-1, 0, 0)),
        ({"arms_outward": 180}, "left_elbow", "left_shoulder", (0, 1, 0)),
        ({"right_elbow": 90}, "right_wrist", "right_elbow", (0, 0, -1)),
        ({"right_arm_outward": 90, "right_elbow": 90, "right_arm_roll": 90}, "right_wrist", "right_elbow", (0, 1, 0)),
        ({"left_arm_outward": 90, "left_elbow": 90, "left_arm_roll": 90}, "left_wrist", "left_elbow", (0, 1, 0)),
        ({"legs_forward": 90, "knees": 90}, "left_ankle", "left_knee", (0, -1, 0)),
        ({"knees": 90}, "right_ankle", "right_knee", (0, 0, 1)),
        ({"lean": 90}, "right_knee", "right_hip", (0, -1, 0)),
        ({"turn": 90}, "right_shoulder", "left_shoulder", (0, 0, -1)),
    ],
)
def test_angles_turn_segments_the_way_their_names_say(pose, joint, parent, direction):
    body = posed(**pose)
    bone = body[JOINT[joint]] - body[JOINT[parent]]
    np.testing.assert_allclose(bone / np.linalg.norm(bone), direction, atol=1e-6)


def test_bending_moves_the_head_forward_and_down():
    upright, bent = posed()[JOINT["head"]], posed(bend=60)[JOINT["head"]]
    assert bent[2] < upright[2] - 0.3
    assert bent[1] < upright[1] - 0.1


def test_mirroring_the_angles_mirrors_the_body():
    angles = np.random.default_rng(0).normal(0, 40, (5, len(ANGLES)))
    body, mirrored = (forward_kinematics(a, NORMAL) for a in (angles, mirror(angles)))
    np.testing.assert_allclose(mirrored, body[:, list(NTU25.flip)] * (-1, 1, 1), atol=1e-9)


def test_unknown_angle_is_refused():
    with pytest.raises(KeyError):
        pose_angles({"right_tail": 10})


def test_walking_carries_the_body_forward_and_standing_still_does_not():
    walk = perform(LABEL["walk"], 2, 1, 5)
    step = walk.bodies[0, -1, 0] - walk.bodies[0, 0, 0]
    assert np.hypot(step[0], step[2]) > 0.8
    still = np.repeat(posed()[None], 4, axis=0)
    placed = stand(still + np.array([0.3, 2.0, 1.0]) * np.arange(4)[:, None, None])
    np.testing.assert_allclose(placed - placed[:1], 0, atol=1e-9)


# --- performances


@pytest.mark.parametrize("label", range(len(ACTIONS)), ids=[action.name for action in ACTIONS])
def test_bodies_are_plausible(performances, label):
    scene = performances[label]
    lengths = bones(scene.bodies)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape), atol=1e-9)
    feet = scene.bodies[:, :, [14, 15, 18, 19], 1].min(axis=2)
    np.testing.assert_allclose(feet, 0, atol=1e-9, err_msg="somebody floats or sinks")
    assert scene.bodies[..., 1].min() > -1e-9, "a joint below the floor"
    speed = np.linalg.norm(np.diff(scene.bodies, axis=1), axis=-1) * 30
    assert speed.max() < 15, "faster than a person"


def test_bones_differ_between_subjects_and_do_not_between_takes():
    same = [bones(perform(label, 3, take, 4).bodies)[0, 0] for label, take in ((0, 1), (0, 2), (12, 1))]
    np.testing.assert_allclose(same, np.broadcast_to(same[0], np.shape(same)), atol=1e-9)
    heights = [np.abs(make_subject(subject).offsets).sum() for subject in range(1, SUBJECTS + 1)]
    assert np.std(heights) / np.mean(heights) > 0.03
    assert len(set(heights)) == SUBJECTS


@pytest.mark.parametrize("label", TWO, ids=[ACTIONS[label].name for label in TWO])
def test_two_persons_face_each_other_and_touch(label):
    for subject in (1, 2, 7):
        bodies = perform(label, subject, 1, partner_of(subject)).bodies
        apart = bodies[1, 0, 0] - bodies[0, 0, 0]
        assert 0.4 < np.hypot(apart[0], apart[2]) < 1.6
        for own, other in ((0, 1), (1, 0)):
            shoulders = bodies[own, 0, JOINT["right_shoulder"]] - bodies[own, 0, JOINT["left_shoulder"]]
            front = np.cross((0, 1, 0), shoulders)
            towards = bodies[other, 0, 0] - bodies[own, 0, 0]
            front, towards = front * (1, 0, 1), towards * (1, 0, 1)
            assert front @ towards / np.linalg.norm(front) / np.linalg.norm(towards) > 0.6
        hands = bodies[:, :, [7, 11, 21, 23]]
        reach = np.linalg.norm(hands[0][:, :, None] - bodies[1][:, None], axis=-1).min()
        assert min(reach, np.linalg.norm(hands[1][:, :, None] - bodies[0][:, None], axis=-1).min()) < 0.25


def test_actions_end_as_they_should():
    def height(name, frame):
        return np.mean([perform(LABEL[name], s, 1, 4).bodies[0, frame, 0, 1] for s in (1, 2, 3)])

    assert height("sit down", -1) < 0.78 * height("sit down", 0)
    assert height("stand up", 0) < 0.78 * height("stand up", -1)
    assert height("squat", -1) == pytest.approx(height("squat", 0), rel=0.03)


@pytest.mark.parametrize("label", range(len(ACTIONS)), ids=[action.name for action in ACTIONS])
def test_truth_is_nothing_while_idling_and_something_in_the_action(performances, label):
    scene = performances[label]
    moved = displacement(scene)
    first, last = scene.span
    assert moved[:, : max(first - AROUND, 0)].max(initial=0) < 1e-9
    during = moved[:, first:last] > DISPLACED
    assert during.any(axis=(1, 2)).all(), "every person takes part"
    assert 0.03 < during.mean() < 0.95
    assert moved[:, :, NTU25.centre].max() < 1e-9
    if ACTIONS[label].name not in ("sit down", "stand up"):
        assert moved[:, last + AROUND + 1 :].max(initial=0) < 1e-9
    else:
        assert (moved[:, -1] > DISPLACED).mean() > 0.3


def test_truth_names_the_limbs_that_act():
    def share(name, joint):
        return np.mean(
            [(displacement(perform(LABEL[name], s, 1, 4)) > DISPLACED)[0, :, JOINT[joint]].mean() for s in range(1, 7)]
        )

    for side in ("left", "right"):
        assert share("wave", f"{side}_knee") == 0
        assert share("clap", f"{side}_wrist") > 0.3
        assert share("bow", f"{side}_hip") > 0.2  # relative to the top of the spine, the hips go back
        assert share("sit down", f"{side}_ankle") > 0.3
    assert share("kick", "left_ankle") + share("kick", "right_ankle") > 0.2
    assert share("drink", "head") > 0.05


# --- sensor


def test_sensor_is_noisy_but_sees_the_scene():
    scene = perform(0, 1, 1, 3)
    seen = [observe(scene, camera) for camera in range(3)]
    assert not np.allclose(seen[0], seen[1])
    for view in seen:
        assert view.shape == scene.bodies.shape
        assert view[..., 2].min() > 1.2
        assert view[..., 2].max() < 6
        lengths = bones(view)
        assert lengths.std(axis=1).mean() > 0.002, "bones as a sensor measures them are not constant"
        np.testing.assert_allclose(np.median(lengths, axis=1), bones(scene.bodies)[:, 0], atol=0.06)


def test_a_facing_body_keeps_its_right_on_the_sensors_side():
    angles = [observe(perform(LABEL["sit down"], 1, take, 3), 1) for take in range(1, 6)]
    sides = [view[0, 0, JOINT["right_shoulder"], 0] - view[0, 0, JOINT["left_shoulder"], 0] for view in angles]
    assert np.mean(sides) > 0.1


# --- the set


def test_two_generations_are_equal_and_a_part_equals_the_whole():
    def checksum(clips):
        sums = hashlib.sha256()
        for clip in clips:
            sums.update(str(clip.sample["id"]).encode() + clip.joints.tobytes() + clip.moved.tobytes())
        return sums.hexdigest()

    assert checksum(generate((4, 19), (2, 5), 1)) == checksum(generate((4, 19), (2, 5), 1))
    whole = {clip.sample["id"]: clip.joints for clip in generate((18,), (1, 2, 3), 2)}
    for clip in generate((18,), (3,), 1):
        assert np.array_equal(clip.joints, whole[clip.sample["id"]])


def test_known_number():
    clip = next(iter(generate((0,), (1,), 1)))
    assert clip.sample == {"id": "a01_s01_t1_c1", "label": 0, "subject": 1, "camera": 1, "take": 1}
    assert clip.joints.dtype == np.float32
    np.testing.assert_allclose(
        clip.joints[0, 0, 3],
        (-0.3131, 0.5930, 2.7458),
        atol=2e-4,
        err_msg="raise Synthetic.version and renew the numbers",
    )


def test_prepared_twice_has_one_digest(root, split, tmp_path):
    again = Synthetic(tmp_path)
    again.prepare(None, lambda line: None)
    assert again.load("xsub").digest == split.digest
    assert again.load("xview").digest != split.digest


def test_second_load_generates_nothing(root, monkeypatch):
    monkeypatch.setattr("datasets.synthetic.generate", lambda: pytest.fail("generated again"))
    assert len(Synthetic(root).load("xview").train) == 960


def test_check_finds_nothing(root):
    report = Synthetic(root).check()
    assert report.problems == ()
    assert report.warnings == ()
    assert {name: (sum(count.train), sum(count.test)) for name, count in report.splits.items()} == Synthetic.expected


def test_splits_are_disjoint_and_balanced(root, split):
    assert set(split.train.groups["subject"]) == set(TRAINING_SUBJECTS)
    assert set(split.test.groups["subject"]) == set(range(1, SUBJECTS + 1)) - set(TRAINING_SUBJECTS)
    view = Synthetic(root).load("xview")
    assert set(view.train.groups["camera"]) == {2, 3}
    assert set(view.test.groups["camera"]) == {1}
    for part in (split.train, split.test, view.train, view.test):
        assert len(set(np.bincount(part.labels.numpy(), minlength=len(ACTIONS)))) == 1
    fit, held_out = split.validation()
    assert not set(split.train.groups["subject"][fit]) & set(split.train.groups["subject"][held_out])


def test_partners_come_from_the_same_part():
    for subject in range(1, SUBJECTS + 1):
        assert partner_of(subject) != subject
        assert (partner_of(subject) in TRAINING_SUBJECTS) == (subject in TRAINING_SUBJECTS)


def test_clips_are_whole(split):
    for part in (split.train, split.test):
        assert torch.isfinite(part.clips).all()
        assert part.clips.shape[1:] == (3, 50, 25, 2)
        two = torch.isin(part.labels, torch.tensor(TWO))
        assert part.presence[:, 0].all()
        assert torch.equal(part.presence[:, 1], two)
        assert 40 <= part.lengths.min() < part.lengths.max() <= 165
        assert part.lengths.float().std() > 10
    assert len(split.classes) == 20
    assert 0.1 < split.train.presence[:, 1].float().mean() < 0.3


def test_source_argument_and_unknown_split_are_refused(tmp_path, root):
    for dataset, source in ((Synthetic(tmp_path), tmp_path), (Synthetic(tmp_path, "b"), None)):
        with pytest.raises(BenchError, match="takes no --source"):
            dataset.prepare(source, lambda line: None)
    with pytest.raises(BenchError, match="Did you mean 'xview'"):
        Synthetic(root).load("xviews")


def test_nearest_neighbours_of_raw_clips_are_far_from_perfect(split):
    def unit(clips):
        return torch.nn.functional.normalize(to_storage(clips).flatten(1), dim=1)

    nearest = (unit(split.test.clips) @ unit(split.train.clips).T).argmax(dim=1)
    top1 = (split.train.labels[nearest] == split.test.labels).float().mean()
    assert 0.3 < top1 < 0.62


# --- actionlets


def test_actionlets_fit_the_split(root, split):
    train, test = load_actionlets(root)
    for truth, part in ((train, split.train), (test, split.test)):
        assert truth.shape == (len(part), 2, 50, 25)
        assert truth.dtype == bool
        assert not truth[~part.presence.numpy()].any()
        assert truth[part.presence.numpy()].any(axis=(1, 2)).all()
        assert not truth[..., NTU25.centre].any()
        assert 0.15 < truth[part.presence.numpy()].mean() < 0.45
    names = dict(zip(split.train.ids, train, strict=True))
    clip = next(iter(generate((0,), (1,), 1)))
    middle = int(np.argmax(clip.moved[:, 0, 10])) * 50 // len(clip.moved)
    stored = names["a01_s01_t1_c1"][0, middle]
    assert stored[[10, 11]].all() or stored[[6, 7]].all()


def test_scores_of_truth_chance_and_energy(root, split):
    truth, part = load_actionlets(root)[1], split.test
    perfect = score_actionlets(torch.from_numpy(truth), truth, part.clips, part.presence)
    assert perfect["iou"] == 100
    assert perfect["area"] == perfect["area_truth"]
    assert perfect["iou_chance"] + 15 < perfect["iou_energy"] < 80, "energy is a real, but no perfect baseline"
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    for threshold in (0.7, None):
        random = score_actionlets(noise, truth, part.clips, part.presence, threshold)
        assert random["iou"] == pytest.approx(random["iou_chance"], abs=0.5)
    assert score_actionlets(noise, truth, part.clips, part.presence, None)["area"] == pytest.approx(perfect["area"])
    coarse = score_actionlets(torch.rand(len(truth), 2, 13, 25), truth, part.clips, part.presence)
    assert 0 < coarse["iou"] < 40
    with pytest.raises(ValueError, match="do not fit"):
        score_actionlets(noise[:, :, :, :20], truth, part.clips, part.presence)


def test_iou_by_hand():
    mask, truth = np.zeros((3, 1, 2, 4), bool), np.zeros((3, 1, 2, 4), bool)
    mask[0, 0, 0, :3] = truth[0, 0, 0, 1:] = True  # 2 of 4
    mask[1, 0, 1] = True
    np.testing.assert_allclose(actionlet_iou(mask, truth), [0.5, 0, 1])
    expected = 3 * 3 / 8
    np.testing.assert_allclose(chance_iou(mask, truth, np.ones((3, 1), bool)), [expected / (6 - expected), 0, 1])


def test_largest_takes_as_many_as_asked():
    values = np.random.default_rng(0).random((4, 2, 5, 3))
    count = np.array([0, 1, 7, 30])
    mask = largest(values, count)
    np.testing.assert_array_equal(mask.sum(axis=(1, 2, 3)), count)
    assert values[2][mask[2]].min() > values[2][~mask[2]].max()


def test_motion_energy_is_speed():
    clips = from_storage(torch.zeros(1, 1, 6, 2, 3))
    clips[0, 2, :, 1, 0] = 0.5 * torch.arange(6)
    energy = motion_energy(clips)
    np.testing.assert_allclose(energy[0, 0, 1:4, 1], 0.5)
    assert energy[0, 0, :, 0].max() == 0


def test_turning_about_y_is_to_the_left():
    np.testing.assert_allclose(turn_about_y(90.0) @ (0, 0, -1), (-1, 0, 0), atol=1e-12)

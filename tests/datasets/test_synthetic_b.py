"""The second synthetic domain, and that the first one stayed what it was."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from datasets.synthetic import DISPLACED, Synthetic, displacement, generate, partner_of
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_b import DOMAIN, MORE, SyntheticB
from datasets.synthetic_body import PARENTS
from datasets.synthetic_scene import make_subject, observe, perform
from engine.registry import find


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = SyntheticB(tmp_path_factory.mktemp("data"))
    dataset.prepare(None, lambda line: None)
    return dataset


def bones(bodies):
    child = [v for v, parent in enumerate(PARENTS) if parent >= 0]
    return np.linalg.norm(bodies[..., child, :] - bodies[..., [PARENTS[v] for v in child], :], axis=-1)


def test_the_first_domain_has_the_bytes_it_had():
    """The checksum was taken before domains became a parameter."""
    sums = hashlib.sha256()
    for clip in generate((0, 17), (1, 5), 1):
        sums.update(clip.joints.tobytes())
    assert sums.hexdigest() == "9a4dffdb08428584f3ea2166f339d9b9ad648ea960d3073b852d890c3a34b580"


@pytest.mark.parametrize("action", MORE, ids=[action.name for action in MORE])
def test_new_actions_are_plausible(action):
    label = DOMAIN.actions.index(action)
    for subject in (101, 102):
        scene = perform(label, subject, 1, partner_of(subject, DOMAIN), DOMAIN.actions)
        lengths = bones(scene.bodies)
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape), atol=1e-9)
        assert scene.bodies[..., 1].min() > -1e-9, "a joint below the floor"
        assert (np.linalg.norm(np.diff(scene.bodies, axis=1), axis=-1) * 30).max() < 15, "faster than a person"
        moved = displacement(scene) > DISPLACED
        assert 0.03 < moved[:, scene.span[0] : scene.span[1]].mean() < 0.95


def test_people_and_partly_classes_are_others():
    heights = {
        round(float(np.abs(make_subject(number).offsets).sum()), 6) for number in (*DOMAIN.subjects, *range(1, 13))
    }
    assert len(heights) == len(DOMAIN.subjects) + 12
    names = [action.name for action in DOMAIN.actions]
    known = {action.name for action in ACTIONS}
    assert (len(names), len(set(names)), sum(name in known for name in names)) == (15, 15, 9)
    for subject in DOMAIN.subjects:
        partner = partner_of(subject, DOMAIN)
        assert partner != subject
        assert (partner in DOMAIN.training) == (subject in DOMAIN.training)


def test_the_cameras_are_farther_away_and_see_worse():
    scenes = [perform(label, subject, 1, 102, DOMAIN.actions) for label in (0, 5) for subject in (101, 104, 107)]

    def seen(*sensor):
        views = [observe(scene, camera, *sensor) for scene in scenes for camera in range(3)]
        jitter = np.mean([bones(view).std(axis=1).mean() for view in views])
        return jitter, np.mean([view[..., 2].mean() for view in views])

    (jitter, distance), (own_jitter, own_distance) = seen(), seen(DOMAIN.sensor)
    assert own_jitter > 1.4 * jitter
    assert own_distance > distance + 0.5


def test_prepared_set_has_the_counts_it_promises(dataset):
    report = dataset.check()
    assert report.ok
    for name, (train, test) in SyntheticB.expected.items():
        split = dataset.load(name)
        assert (len(split.train), len(split.test)) == (train, test)
        assert not set(split.train.ids) & set(split.test.ids)
        assert len(split.train.labels.unique()) == len(split.test.labels.unique()) == len(split.classes) == 15
        assert torch.isfinite(split.train.clips).all()
    assert split.name == "synthetic_b/xview"


def test_it_is_the_target_of_the_first_domain_and_answers_to_both_names(tmp_path):
    assert Synthetic.targets["transfer"] == "synthetic_b"
    assert SyntheticB.targets["transfer"] == "synthetic"
    assert find("datasets", "synthetic-b") is find("datasets", "synthetic_b")
    assert find("datasets", "synthetic") is Synthetic
    assert SyntheticB(tmp_path).folder != Synthetic(tmp_path).folder

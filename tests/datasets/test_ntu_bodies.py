"""Which bodies become the persons of a clip: recordings made by hand."""

from __future__ import annotations

import numpy as np

from datasets.ntu_bodies import SHORTEST, first_two, tracked
from datasets.ntu_raw import parse
from datasets.ntu_write import skeleton_text

UPRIGHT = np.random.default_rng(1).normal(0, 0.1, (25, 3)) + np.linspace([0, -0.8, 3], [0, 0.8, 3], 25)
WIDE = UPRIGHT[:, [1, 0, 2]]


def seen(length, **bodies):
    """A recording; every body is (id, first frame, last frame, pose, metres per frame)."""
    frames = [
        [(body, pose + speed * t) for body, first, last, pose, speed in bodies.values() if first <= t <= last]
        for t in range(length)
    ]
    return parse(skeleton_text(frames))


def who(clip):
    """For every person the first and last frame in which it is there, and in how many it is."""
    present = clip.any(axis=(2, 3))
    return [
        (*np.flatnonzero(column)[[0, -1]].tolist(), int(column.sum())) if column.any() else () for column in present.T
    ]


def test_first_two_of_every_frame():
    one, two, three = UPRIGHT, UPRIGHT + 1, UPRIGHT + 2
    frames = [[(1, one), (2, two), (3, three)], [], [(2, two), (1, one)], [(2, two)]]
    clip = first_two(parse(skeleton_text(frames)))
    zero = np.zeros((25, 3))
    expected = [[one, two], [zero, zero], [two, one], [two, zero]]
    np.testing.assert_allclose(clip, np.array(expected), atol=1e-6)


def test_tracked_persons_keep_their_place_when_the_order_changes():
    frames = [[(1, UPRIGHT + 0.1 * t), (2, UPRIGHT + 5)] for t in range(20)]
    frames[7] = frames[7][::-1]
    clip = tracked(parse(skeleton_text(frames)))
    np.testing.assert_allclose(clip[:, 0], [UPRIGHT + 0.1 * t for t in range(20)], atol=1e-5)
    np.testing.assert_allclose(clip[:, 1], [UPRIGHT + 5] * 20, atol=1e-5)


def test_who_moves_most_comes_first():
    clip = tracked(seen(20, still=(1, 0, 19, UPRIGHT, 0.0), mover=(2, 0, 19, UPRIGHT + 1, 0.05)))
    np.testing.assert_allclose(clip[0, 0], UPRIGHT + 1, atol=1e-6)
    np.testing.assert_allclose(clip[0, 1], UPRIGHT, atol=1e-6)


def test_short_bodies_are_noise():
    still = (1, 0, 29, UPRIGHT, 0.0)
    clip = tracked(seen(30, still=still, ghost=(2, 5, 5 + SHORTEST - 2, UPRIGHT, 0.5)))
    assert who(clip) == [(0, 29, 30), ()]
    clip = tracked(seen(30, still=still, ghost=(2, 5, 5 + SHORTEST - 1, UPRIGHT, 0.5)))
    assert who(clip) == [(5, 16, 12), (0, 29, 30)]


def test_the_only_body_is_kept_however_short():
    assert who(tracked(seen(8, only=(1, 2, 4, WIDE, 0.0)))) == [(2, 4, 3), ()]
    two = seen(12, short=(1, 0, 2, UPRIGHT, 0.3), longer=(2, 3, 9, UPRIGHT, 0.0))
    assert who(tracked(two)) == [(3, 9, 7), ()]


def test_wide_bodies_are_noise():
    clip = tracked(seen(20, person=(1, 0, 19, UPRIGHT, 0.0), chair=(2, 0, 19, WIDE, 0.2)))
    assert who(clip) == [(0, 19, 20), ()]
    np.testing.assert_allclose(clip[0, 0], UPRIGHT, atol=1e-6)


def test_of_two_wide_bodies_the_last_one_stays():
    clip = tracked(seen(20, first=(1, 0, 19, WIDE, 0.0), second=(2, 0, 19, WIDE + 1, 0.0)))
    assert who(clip) == [(0, 19, 20), ()]
    np.testing.assert_allclose(clip[0, 0], WIDE + 1, atol=1e-6)


def test_motion_without_wide_frames_decides_the_order():
    """A body whose wide frames move it far is second: without them it stands still."""
    frames = [
        [(1, WIDE + 9 if t in (3, 4) else UPRIGHT), (2, UPRIGHT + 1 + 0.02 * t)] for t in range(20)
    ]  # fmt: skip
    clip = tracked(parse(skeleton_text(frames)))
    np.testing.assert_allclose(clip[0, 0], UPRIGHT + 1, atol=1e-6)


def test_a_person_lost_and_found_under_another_id_stays_one_person():
    clip = tracked(seen(60, before=(1, 0, 24, UPRIGHT, 0.02), after=(2, 30, 59, UPRIGHT, 0.03)))
    assert who(clip) == [(0, 59, 55), ()]


def test_a_third_person_who_is_there_with_both_is_left_out():
    bodies = {f"b{i}": (i, 0, 29, UPRIGHT + i, 0.01 * (4 - i)) for i in (1, 2, 3)}
    clip = tracked(seen(30, **bodies))
    np.testing.assert_allclose(clip[0, 0], UPRIGHT + 1, atol=1e-6)
    np.testing.assert_allclose(clip[0, 1], UPRIGHT + 2, atol=1e-6)


def test_an_id_listed_twice_in_a_frame_counts_once():
    frames = [[(1, UPRIGHT), (1, UPRIGHT + 4)] for _ in range(15)]
    clip = tracked(parse(skeleton_text(frames)))
    assert who(clip) == [(0, 14, 15), ()]
    np.testing.assert_allclose(clip[3, 0], UPRIGHT, atol=1e-6)

"""Preparation: the golden clip of aimclr.md 1.5, a slow twin, and properties."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.layout import KINECT20, NTU25, Layout
from datasets.prepare import BadClipError, Preparation, Rotation, centre, inspect, prepare_clips, resample, turn


def golden_raw():
    """The raw array of the golden test as (300, 2, 25, 3)."""
    raw = np.zeros((3, 300, 25, 2), np.float32)
    for c in range(3):
        for v in range(25):
            for t in range(103):
                raw[c, t, v, 0] = 0.3 * math.sin(0.05 * t + 0.7 * c + 0.31 * v) + 0.02 * v + (2.5 if c == 2 else 0)
                if t >= 40:
                    raw[c, t, v, 1] = (
                        0.25 * math.cos(0.04 * t + 0.5 * c - 0.23 * v) + 0.015 * v + (3.0 if c == 2 else 0)
                    )
    return raw.transpose(1, 3, 2, 0)


@pytest.mark.parametrize("length", ["released", "span"])
def test_golden_clip(length):
    out, used = prepare_clips(golden_raw(), np.array([0, 300]), NTU25, Preparation(length=length))
    assert out.shape == (1, 2, 50, 25, 3)
    assert out.dtype == np.float32
    assert used.tolist() == [103]
    clip = out[0].astype(np.float64)
    assert clip.sum() == pytest.approx(-280.390070, abs=1e-4)
    assert np.abs(clip).sum() == pytest.approx(1616.043544, abs=1e-4)
    expected = {
        (0, 0, 0): (-0.353463, -0.380684, 0.414812),
        (0, 8, 0): (-0.730926, -0.439352, 0.123159),
        (25, 3, 0): (-0.412139, -0.582972, 0.635993),
        (49, 24, 0): (0.419226, 0.428384, 0.253754),
        (10, 0, 1): (0, 0, 0),
        (19, 0, 1): (-0.269840, -0.151370, -0.065726),
        (20, 0, 1): (-0.429042, -0.251378, -0.105643),
        (49, 8, 1): (-0.725874, -0.657679, -0.443903),
    }
    for (t, v, m), xyz in expected.items():
        np.testing.assert_allclose(clip[m, t, v], xyz, atol=1.5e-6)
    line = clip[0, :, 8] - clip[0, :, 4]
    assert (np.abs(line[:, 2]) > 0.05).mean() == 0.26


def twin(raw, layout, frames, rotation):
    """One recording (F, M, V, 3) with non-empty ends, joint by joint and frame by frame, as the text of 1.5 says it."""
    length, persons, joints, _ = raw.shape
    centred = np.zeros(raw.shape)
    for t in range(length):
        for m in range(persons):
            if np.abs(raw[t, m]).sum() > 0:
                for v in range(joints):
                    centred[t, m, v] = raw[t, m, v] - raw[t, m, layout.centre]
    out = np.zeros((persons, frames, joints, 3))
    for t in range(frames):
        s = min(max((t + 0.5) * length / frames - 0.5, 0), length - 1)
        low, high = math.floor(s), math.ceil(s)
        for m in range(persons):
            out[m, t] = centred[low, m] + (s - low) * (centred[high, m] - centred[low, m])
    if rotation == "none":
        return out
    left, right = layout.shoulders
    for m in range(persons):
        lines = [
            (out[m, t, right, 0] - out[m, t, left, 0], out[m, t, right, 2] - out[m, t, left, 2]) for t in range(frames)
        ]
        mean = sum(x for x, _ in lines) / frames, sum(z for _, z in lines) / frames
        towards = sum(z for _, z in lines) >= 0
        for t, (x, z) in enumerate(lines):
            if rotation == "released":
                angle = math.acos(x / (math.hypot(x, z) + 1e-4)) * (-1 if towards else 1)
            elif rotation == "frame":
                angle = -math.atan2(z, x)
            else:
                angle = -math.atan2(mean[1], mean[0])
            for v in range(joints):
                px, py, pz = out[m, t, v]
                out[m, t, v] = (
                    math.cos(angle) * px - math.sin(angle) * pz,
                    py,
                    math.sin(angle) * px + math.cos(angle) * pz,
                )
    return out


@pytest.mark.parametrize("rotation", get_args(Rotation))
def test_batch_equals_slow_twin(rotation):
    rng = np.random.default_rng(1)
    lengths = [1, 2, 7, 50, 83]
    raw = rng.normal([0, 0, 3], size=(sum(lengths), 2, 20, 3))
    raw[3:6, 1] = 0  # the second person is absent for a while
    offsets = np.cumsum([0, *lengths])
    out, used = prepare_clips(raw, offsets, KINECT20, Preparation(frames=12, rotation=rotation))
    assert used.tolist() == lengths
    for clip, low, high in zip(out, offsets, offsets[1:], strict=False):
        np.testing.assert_allclose(clip, twin(raw[low:high], KINECT20, 12, rotation), atol=1e-6)


def test_many_clips_equal_one_at_a_time():
    """More clips than are prepared in one go, of two lengths."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 4, 2100)
    offsets = np.cumsum([0, *lengths])
    raw = rng.normal(size=(offsets[-1], 1, 20, 3))
    out, _ = prepare_clips(raw, offsets, KINECT20, Preparation(frames=5))
    for i in (0, 1023, 1024, 2047, 2048, 2099):
        alone, _ = prepare_clips(
            raw[offsets[i] : offsets[i + 1]], np.array([0, lengths[i]]), KINECT20, Preparation(frames=5)
        )
        np.testing.assert_array_equal(out[i], alone[0])


clips = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=40, deadline=None)
@given(rng=clips, frames=st.integers(1, 30), rotation=st.sampled_from(get_args(Rotation)))
def test_turning_keeps_lengths_and_heights(rng, frames, rotation):
    x = rng.normal(size=(2, frames, 1, 20, 3))
    turned = turn(x, KINECT20, rotation)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), atol=1e-12)
    np.testing.assert_array_equal(turned[..., 1], x[..., 1])


@settings(max_examples=40, deadline=None)
@given(rng=clips, frames=st.integers(1, 30))
def test_frame_rule_aligns_every_frame_and_released_rule_those_of_the_main_side(rng, frames):
    x = rng.normal(size=(2, frames, 1, 20, 3))
    line = x[..., 8, :] - x[..., 4, :]

    def off(rotation):
        turned = turn(x, KINECT20, rotation)
        return turned[..., 8, :] - turned[..., 4, :]

    np.testing.assert_allclose(off("frame")[..., 2], 0, atol=1e-12)
    assert (off("frame")[..., 0] >= 0).all()
    np.testing.assert_allclose(off("sequence").mean(1)[..., 2], 0, atol=1e-12)
    main = np.sign(line[..., 2]) == np.sign(line[..., 2].sum(1, keepdims=True))
    assert np.abs(off("released")[..., 2][main]).max(initial=0) < 0.03


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 120), frames=st.integers(1, 60), value=st.floats(-3, 3))
def test_resampling_a_constant_is_constant_and_a_ramp_stays_monotone(length, frames, value):
    start, lengths = np.array([0]), np.array([length])
    constant = resample(np.full((length, 1), value), start, lengths, frames)
    np.testing.assert_allclose(constant, value, atol=1e-12)
    ramp = resample(np.arange(length, dtype=float), start, lengths, frames)[0]
    assert (np.diff(ramp) >= 0).all()
    assert ramp.mean() == pytest.approx((length - 1) / 2)


@given(length=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_resampling_to_the_own_length_changes_nothing(length):
    x = np.random.default_rng(length).normal(size=(length, 4))
    np.testing.assert_array_equal(resample(x, np.array([0]), np.array([length]), length)[0], x)


def test_centring_leaves_absent_bodies_zero_and_everybody_else_at_the_origin():
    x = np.random.default_rng(0).normal(size=(4, 2, 20, 3))
    x[1, 1] = 0
    out = centre(x, KINECT20.centre)
    assert not out[1, 1].any()
    assert not out[:, :, KINECT20.centre].any()
    np.testing.assert_allclose(out[0, 0, 5], x[0, 0, 5] - x[0, 0, KINECT20.centre])


@pytest.mark.parametrize("rotation", get_args(Rotation))
def test_one_frame_clip_stands_still_and_faces_the_front(rotation):
    raw = np.random.default_rng(3).normal(size=(1, 1, 20, 3))
    clip = prepare_clips(raw, np.array([0, 1]), KINECT20, Preparation(rotation=rotation))[0][0, 0]
    assert np.isfinite(clip).all()
    assert (clip == clip[0]).all()
    line = clip[0, 8] - clip[0, 4]
    if rotation != "none":
        assert line[0] > 0
        assert abs(line[2]) < 0.02


def test_length_rules_differ_where_empty_frames_do():
    """Frames 2..9 of 12 hold a body, 5 is empty: the span has 8 frames, the released rule takes the first 7."""
    raw = np.zeros((12, 1, 20, 3))
    raw[2:10] = np.random.default_rng(0).normal(size=(8, 1, 20, 3))
    raw[5] = 0
    offsets = np.array([0, 12])
    span, used = prepare_clips(raw, offsets, KINECT20, Preparation(frames=8, rotation="none", length="span"))
    assert used.tolist() == [8]
    np.testing.assert_allclose(span[0, 0], centre(raw[2:10, 0], 2), atol=1e-6)
    released, used = prepare_clips(raw, offsets, KINECT20, Preparation(frames=7, rotation="none", length="released"))
    assert used.tolist() == [7]
    np.testing.assert_allclose(released[0, 0], centre(raw[:7, 0], 2), atol=1e-6)


def test_span_does_not_reach_into_the_neighbours():
    """An all-empty recording between two others comes out zero."""
    raw = np.zeros((9, 1, 20, 3))
    raw[:3], raw[6:] = 1 + np.arange(60).reshape(20, 3), 2 + np.arange(60).reshape(20, 3)
    out, used = prepare_clips(raw, np.array([0, 3, 6, 9]), KINECT20, Preparation(frames=4))
    assert used.tolist() == [3, 0, 3]
    assert not out[1].any()
    last, used = prepare_clips(raw[:6], np.array([0, 3, 6]), KINECT20, Preparation(frames=4))
    assert used.tolist() == [3, 0]
    assert not last[1].any()


def test_layout_without_shoulders_is_only_centred():
    layout = Layout.from_parents("stick", ["pelvis", "knee", "toe"], [-1, 0, 1])
    raw = np.random.default_rng(0).normal(size=(5, 1, 3, 3))
    out, _ = prepare_clips(raw, np.array([0, 5]), layout, Preparation(frames=5))
    np.testing.assert_allclose(out[0, 0], raw[:, 0] - raw[:, 0, :1], atol=1e-6)


def test_inspect_names_frame_and_joint():
    clip = np.ones((4, 1, 20, 3))
    assert inspect(clip, KINECT20) == ""
    odd = clip.copy()
    odd[1, 0, 7] = 0
    assert inspect(odd, KINECT20) == "1 joints at exactly 0, 0, 0 (the first: frame 1, HandLeft)"
    for value, word in ((np.nan, "nan"), (-np.inf, "-inf"), (1e300, r"1e\+300")):
        bad = clip.copy()
        bad[2, 0, 3, 1] = value
        with pytest.raises(BadClipError, match=f"frame 2, joint Head: {word} is no coordinate"):
            inspect(bad, KINECT20)
    with pytest.raises(BadClipError, match="no frames"):
        inspect(clip[:0], KINECT20)
    with pytest.raises(BadClipError, match="all 4 frames are zero"):
        inspect(clip * 0, KINECT20)


def test_centring_on_the_first_frame_keeps_the_trajectory_and_the_distance_of_two_persons():
    generator = np.random.default_rng(3)
    raw = generator.normal(size=(9, 2, 20, 3)) + 5
    raw[4:6, 0] = 0  # the first person appears in the second recording's third frame only
    offsets = np.array([0, 4, 9])
    rules = Preparation(frames=4, centring="first", rotation="none")
    clips, _ = prepare_clips(raw, offsets, KINECT20, rules)
    np.testing.assert_allclose(clips[0].swapaxes(0, 1), raw[:4] - raw[0, 0, KINECT20.centre], atol=1e-6)
    last = Preparation(frames=5, centring="first", rotation="none")
    second, _ = prepare_clips(raw, offsets, KINECT20, last)
    expected = raw[4:] - raw[4, 1, KINECT20.centre]
    np.testing.assert_allclose(second[1, 1], expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(second[1, 0, 2:], expected[2:, 0], atol=1e-6)
    assert not second[1, 0, :2].any()

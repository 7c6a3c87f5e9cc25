"""Scenes of the synthetic set: subjects perform actions, cameras with a noisy sensor look at them.

Every number is drawn from a generator seeded by what it belongs to (a subject; a performance; a performance and a
camera), so any part of the set can be made alone and is the same as in the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.signal import lfilter

from datasets.layout import NTU25
from datasets.synthetic_actions import ACTIONS, Action, Keys
from datasets.synthetic_body import (
    ANGLES,
    PROPORTIONS,
    Array,
    Pose,
    bone_offsets,
    forward_kinematics,
    mirror,
    pose_angles,
    stand,
    turn_about_y,
)

RATE = 30.0
"""Frames per second."""
MIDDLE = 0.9
"""Height above the floor that cameras aim at, metres."""
CAMERAS = ((45.0, 2.0, 3.2), (0.0, 1.4, 2.7), (-45.0, 0.9, 2.9))
"""Yaw about the scene (degrees), height and distance (metres) of every camera."""

_SUBJECT, _PERFORMANCE, _VIEW = range(3)  # first number of the seeds
_LONGEST = 5.0  # seconds of a clip, where the action allows it
LEFT_HANDED = 0.35
"""Share of left-handed performances."""

_UPRIGHT: Pose = {
    "bend": 4, "nod": -2, "arms_outward": 9, "elbows": 16, "legs_outward": 4, "legs_roll": 8, "knees": 4,
    "legs_forward": 2, "ankles": 2,
}  # fmt: skip
# Degrees: spread of posture from subject to subject, sway in time, and movements that do not belong to the action.
_POSTURE: Pose = {
    "lean": 1.5, "bend": 3, "nod": 5, "arms_forward": 4, "arms_outward": 3, "arms_roll": 9, "elbows": 7,
    "legs_outward": 1.5, "legs_roll": 4, "twist": 2, "side": 1, "tilt": 2,
}  # fmt: skip
_SWAY: Pose = {
    "lean": 0.4, "roll": 0.5, "turn": 1.4, "bend": 0.8, "twist": 1, "look": 3.5, "nod": 1.8, "tilt": 1,
    "arms_forward": 1.4, "arms_outward": 0.8, "arms_roll": 2, "elbows": 2, "knees": 0.4,
}  # fmt: skip
_FIDGETS: tuple[Pose, ...] = (
    {"look": 28}, {"look": -28}, {"nod": 16}, {"tilt": 12}, {"twist": 14}, {"roll": 4, "side": -5},
    {"left_elbow": 22, "left_arm_forward": 6}, {"right_elbow": 22, "right_arm_forward": 6}, {"left_arm_outward": 10},
)  # fmt: skip

_TRUNK, _ENDS = [0, 1, 2, 3, 20], [7, 11, 15, 19, 21, 22, 23, 24]
_LIMBS = NTU25.parts[1:]


@dataclass(frozen=True)
class Sensor:
    """The cameras of a place and how well they see.

    Attributes:
        cameras: yaw about the scene (degrees), height and distance (metres) of every camera.
        tilt: a camera is aimed too high or low, and rolled, by up to this, degrees.
        noise: standard deviation of the position of a joint seen from 3 m, metres; it grows with the distance squared.
        losses: how often a body's limb is lost in a clip, on average.
    """

    cameras: tuple[tuple[float, float, float], ...] = CAMERAS
    tilt: float = 30.0
    noise: float = 0.008
    losses: float = 1.2


SENSOR = Sensor()
"""That of the synthetic set."""


@dataclass(frozen=True)
class Subject:
    """Who performs.

    Attributes:
        offsets: (V, 3) bone vectors, metres.
        posture: (A,) degrees added to every pose.
        tempo: speed; 1 is as the programs are written.
        amplitude: factor on the programs' angles.
    """

    offsets: Array
    posture: Array
    tempo: float
    amplitude: float


@dataclass(frozen=True)
class Performance:
    """One take of an action in the world (metres, y up, floor at 0), before any camera sees it.

    Attributes:
        label, subject, take: what it is.
        bodies: (M, L, V, 3) joints of the one or two persons, in the order in which sensors find them.
        idle: (M, L, V, 3) the same bodies in the same frames, had they gone on as before the action.
        span: frame in which the action begins, and frame by which it has reached its last key.
    """

    label: int
    subject: int
    take: int
    bodies: Array
    idle: Array
    span: tuple[int, int]


def make_subject(index: int) -> Subject:
    """The subject of that number."""
    random = np.random.default_rng([_SUBJECT, index])
    factors = {group: float(np.exp(random.normal(0, 0.05))) for group in PROPORTIONS}
    return Subject(
        bone_offsets(random.uniform(1.52, 1.92), factors),
        pose_angles(_UPRIGHT) + random.normal(0, 1, len(ANGLES)) * pose_angles(_POSTURE),
        random.uniform(0.85, 1.2),
        float(np.exp(random.normal(0, 0.06))),
    )


def perform(label: int, subject: int, take: int, partner: int, actions: Sequence[Action] = ACTIONS) -> Performance:
    """Let a subject perform an action once.

    Args:
        label: index into ``actions``.
        subject: number of the subject.
        take: number of the take.
        partner: number of the second person's subject, for two-person classes.
        actions: what can be performed.
    """
    random = np.random.default_rng([_PERFORMANCE, label, subject, take])
    action = actions[label]
    actors = [make_subject(number) for number in (subject, partner)][: len(action.scripts)]
    repeats = int(random.integers(action.repeats[0], action.repeats[1] + 1))
    tracks = [enter + loop * repeats + leave for enter, loop, leave in action.scripts]

    times = pace(tracks[0], actors[0], random)
    spare = random.uniform(0.7, np.clip(_LONGEST - times[-1], 1.1, 3.2))
    clock = np.arange(round((times[-1] + spare) * RATE)) / RATE - spare * random.random()
    energy = np.exp(random.normal(-0.1, 0.12))

    bodies, resting, mirrored = [], [], random.random(len(actors)) < LEFT_HANDED
    for actor, track, left_handed in zip(actors, tracks, mirrored, strict=True):
        start = action.start if actor is actors[0] else {}
        poses = enact((start, *(key[1] for key in track)), actor, energy, left_handed, random)
        program = PchipInterpolator(times, poses)(np.clip(clock, 0, times[-1]))
        rest = idle(actor, clock, 2, random)
        facing = turn_about_y(0.0 if actor is actors[0] else 180.0).T
        bodies.append(stand(forward_kinematics(rest + program, actor.offsets)) @ facing)
        resting.append(stand(forward_kinematics(rest + poses[0], actor.offsets)) @ facing)

    heading = random.normal(0, 40)
    if len(actors) == 2:
        contact = int(np.searchsorted(clock, times[len(action.enter) + 1]))
        bodies = _meet(bodies, action, mirrored.tolist(), min(contact, len(clock) - 1))
        heading += random.choice([-90, 90])
    turned = turn_about_y(heading).T
    order = random.permutation(len(actors))
    span = (int(np.searchsorted(clock, 0.0)), int(np.searchsorted(clock, times[-1])))
    return Performance(label, subject, take, np.stack(bodies)[order] @ turned, np.stack(resting)[order] @ turned, span)


def pace(keys: Keys, actor: Subject, random: np.random.Generator) -> Array:
    """When an actor reaches each of K keys, after the start at 0: (K + 1,) seconds."""
    seconds = np.array([key[0] for key in keys]) * np.exp(random.normal(0, 0.15, len(keys)))
    return np.asarray(np.concatenate([[0.0], np.cumsum(seconds)]) / (actor.tempo * np.exp(random.normal(0, 0.08))))


def enact(
    poses: Sequence[Pose], actor: Subject, energy: float, left_handed: bool, random: np.random.Generator
) -> Array:
    """The angles (K, A) by which an actor takes K poses, beyond idling."""
    angles = np.stack([pose_angles(pose) for pose in poses])
    angles *= actor.amplitude * energy * np.exp(random.normal(0, 0.07, len(ANGLES)))
    return mirror(angles) if left_handed else angles


def idle(actor: Subject, clock: Array, most_fidgets: int, random: np.random.Generator) -> Array:
    """Angles (L, A) of a body that stands, sways and fidgets up to so many times."""
    angles = np.tile(actor.posture + random.normal(0, 0.6, len(ANGLES)) * pose_angles(_POSTURE), (len(clock), 1))
    for _ in range(2):
        speed, phase = random.uniform(0.15, 0.6, len(ANGLES)), random.uniform(0, 1, len(ANGLES))
        angles += pose_angles(_SWAY) * np.sin(2 * np.pi * (speed * clock[:, None] + phase))
    for _ in range(random.integers(0, most_fidgets + 1)):
        middle, width = random.uniform(clock[0], clock[-1]), random.uniform(0.25, 0.45)
        bump = random.uniform(0.5, 1.0) * np.exp(-(((clock - middle) / width) ** 2))
        angles += bump[:, None] * pose_angles(_FIDGETS[random.integers(len(_FIDGETS))])
    return angles


def contact_joints(action: Action, mirrored: Sequence[bool]) -> tuple[int, int]:
    """Joints of the actor and of the partner that meet, where those who are left-handed use their other side."""
    joints = [NTU25.joints.index(name) for name in action.contact]
    here, there = (NTU25.flip[joint] if left else joint for joint, left in zip(joints, mirrored, strict=True))
    return here, there


def _meet(bodies: Sequence[Array], action: Action, mirrored: Sequence[bool], moment: int) -> list[Array]:
    """Place two persons who face each other so that their contact joints meet in frame ``moment``."""
    first, second = bodies
    here, there = contact_joints(action, mirrored)
    apart = (first[moment, here] - second[moment, there]) * (1, 0, 1)
    return [first - apart / 2, second + apart / 2]


def observe(performance: Performance, camera: int, sensor: Sensor = SENSOR) -> Array:
    """What the sensor of a camera reports of a performance.

    The camera is set up anew for every take, so its height, aim and distance vary.

    Args:
        performance: what is seen.
        camera: index into ``sensor.cameras``.
        sensor: the cameras.

    Returns:
        (M, L, V, 3) in metres, rounded to 0.1 mm; x to the sensor's left, y up, z = distance.
    """
    random = np.random.default_rng([_VIEW, performance.label, performance.subject, performance.take, camera])
    return sense(project(performance.bodies, camera, random, sensor), sensor.losses, random, sensor.noise)


def sense(seen: Array, losses: float, random: np.random.Generator, noise: float = SENSOR.noise) -> Array:
    """Bodies (M, L, V, 3) in coordinates of the camera as its sensor reports them, rounded to 0.1 mm.

    Noise is correlated in time, grows with the distance and where the trunk hides a joint; limbs are lost for a while (the
    sensor then holds or misplaces them), ``losses`` times per body on average, and some are badly seen throughout.
    """
    depth = seen[..., 2]
    scale = np.ones(len(NTU25))
    scale[_TRUNK], scale[_ENDS] = 0.7, 1.7
    behind = np.clip((depth - depth[:, :, [NTU25.centre]] - 0.08) / 0.15, 0, 2)
    spread = noise * scale * (1 + behind) * (depth / 3) ** 2
    for person in spread:
        if random.random() < 0.12:
            person[:, list(_LIMBS[random.integers(len(_LIMBS))])] *= 3.5
    white = random.normal(0, 1, (2, *seen.shape))
    seen = seen + spread[..., None] * (0.54 * lfilter([1.0], [1.0, -0.8], white[0], axis=1) + 0.45 * white[1])
    for body in seen:
        for _ in range(random.poisson(losses)):
            _lose(body, random)
    return np.round(seen, 4)


def project(points: Array, camera: int, random: np.random.Generator, sensor: Sensor = SENSOR) -> Array:
    """World coordinates (..., 3) to those of a camera that stands and looks roughly as ``sensor.cameras`` says."""
    yaw, height, distance = sensor.cameras[camera]
    yaw = random.normal(yaw, 4)
    height += random.uniform(-0.6, 0.6)
    distance += random.uniform(-0.5, 0.5)
    pitch = np.arctan2(height - MIDDLE, distance) + np.radians(random.uniform(-sensor.tilt, sensor.tilt))
    roll = np.radians(random.uniform(-sensor.tilt, sensor.tilt))
    down = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    view = tilt @ down @ turn_about_y(yaw)
    return np.asarray((points - (0, MIDDLE, 0)) @ view.T + (0, 0, np.hypot(distance, height - MIDDLE)))


def _lose(body: Array, random: np.random.Generator) -> None:
    """Lose the end of a limb of a body (L, V, 3) for 4 to 14 frames, in place: held where it was, or misplaced."""
    limb = _LIMBS[random.integers(len(_LIMBS))]
    lost = [joint for joint in limb if joint in _ENDS]
    length = int(random.integers(4, 15))
    first = int(random.integers(1, len(body) - length))
    window = slice(first, first + length)
    if random.random() < 0.5:
        body[window, lost] = body[first - 1, lost]
    else:
        body[window, lost] += random.normal(0, 0.12, 3)

"""Scenes of the synthetic set: subjects perform actions, cameras with a noisy sensor look at them.

Every number is drawn from a generator seeded by what it belongs to (subject; performance; performance and camera), so any part
of the set can be made alone and is the same as in the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

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
SUBJECTS = 12
CAMERAS = 3
LEFT_HANDED = (3, 9)

_SUBJECT, _PERFORMANCE, _VIEW = range(3)
# How much an idling body sways, by angle, in degrees.
_SWAY: Pose = {
    "lean": 0.6, "roll": 0.7, "turn": 2.0, "bend": 1.2, "twist": 1.5, "look": 5.0, "nod": 2.5, "tilt": 1.5,
    "arms_forward": 2.0, "arms_outward": 1.2, "arms_roll": 3.0, "elbows": 3.0, "knees": 0.6,
}  # fmt: skip
# Small movements that have nothing to do with the action.
_FIDGETS: tuple[Pose, ...] = (
    {"look": 28}, {"look": -28}, {"nod": 16}, {"tilt": 12}, {"roll": 4, "side": -5}, {"left_elbow": 22, "left_arm_forward": 6},
    {"right_elbow": 22, "right_arm_forward": 6}, {"left_arm_outward": 10}, {"twist": 14},
)  # fmt: skip
# Spread of a subject's and of a take's posture, in degrees.
_POSTURE: Pose = {
    "lean": 1.5, "bend": 3.0, "nod": 5.0, "arms_forward": 4.0, "arms_outward": 3.0, "arms_roll": 9.0, "elbows": 7.0,
    "legs_outward": 1.5, "legs_roll": 4.0, "twist": 2.0, "side": 1.0, "tilt": 2.0,
}  # fmt: skip
_MEAN_POSTURE: Pose = {
    "bend": 4, "nod": -2, "arms_outward": 9, "elbows": 16, "legs_outward": 4, "legs_roll": 8, "knees": 4, "legs_forward": 2,
    "ankles": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """Who performs.

    Attributes:
        offsets: (V, 3) bone vectors, metres.
        posture: (A,) degrees added to every pose.
        tempo: speed, 1 = as written in the program.
        amplitude: factor on the program's angles.
        left_handed: performs mirrored.
        rig: how this subject's recording session placed the cameras: (camera, height, distance in metres, roll in degrees).
    """

    offsets: Array
    posture: Array
    tempo: float
    amplitude: float
    left_handed: bool
    rig: Array


@dataclass(frozen=True)
class Performance:
    """One take of an action in the world (metres, y up, floor at 0), before any camera sees it.

    Attributes:
        label, subject, take: what it is.
        bodies: (M, L, V, 3) joint positions of the one or two persons.
        idle: (M, L, V, 3) the same bodies in the same frames, had they gone on idling.
        span: first frame of the action, and the first frame after its last key.
    """

    label: int
    subject: int
    take: int
    bodies: Array
    idle: Array
    span: tuple[int, int]


def subject(index: int) -> Subject:
    """The subject of that number, from 0."""
    random = np.random.default_rng([_SUBJECT, index])
    factors = {group: float(np.exp(random.normal(0, 0.05))) for group in PROPORTIONS}
    heights = np.array([1.9, 1.2, 0.7])[:, None] + random.normal(0, 0.2, (CAMERAS, 1))
    rig = np.concatenate([heights, random.uniform(2.6, 3.8, (CAMERAS, 1)), random.normal(0, 2, (CAMERAS, 1))], axis=1)
    return Subject(
        bone_offsets(random.uniform(1.52, 1.92), factors),
        pose_angles(_MEAN_POSTURE) + random.normal(0, 1, len(ANGLES)) * pose_angles(_POSTURE),
        random.uniform(0.85, 1.2),
        float(np.exp(random.normal(0, 0.06))),
        index in LEFT_HANDED,
        rig,
    )


def perform(label: int, performer: int, take: int, partner: int) -> Performance:
    """Let a subject perform an action once.

    Args:
        label: index into ``ACTIONS``.
        performer: number of the subject.
        take: number of the take.
        partner: number of the second subject; used in two-person classes only.
    """
    random = np.random.default_rng([_PERFORMANCE, label, performer, take])
    action = ACTIONS[label]
    actors = [subject(performer)] + ([subject(partner)] if action.partner else [])
    scripts = [(action.enter, action.loop, action.leave)] + ([action.partner] if action.partner else [])
    repeats = int(random.integers(action.repeats[0], action.repeats[1] + 1))
    keys = [_unroll(script, repeats) for script in scripts]
    import os
    pace = np.exp(random.normal(0, float(os.environ.get('T','.1')), len(keys[0]))) / (actors[0].tempo * np.exp(random.normal(0, 0.08)))
    times = np.cumsum([0.0, *(seconds * p for (seconds, _), p in zip(keys[0], pace, strict=True))])
    import os
    E=lambda k,d: float(os.environ.get(k,d))
    spare=max(E('CAP',4.8)-times[-1],0.4); total=random.uniform(E('LO',.3),max(E('LO',.3)+.01,min(spare,E('I',1.3)*2))); part=random.uniform(E('P0',.1),1-E('P0',.1)); before,after=total*part,total*(1-part); energy=np.exp(random.normal(E('EM',0),E('ES',0)))
    frames = max(int((before + times[-1] + after) * RATE), 40)
    clock = np.arange(frames) / RATE - before
    bodies, idle = [], []
    left=[random.random()<float(os.environ.get('LH','.15')) for _ in actors]
    for k,(actor, track) in enumerate(zip(actors, keys, strict=True)):
        poses = np.stack([pose_angles(action.start if actor is actors[0] else {}), *(pose_angles(pose) for _, pose in track)])
        poses *= energy * actor.amplitude * np.exp(random.normal(0, float(os.environ.get('A','.05')), len(ANGLES)))
        program = np.asarray(PchipInterpolator(times, poses)(np.clip(clock, 0, times[-1])))
        if left[k]:
            program, poses = mirror(program), mirror(poses)
        rest = _idle(actor, frames, random)
        bodies.append(stand(forward_kinematics(rest + program, actor.offsets)))
        idle.append(stand(forward_kinematics(rest + poses[0], actor.offsets)))
    heading = random.normal(0, float(os.environ.get('H','18')))
    worlds = np.stack(bodies)
    if action.partner:
        worlds = _meet(worlds, action, left, int(np.searchsorted(clock, times[len(action.enter) + 1])))
        heading += 90 * random.choice([-1, 1])
    worlds = worlds @ turn_about_y(heading).T
    span = (int(np.searchsorted(clock, 0.0)), int(np.searchsorted(clock, times[-1])))
    return Performance(label, performer, take, worlds, np.stack(idle) @ turn_about_y(heading).T, span)


def _unroll(script: tuple[Keys, Keys, Keys], repeats: int) -> Keys:
    enter, loop, leave = script
    return enter + loop * repeats + leave


def _idle(actor: Subject, frames: int, random: np.random.Generator) -> Array:
    """Angles (L, A) of a body that stands, sways and fidgets."""
    clock = np.arange(frames)[:, None] / RATE
    angles = actor.posture + random.normal(0, 0.6, len(ANGLES)) * pose_angles(_POSTURE)
    for _ in range(2):
        speed, phase = random.uniform(0.15, 0.6, len(ANGLES)), random.uniform(0, 2 * np.pi, len(ANGLES))
        angles = angles + pose_angles(_SWAY) * 0.7 * np.sin(2 * np.pi * speed * clock + phase)
    for _ in range(random.integers(0, 3)):
        middle, width = random.uniform(0, frames / RATE), random.uniform(0.25, 0.45)
        bump = np.exp(-(((clock - middle) / width) ** 2)) * random.uniform(0.5, 1.0)
        angles = angles + bump * pose_angles(_FIDGETS[random.integers(len(_FIDGETS))])
    return angles


def _meet(bodies: Array, action: Action, left: list, moment: int) -> Array:
    """Turn the second person towards the first and place both so that their contact joints meet in frame ``moment``."""
    first, second = (
        NTU25.flip[NTU25.joints.index(joint)] if handed else NTU25.joints.index(joint)
        for joint, handed in zip(action.contact, left, strict=True)
    )
    bodies = np.stack([bodies[0], bodies[1] @ turn_about_y(180.0).T])
    offset = (bodies[0, moment, first] - bodies[1, moment, second]) * (1, 0, 1)
    return np.stack([bodies[0] - offset / 2, bodies[1] + offset / 2])


def observe(performance: Performance, camera: int) -> Array:
    """What the sensor of a camera reports of a performance: (M, L, V, 3) metres, x, y up, z = distance.

    Noise is correlated in time, grows with distance and on the far side of the body; some joints are lost for a while (the
    sensor then holds them or guesses), and in some clips a limb is hidden throughout.
    """
    random = np.random.default_rng([_VIEW, performance.label, performance.subject, performance.take, camera])
    height, distance, roll = subject(performance.subject).rig[camera]
    import os
    E=lambda k,d: float(os.environ.get(k,d))
    height=random.uniform(E('HL','0.3'),E('HH','2.9')); distance=random.uniform(2.0,3.4); roll=random.normal(0,E('R','10')); aim=random.normal(0,E('AIM','0'))
    stretch=np.exp(random.normal(0,E('Z','0')))
    seen = _project(performance.bodies, (45.0, 0.0, -45.0)[camera] + random.normal(0, 4), height, distance, roll,aim)
    seen[...,2]*=stretch; seen=seen*np.exp(random.normal(0,E('SC','0')))
    persons, frames, joints, _ = seen.shape
    scale = np.full(joints, 1.0)
    scale[[7, 11, 15, 19, 21, 22, 23, 24]] = 1.7
    scale[[0, 1, 2, 3, 20]] = 0.7
    depth = seen[..., 2]
    hidden = np.clip((depth - depth[:, :, [20]] - 0.08) / 0.15, 0, 2)
    spread = E('N','0.006') * scale * (1 + hidden) * (depth / 3) ** 2
    for person in range(persons):
        if random.random() < 0.12:
            limb = NTU25.parts[random.integers(1, len(NTU25.parts))]
            spread[person][:, list(limb)] *= 3.5
    noisy = seen + spread[..., None] * _correlated(random, seen.shape)
    for person in range(persons):
        for _ in range(random.poisson(1.2)):
            _drop(noisy[person], random)
    return np.round(noisy, 4)


def _project(points: Array, yaw: float, height: float, distance: float, roll: float,aim=0) -> Array:
    """World to camera: it stands ``distance`` off at ``height`` and looks at the scene's middle, 0.9 m above the floor."""
    pitch = np.arctan2(height - 0.9, distance)+np.radians(aim)
    cosine, sine = np.cos(pitch), np.sin(pitch)
    down = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    turned = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    around = np.array([[turned[0], -turned[1], 0], [turned[1], turned[0], 0], [0, 0, 1]])
    view = around @ down @ turn_about_y(yaw)
    return np.asarray((points - (0, 0.9, 0)) @ view.T + (0, 0, np.hypot(distance, height - 0.9)))


def _correlated(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Unit noise (M, L, V, 3) that remembers 0.8 of itself from frame to frame, plus some that does not."""
    noise = random.normal(0, 1, shape)
    for frame in range(1, shape[1]):
        noise[:, frame] = 0.8 * noise[:, frame - 1] + 0.6 * noise[:, frame]
    return 0.9 * noise + random.normal(0, 0.45, shape)


def _drop(body: Array, random: np.random.Generator) -> None:
    """Lose the end of a limb of one body (L, V, 3) for a while, in place: held where it was, or guessed wrong."""
    limb = NTU25.parts[random.integers(1, len(NTU25.parts))]
    lost = [joint for joint in limb if "hand" in NTU25.joints[joint] or "thumb" in NTU25.joints[joint]] or list(limb[-2:])
    length = int(random.integers(4, 15))
    first = int(random.integers(1, max(len(body) - length, 2)))
    window = slice(first, first + length)
    if random.random() < 0.5:
        body[window, lost] = body[first - 1, lost]
    else:
        body[window, lost] += random.normal(0, 0.12, 3)

"""Sessions of the synthetic set: a subject performs several actions one after the other, with idling in between.

The same subjects, programs of actions, cameras and sensor as those of the trimmed clips (:mod:`datasets.synthetic_scene`). A
partner is there while an action needs one. Between actions subjects sway, fidget, turn to another side, and return to where the
next action begins; nobody can sit down without it being an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from datasets.layout import NTU25
from datasets.synthetic_actions import ACTIONS
from datasets.synthetic_body import ANGLES, Array, forward_kinematics, stand, turn_about_y
from datasets.synthetic_scene import (
    LEFT_HANDED,
    RATE,
    Subject,
    contact_joints,
    enact,
    idle,
    make_subject,
    pace,
    project,
    sense,
)

SESSIONS = 2
"""Sessions of every subject."""

_PROGRAMME, _SESSION, _VIEW = range(3, 6)  # first number of the seeds; the clips have those before
_SIT, _STAND = (next(i for i, action in enumerate(ACTIONS) if action.name == name) for name in ("sit down", "stand up"))
_UNITS = tuple((i, _STAND) if i == _SIT else (i,) for i in range(len(ACTIONS)) if i != _STAND)
"""Actions that are performed together: who has sat down stands up next."""
_PARTS = 3  # of all units a session has a third
_PAUSE = (0.7, 1.8)  # seconds between actions
_AROUND = 10  # frames before and after an action in which the partner is there
_FIDGETS = 0.5  # a second, at most
_LOSSES = 0.35  # lost limbs of a body a second


@dataclass(frozen=True)
class Span:
    """One action of a session.

    Attributes:
        label: index into ``ACTIONS``.
        start, stop: its frames, without ``stop``.
    """

    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class Session:
    """A subject's session in the world (metres, y up, floor at 0), before any camera sees it.

    Attributes:
        subject, session: what it is, from 1.
        bodies: (2, L, V, 3) joints of the subject and the partner.
        visits: frames (start, stop) in which the partner is there.
        spans: the actions, in order.
    """

    subject: int
    session: int
    bodies: Array
    visits: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]


def programme(subject: int, session: int) -> list[int]:
    """Labels of the actions of a session, in order; no two sessions of a subject have an action in common."""
    order = np.random.default_rng([_PROGRAMME, subject]).permutation(len(_UNITS))
    return [label for unit in np.array_split(order, _PARTS)[session - 1] for label in _UNITS[unit]]


def perform_session(subject: int, session: int, partner: int) -> Session:
    """Let a subject perform a session, together with the second person ``partner`` where an action needs one."""
    random = np.random.default_rng([_SESSION, subject, session])
    actor, other = make_subject(subject), make_subject(partner)
    moments, angles, headings = [np.zeros(1)], [np.zeros((1, len(ANGLES)))], [np.zeros(1)]
    spans, guests = [], []
    now = random.uniform(*_PAUSE)
    for label in programme(subject, session):
        action = ACTIONS[label]
        repeats = int(random.integers(action.repeats[0], action.repeats[1] + 1))
        own, *others = (enter + loop * repeats + leave for enter, loop, leave in action.scripts)
        times = now + pace(own, actor, random)
        energy = np.exp(random.normal(-0.1, 0.12))
        left = bool(random.random() < LEFT_HANDED)
        heading = random.normal(0, 40) + (random.choice([-90, 90]) if others else 0)
        moments.append(times)
        angles.append(enact((action.start, *(key[1] for key in own)), actor, energy, left, random))
        headings.append(np.full(len(times), heading))
        spans.append(Span(label, round(times[0] * RATE), round(times[-1] * RATE)))
        for keys in others:
            mirrored = bool(random.random() < LEFT_HANDED)
            poses = enact(({}, *(key[1] for key in keys)), other, energy, mirrored, random)
            guests.append((spans[-1], times, poses, heading, (left, mirrored)))
        now = times[-1] + random.uniform(*_PAUSE)

    clock = np.arange(round(now * RATE)) / RATE
    moment = np.concatenate(moments)
    program, turned = (_between(moment, np.concatenate(keys), clock) for keys in (angles, headings))
    bodies = np.zeros((2, len(clock), len(NTU25), 3))
    bodies[0] = _move(actor, program, turned, clock, random)
    visits = []
    for span, times, poses, heading, sides in guests:
        start, stop = max(span.start - _AROUND, 0), min(span.stop + _AROUND, len(clock))
        present = clock[start:stop]
        guest = _move(other, _between(times, poses, present), np.full(len(present), heading + 180), present, random)
        contact = int(np.searchsorted(present, times[len(ACTIONS[span.label].enter) + 1]))
        here, there = contact_joints(ACTIONS[span.label], sides)
        bodies[1, start:stop] = guest + (bodies[0, start + contact, here] - guest[contact, there]) * (1, 0, 1)
        visits.append((start, stop))
    return Session(subject, session, bodies, tuple(visits), tuple(spans))


def observe_session(session: Session, camera: int) -> Array:
    """What the sensor of a camera reports of a session; see :func:`datasets.synthetic_scene.observe`.

    Args:
        session: what is seen.
        camera: index into ``CAMERAS``.

    Returns:
        (L, 2, V, 3) in metres, an absent partner all zero.
    """
    random = np.random.default_rng([_VIEW, session.subject, session.session, camera])
    seen = project(session.bodies, camera, random)
    reported = np.zeros_like(seen)
    for person, (start, stop) in ((0, (0, seen.shape[1])), *((1, visit) for visit in session.visits)):
        there = seen[[person], start:stop]
        reported[[person], start:stop] = sense(there, _LOSSES * (stop - start) / RATE, random)
    return reported.swapaxes(0, 1)


def _between(moments: Array, values: Array, clock: Array) -> Array:
    """Values at K moments followed by a monotone cubic, and held before the first and after the last."""
    return np.asarray(PchipInterpolator(moments, values)(np.clip(clock, moments[0], moments[-1])))


def _move(actor: Subject, program: Array, heading: Array, clock: Array, random: np.random.Generator) -> Array:
    """Joints (L, V, 3) of a body that idles beside its program (L, A) and faces where it is told (L,), in degrees."""
    resting = idle(actor, clock, round(_FIDGETS * (clock[-1] - clock[0])), random)
    joints = forward_kinematics(resting + program, actor.offsets)
    return stand(joints @ turn_about_y(heading).swapaxes(1, 2))

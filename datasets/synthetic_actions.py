"""The actions of the synthetic set: joint-angle programs, written as key poses.

A program adds to the posture of an idling body. Every key is (seconds to get there, pose); between keys the angles
follow a monotone cubic. Poses name only the angles that differ from idling (see ``synthetic_body.ANGLES``); sides are
those of a right-handed performance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from datasets.synthetic_body import Pose

Keys = tuple[tuple[float, Pose], ...]
Script = tuple[Keys, Keys, Keys]
"""Keys to enter, loop and leave."""


@dataclass(frozen=True)
class Action:
    """One class.

    Attributes:
        name: class name.
        enter, loop, leave: keys in order; the loop is run through ``repeats`` (inclusive range) times.
        leave: the way out; its last key is where the body stays.
        start: pose held before the action.
        partner: the second person's keys (enter, loop, leave) of a two-person class; same times as this person's.
        contact: joints (of the actor, of the partner) that meet at the first key of the loop; this places the two.
    """

    name: str
    enter: Keys = ()
    loop: Keys = ()
    leave: Keys = ((0.5, {}),)
    repeats: tuple[int, int] = (1, 1)
    start: Pose = field(default_factory=dict)
    partner: Script | None = None
    contact: tuple[str, str] = ("right_hand", "right_hand")

    @property
    def scripts(self) -> tuple[Script, ...]:
        """The script of every person."""
        own = (self.enter, self.loop, self.leave)
        return (own, self.partner) if self.partner else (own,)


_RAISED = {"right_arm_outward": 88, "right_arm_forward": 16, "right_arm_roll": 84, "right_elbow": 64}
_CLAP_OPEN = {"arms_forward": 42, "elbows": 72, "arms_roll": 14}
_CLAP_SHUT = {"arms_forward": 46, "elbows": 68, "arms_roll": -37}
_GUARD = {
    "left_arm_forward": 52, "left_elbow": 104, "right_arm_forward": 34, "right_elbow": 122, "arms_roll": -12,
    "left_leg_forward": 18, "left_knee": 14, "right_leg_forward": -12, "right_knee": 14, "twist": -12,
}  # fmt: skip
_STRIKE = {"right_arm_forward": 92, "right_elbow": 2, "right_arm_roll": 0, "twist": 28, "turn": 8, "lean": 8}
_SEATED = {"legs_forward": 94, "knees": 96, "ankles": 2, "arms_forward": 32, "elbows": 38, "legs_outward": 3}
_RISING = {"legs_forward": 70, "knees": 80, "ankles": 10, "lean": 22, "bend": 26, "arms_forward": 40, "elbows": 24}
_DOWN = {"lean": 46, "bend": 44, "legs_forward": 48, "knees": 68, "ankles": 18, "nod": 6}
_SIP = {"right_arm_outward": 6, "right_arm_roll": -40, "right_elbow": 122}
_PHONE = {"right_arm_forward": 40, "right_arm_outward": 58, "right_arm_roll": 45, "right_elbow": 144, "tilt": -12}
_LIFTED = {"right_leg_forward": 82, "right_knee": 92, "right_ankle": -12, "left_knee": 4, "arms_outward": 9}
_EXTENDED = {"right_knee": 2, "right_leg_forward": 84, "lean": -14, "left_arm_forward": 30}
_SHAKE = {"right_arm_forward": 44, "right_elbow": 40, "right_arm_roll": -14, "bend": 5}
_FIVE = {"right_arm_forward": 116, "right_arm_outward": 12, "right_elbow": 30}


def _walk(side: str, other: str) -> Keys:
    """The leg of ``side`` swings through, then it has landed in front, soon enough that no foot slides."""
    swing = {f"{side}_leg_forward": 31, f"{side}_knee": 54, f"{side}_ankle": 14, f"{other}_leg_forward": -8}
    front = {f"{side}_leg_forward": 24, f"{side}_knee": 2, f"{side}_ankle": -20}
    rear = {f"{other}_leg_forward": -20, f"{other}_knee": 8, f"{other}_ankle": 24}
    arms = {f"{other}_arm_forward": 26, f"{side}_arm_forward": -18, "elbows": 14}
    return (0.3, swing | {"elbows": 14}), (0.18, front | rear | arms)


def _march(side: str, other: str) -> Keys:
    """The knee of ``side`` goes up, then the foot is back on its spot."""
    knee = {f"{side}_leg_forward": 76, f"{side}_knee": 84}
    arms = {f"{other}_arm_forward": 44, f"{side}_arm_forward": -30, "elbows": 60}
    return (0.24, knee | arms), (0.24, {"elbows": 60})


_SHAKE_LOOP = ((0.17, _SHAKE | {"right_elbow": 54}), (0.17, _SHAKE | {"right_elbow": 33}))
_SHAKE_KEYS: Script = (((0.6, _SHAKE),), _SHAKE_LOOP, ((0.15, _SHAKE), (0.5, {})))
_FIVE_KEYS: Script = (
    ((0.55, _FIVE | {"right_elbow": 110, "right_arm_forward": 78}),),
    ((0.2, _FIVE), (0.3, _FIVE | {"right_elbow": 110, "right_arm_forward": 78})),
    ((0.5, {}),),
)

ACTIONS: tuple[Action, ...] = (
    Action(
        "wave",
        enter=((0.5, _RAISED),),
        loop=(
            (0.22, _RAISED | {"right_arm_roll": 96, "right_elbow": 40}),
            (0.22, _RAISED | {"right_arm_roll": 66, "right_elbow": 92}),
        ),
        repeats=(3, 5),
    ),
    Action(
        "clap",
        enter=((0.45, _CLAP_OPEN),),
        loop=((0.17, _CLAP_SHUT), (0.2, _CLAP_OPEN)),
        repeats=(3, 6),
    ),
    Action(
        "clap overhead",
        enter=((0.5, {"arms_outward": 112, "elbows": 12}),),
        loop=(
            (0.24, {"arms_outward": 164, "elbows": 24, "arms_roll": 88}),
            (0.28, {"arms_outward": 112, "elbows": 12, "arms_roll": 44}),
        ),
        repeats=(2, 4),
    ),
    Action(
        "throw",
        enter=(
            (0.5, {"right_arm_outward": 84, "right_arm_forward": -22, "right_arm_roll": 84, "right_elbow": 96,
                   "left_arm_forward": 48, "left_elbow": 20, "left_leg_forward": 10,
                   "twist": -30, "turn": -16, "lean": -5}),
            (0.2, {"right_arm_outward": 44, "right_arm_forward": 108, "right_arm_roll": 34, "right_elbow": 34,
                   "left_arm_forward": 10, "left_leg_forward": 24, "left_knee": 10, "right_leg_forward": -10,
                   "twist": 16, "turn": 6, "lean": 8}),
            (0.2, {"right_arm_outward": -22, "right_arm_forward": 46, "right_arm_roll": -10, "right_elbow": 16,
                   "left_leg_forward": 24, "left_knee": 14, "right_leg_forward": -16, "right_knee": 16,
                   "twist": 34, "turn": 14, "bend": 18, "lean": 14}),
        ),
        leave=((0.6, {}),),
    ),
    Action(
        "punch",
        enter=((0.4, _GUARD),),
        loop=(
            (0.18, _GUARD | _STRIKE),
            (0.1, _GUARD | _STRIKE),
            (0.27, _GUARD),
        ),
        repeats=(2, 3),
    ),
    Action(
        "drink",
        enter=((0.7, _SIP | {"right_arm_forward": 60}),),
        loop=(
            (0.35, _SIP | {"right_arm_forward": 76, "nod": -24}),
            (0.6, _SIP | {"right_arm_forward": 84, "nod": -32}),
            (0.3, _SIP | {"right_arm_forward": 60}),
        ),
        leave=((0.6, {}),),
    ),
    Action(
        "phone call",
        enter=((0.7, _PHONE),),
        loop=((0.5, _PHONE | {"right_arm_outward": 62, "tilt": -16, "nod": 6}), (0.5, _PHONE)),
        repeats=(1, 2),
        leave=((0.6, {}),),
    ),
    Action(
        "kick",
        loop=(
            (0.32, _LIFTED | {"right_leg_forward": 56}),
            (0.18, _LIFTED | _EXTENDED),
            (0.14, _LIFTED | _EXTENDED),
            (0.2, _LIFTED | {"right_leg_forward": 56}),
            (0.3, {}),
        ),
        leave=((0.1, {}),),
        repeats=(2, 3),
    ),
    Action(
        "knee raise",
        loop=((0.42, _LIFTED), (0.25, _LIFTED | {"right_leg_forward": 88}), (0.4, {})),
        leave=((0.1, {}),),
        repeats=(2, 3),
    ),
    Action("sit down", enter=((0.65, _RISING),), leave=((0.6, _SEATED),)),
    Action("stand up", start=_SEATED, enter=((0.55, _RISING),), leave=((0.65, {}),)),
    Action(
        "squat",
        loop=(
            (0.75, {"legs_forward": 98, "knees": 112, "ankles": 16, "lean": 20, "bend": 16, "arms_forward": 84,
                    "legs_outward": 8}),
            (0.75, {}),
        ),
        leave=((0.1, {}),),
        repeats=(1, 2),
    ),
    Action(
        "bow",
        enter=((0.7, {"lean": 34, "bend": 30, "nod": 16, "arms_forward": 48}),),
        loop=((0.4, {"lean": 36, "bend": 32, "nod": 18, "arms_forward": 52}),),
        leave=((0.8, {}),),
    ),
    Action(
        "pick up with one hand",
        enter=(
            (0.8, _DOWN | {"right_arm_forward": 92, "right_elbow": 6, "left_arm_forward": 26, "twist": 14}),
            (0.3, _DOWN | {"right_arm_forward": 96, "right_elbow": 4, "left_arm_forward": 26, "twist": 16}),
            (0.7, {"right_arm_forward": 18, "right_elbow": 66}),
        ),
    ),
    Action(
        "pick up with two hands",
        enter=(
            (0.8, _DOWN | {"arms_forward": 92, "elbows": 8, "arms_roll": -10}),
            (0.3, _DOWN | {"arms_forward": 96, "elbows": 8, "arms_roll": -12}),
            (0.7, {"arms_forward": 18, "elbows": 66, "arms_roll": -12}),
        ),
    ),
    Action("walk", loop=_walk("right", "left") + _walk("left", "right"), repeats=(2, 3)),
    Action("march", loop=_march("right", "left") + _march("left", "right"), repeats=(2, 3)),
    Action("shake hands", *_SHAKE_KEYS, repeats=(2, 4), partner=_SHAKE_KEYS),
    Action("high five", *_FIVE_KEYS, repeats=(1, 2), partner=_FIVE_KEYS),
    Action(
        "push",
        enter=((0.5, {"arms_forward": 36, "elbows": 104, "lean": -3}),),
        loop=(
            (0.22, {"arms_forward": 84, "elbows": 8, "lean": 12, "bend": 8, "left_leg_forward": 22, "left_knee": 16,
                    "right_leg_forward": -12}),
            (0.4, {"arms_forward": 36, "elbows": 104, "left_leg_forward": 14, "left_knee": 8}),
        ),
        partner=(
            ((0.5, {}),),
            (
                (0.22, {"lean": -4, "bend": -6, "arms_forward": 10}),
                (0.4, {"lean": -14, "bend": -14, "arms_forward": 40, "arms_outward": 26, "elbows": 34, "nod": 14,
                       "right_leg_forward": -24, "right_knee": 14}),
            ),
            ((0.5, {}),),
        ),
        contact=("right_hand", "left_shoulder"),
    ),
)  # fmt: skip
"""All classes, index = label."""

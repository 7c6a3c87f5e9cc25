"""A second synthetic domain, to transfer to: other people, other cameras with a noisier sensor, partly other actions.

The generator is that of ``datasets/synthetic.py``. Nine of the fifteen classes are in both sets. The cameras stand farther
away and at other angles, so that there is about twice the noise, and limbs are lost more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from datasets.synthetic import Domain, Synthetic
from datasets.synthetic_actions import ACTIONS, Action
from datasets.synthetic_scene import Sensor

TRAINING_SUBJECTS = (101, 103, 104, 106, 108, 109)
_SHARED = ("wave", "throw", "drink", "kick", "sit down", "bow", "walk", "shake hands", "push")

_ABOVE = {"arms_outward": 158, "elbows": 6, "bend": -10, "nod": -16}
_LUNGE = {"right_leg_forward": 62, "right_knee": 78, "left_leg_forward": -22, "left_knee": 34, "elbows": 30}
_CROSSED = {"arms_forward": 44, "elbows": 108, "arms_roll": -52, "bend": 4}
_ELBOWS_OUT = {"arms_outward": 68, "elbows": 96}
_TWISTED = _ELBOWS_OUT | {"twist": 40, "turn": 12}
_OVER = {"side": 30, "roll": 5, "left_arm_outward": 150, "tilt": 14}

MORE = (
    Action("stretch", enter=((0.8, _ABOVE),), loop=((0.5, _ABOVE | {"bend": -18}), (0.5, _ABOVE)), leave=((0.8, {}),)),
    Action("bend sideways", enter=((0.6, _OVER),), loop=((0.5, {"side": 12}), (0.5, _OVER)), repeats=(1, 3)),
    Action("lunge", enter=((0.6, _LUNGE),), loop=((0.35, _LUNGE | {"right_knee": 88}), (0.35, _LUNGE)), repeats=(1, 2)),
    Action(
        "twist trunk",
        enter=((0.4, _TWISTED),),
        loop=((0.45, _ELBOWS_OUT | {"twist": -40, "turn": -12}), (0.45, _TWISTED)),
        repeats=(1, 3),
    ),
    Action(
        "arm circles",
        enter=((0.4, {"arms_outward": 60}),),
        loop=(
            (0.2, {"arms_outward": 84, "arms_forward": 46}),
            (0.2, {"arms_outward": 132, "arms_forward": 20}),
            (0.2, {"arms_outward": 96, "arms_forward": -24}),
            (0.2, {"arms_outward": 56}),
        ),
        repeats=(2, 4),
    ),
    Action("cross arms", enter=((0.6, _CROSSED),), loop=((0.8, _CROSSED | {"nod": 4}),), leave=((0.6, {}),)),
)
"""Actions that the first domain does not have."""

DOMAIN = Domain(
    subjects=tuple(range(101, 111)),
    training=TRAINING_SUBJECTS,
    actions=(*(action for action in ACTIONS if action.name in _SHARED), *MORE),
    sensor=Sensor(cameras=((65.0, 2.4, 4.2), (20.0, 1.1, 3.8), (-25.0, 2.0, 3.4)), tilt=35.0, noise=0.010, losses=2.0),
)


class SyntheticB(Synthetic):
    """The dataset ``synthetic_b``; everything but its domain is as in ``synthetic``."""

    title: ClassVar[str] = "embedded: second synthetic domain (other people, cameras, partly other actions)"
    version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ("synthetic-b",)
    splits: ClassVar[Mapping[str, str]] = {
        "xsub": f"subjects {', '.join(map(str, TRAINING_SUBJECTS))} train, the others test, all cameras",
        "xview": "cameras 2 and 3 train, camera 1 tests",
    }
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {"xsub": (540, 360), "xview": (600, 300)}
    targets: ClassVar[Mapping[str, str]] = {"transfer": "synthetic", "segmentation": "synthetic_untrimmed"}
    domain: ClassVar[Domain] = DOMAIN

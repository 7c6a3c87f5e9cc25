"""Skeleton layouts: the only place that knows how many joints a skeleton has and what they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.config import BenchError

_LEFT = re.compile(r"(^|[_\W])(l|left)(?=[_\W]|$)|left", re.IGNORECASE)
_RIGHT = re.compile(r"(^|[_\W])(r|right)(?=[_\W]|$)|right", re.IGNORECASE)
_CENTRES = (
    "spineshoulder",
    "shouldercenter",
    "shouldercentre",
    "neck",
    "chest",
    "thorax",
    "spine",
    "hipcenter",
    "pelvis",
)


def _side(name: str) -> str:
    return "left" if _LEFT.search(name) else "right" if _RIGHT.search(name) else ""


def _sideless(name: str) -> str:
    plain = re.sub(r"[\W_]", "", (_LEFT if _side(name) == "left" else _RIGHT).sub("", name))
    return plain.lower().replace("centre", "center")


@dataclass(frozen=True)
class Layout:
    """Joints of a skeleton and their tree.

    Attributes:
        name: short name, e.g. ``ntu25``.
        joints: names; a name that says left or right makes a pair.
        bones: ``bones[v]`` is the parent of joint ``v`` in the tree rooted at ``centre`` (the centre is its own parent);
            it defines the bone stream, the graph and every rebuild from bones.
        centre: joint that preparation moves to the origin.
        shoulders: left and right shoulder, whose line preparation turns onto +x; ``None`` when the layout has none.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[int, ...]
    centre: int
    shoulders: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.joints)

    @classmethod
    def from_parents(
        cls, name: str, joints: Sequence[str], parents: Sequence[int], centre: str | int | None = None
    ) -> Layout:
        """Layout of any skeleton from joint names and a parent list (-1, or itself, marks the root).

        The tree is re-rooted at the centre joint: the one named, else a shoulder centre, neck or spine by name, else the root.

        Raises:
            BenchError: lengths differ, a parent is out of range, names repeat, or the parents are not one tree.
        """
        count = len(joints)
        if len(parents) != count or len(set(joints)) != count:
            raise BenchError(
                f"Layout {name!r}: {count} joint names (must be unique) and {len(parents)} parents (must be as many)."
            )
        roots = [v for v, p in enumerate(parents) if p in (-1, v)]
        if len(roots) != 1 or any(not -1 <= p < count for p in parents):
            raise BenchError(f"Layout {name!r}: parents must form one tree with one root (-1); found roots {roots}.")
        if centre is None:
            lowered = [re.sub(r"[\W_]", "", joint).lower() for joint in joints]
            centre = next((lowered.index(c) for c in _CENTRES if c in lowered), roots[0])
        elif isinstance(centre, str):
            if centre not in joints:
                raise BenchError(f"Layout {name!r}: centre joint {centre!r} is not among {', '.join(joints)}.")
            centre = list(joints).index(centre)
        neighbours: list[list[int]] = [[] for _ in joints]
        for v, p in enumerate(parents):
            if p not in (-1, v):
                neighbours[v].append(p)
                neighbours[p].append(v)
        bones = {centre: centre}
        frontier = [centre]
        while frontier:
            joint = frontier.pop()
            for other in neighbours[joint]:
                if other not in bones:
                    bones[other] = joint
                    frontier.append(other)
        if len(bones) != count:
            raise BenchError(
                f"Layout {name!r}: parents must form one tree; {count - len(bones)} joints are not connected."
            )
        shoulders = tuple(
            next((v for v, joint in enumerate(joints) if _side(joint) == side and "shoulder" in joint.lower()), -1)
            for side in ("left", "right")
        )
        pair = (shoulders[0], shoulders[1]) if -1 not in shoulders else None
        return cls(name, tuple(joints), tuple(bones[v] for v in range(count)), centre, pair)

    @cached_property
    def sides(self) -> tuple[str, ...]:
        """``left``, ``right`` or ``""`` of every joint, by its name."""
        return tuple(_side(joint) for joint in self.joints)

    @cached_property
    def flip(self) -> tuple[int, ...]:
        """Source joint of every joint under a left-right swap; joints without a partner stay."""
        index = {(_side(j), _sideless(j)): v for v, j in enumerate(self.joints) if _side(j)}
        other = {"left": "right", "right": "left"}
        return tuple(
            index.get((other[_side(j)], _sideless(j)), v) if _side(j) else v for v, j in enumerate(self.joints)
        )

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Joints from the centre outwards: every parent comes before its children."""
        found = [self.centre]
        for joint in found:
            found += [v for v, p in enumerate(self.bones) if p == joint and v != self.centre]
        return tuple(found)

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Body parts: the joints without a side, then every connected limb of joints with one."""
        middle = {v for v, j in enumerate(self.joints) if not _side(j)}
        limb: dict[int, int] = {}
        for v in self.order:
            if v not in middle:
                limb[v] = limb.get(self.bones[v], v)
        limbs = [
            tuple(sorted(v for v, root in limb.items() if root == start)) for start in dict.fromkeys(limb.values())
        ]
        return tuple(part for part in (tuple(sorted(middle)), *sorted(limbs)) if part)


NTU25 = Layout(
    name="ntu25",
    joints=(
        "spine_base", "spine_mid", "neck", "head",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand",
        "left_hip", "left_knee", "left_ankle", "left_foot",
        "right_hip", "right_knee", "right_ankle", "right_foot",
        "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
    ),
    # The released bone list: hand tips hang on the thumbs, thumbs on the hands (aimclr.md 1.6).
    bones=(1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11),
    centre=20,
    shoulders=(4, 8),
)  # fmt: skip

KINECT20 = Layout.from_parents(
    "kinect20",
    (
        "HipCenter", "Spine", "ShoulderCenter", "Head",
        "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
        "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
        "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
        "HipRight", "KneeRight", "AnkleRight", "FootRight",
    ),
    (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
)  # fmt: skip

LAYOUTS = {layout.name: layout for layout in (NTU25, KINECT20)}
"""Layouts known by name."""

_JOINT_MAPS = {
    # Neck and spine shoulder both lie at the shoulder centre, hand tips and thumbs at the hands.
    ("kinect20", "ntu25"): (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 7, 7, 11, 11),
    ("ntu25", "kinect20"): (0, 1, 20, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
}


def joint_map(source: Layout, target: Layout) -> tuple[int, ...]:
    """For every joint of ``target`` the joint of ``source`` that stands for it.

    Joints are told by their names, however these are spelt (``left_hand``, ``HandLeft``) and ordered; between skeletons
    with other joints, by a mapping declared here.

    Raises:
        BenchError: ``target`` has joints that ``source`` does not have, and no mapping is declared.
    """
    if source.joints == target.joints:
        return tuple(range(len(source)))
    if same := _by_name(source, target):
        return same
    for (first, second), joints in _JOINT_MAPS.items():
        before, after = _by_name(source, LAYOUTS[first]), _by_name(LAYOUTS[second], target)
        if before and after:
            return tuple(before[joints[v]] for v in after)
    absent = [joint for joint in target.joints if not _by_name(source, target, (joint,))]
    known = ", ".join(f"{a} -> {b}" for a, b in _JOINT_MAPS)
    raise BenchError(
        f"No joint mapping from {source.name} to {target.name}: {source.name} has no {', '.join(absent)}, and none is "
        f"declared. Declared: {known}."
    )


def _by_name(source: Layout, target: Layout, joints: Sequence[str] = ()) -> tuple[int, ...]:
    """Joints of ``source`` with the names of those of ``target``, all or some; nothing where one is missing."""
    index = {(_side(joint), _sideless(joint)): v for v, joint in enumerate(source.joints)}
    found = [index.get((_side(joint), _sideless(joint)), -1) for joint in joints or target.joints]
    return () if -1 in found else tuple(found)

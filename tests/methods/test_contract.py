"""Every method in the tree keeps the contract: losses, gradients, determinism, ablation rows, other layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.steps import COCO17
from datasets.clips import from_storage
from datasets.layout import KINECT20, NTU25, Layout
from datasets.mixing import Mix
from datasets.streams import STREAMS, to_stream
from encoders.base import Encoder
from encoders.coordinates import Coordinates
from engine.config import BenchError, Config, known_keys, resolve
from engine.registry import find, names
from methods.base import Context, Method, Step

TINY: Mapping[str, Any] = {
    "moco.queue": 12, "moco.dim": 8, "generator.dim": 16, "generator.depth": 1, "generator.heads": 2,
    "decoder.dim": 16, "decoder.blocks": 1, "decoder.heads": 2,
}  # fmt: skip
TRAINED = [name for name in names("methods") if name not in ("random", "raw", "imported")]


ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "stgcn": {"width": 2, "dim": 8},
    "dsta": {"width": 4, "init": "torch"},
    "skeleton_transformer": {"dim": 8, "blocks": 1, "heads": 2},
    "bigru": {"hidden": 4, "layers": 1},
    "ctrgcn": {"width": 8},
}


def tiny(name: str) -> Mapping[str, Any]:
    """Settings that make a method small, as far as it has them."""
    known = known_keys(find("methods", name).Config)
    return {key: value for key, value in TINY.items() if key in known}


def build(
    name: str,
    overrides: Mapping[str, Any],
    layout: Layout = NTU25,
    persons: int = 2,
    stream: str = "joint",
    encoder: str = "stgcn",
) -> Method:
    torch.manual_seed(0)
    cls = find("methods", name)

    def make_encoder() -> Encoder:
        if cls.encoder_name == "coordinates":
            return Coordinates(Config(), layout, 20, persons)
        chosen = find("encoders", encoder)
        return chosen(resolve(chosen.Config, ENCODERS[encoder]), layout, 20, persons)  # type: ignore[no-any-return]

    mean = clips(layout, persons).mean(dim=0)
    context = Context(make_encoder, layout, stream, 20, persons, 10, mean)
    method: Method = cls(resolve(cls.Config, tiny(name), overrides), context)
    return method.train()


def clips(layout: Layout, persons: int) -> Tensor:
    return from_storage(torch.randn(5, persons, 20, len(layout), 3, generator=torch.Generator().manual_seed(1)))


def step(epoch: int = 1) -> Step:
    return Step(epoch, 300, 0, 600, torch.Generator().manual_seed(2))


def losses_of(method: Method, epoch: int = 1) -> dict[str, Tensor]:
    context, now = method.context, step(epoch)
    torch.manual_seed(4)
    views = method.views(clips(context.layout, context.persons), now)
    if not method.all_streams:
        views = tuple(to_stream(view, context.stream, context.layout) for view in views)
    return method(views, now)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(
    ("layout", "persons"), [(NTU25, 2), (KINECT20, 1), (COCO17, 1)], ids=lambda v: getattr(v, "name", v)
)
def test_losses_are_finite_and_reach_the_encoder(name: str, layout: Layout, persons: int) -> None:
    method = build(name, {}, layout, persons)
    before = {key: value.clone() for key, value in method.state_dict().items() if key.startswith("target.")}
    losses = losses_of(method)
    assert losses
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in method.encoder.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0
    trainable_targets = [p for n, p in method.named_parameters() if n.startswith("target.") and p.requires_grad]
    assert not trainable_targets
    method.after_step(step())
    moved = any(not torch.equal(value, method.state_dict()[key]) for key, value in before.items())
    assert moved or not before  # the BatchNorm of a momentum copy
    for value in method.metrics().values():
        assert torch.isfinite(value)


@pytest.mark.parametrize("name", [*TRAINED, "random"])
@pytest.mark.parametrize("encoder", [name for name in names("encoders") if name != "coordinates"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_encoder_or_a_reason(name: str, encoder: str, precision: str) -> None:
    """A pair of method and encoder trains two steps, or the method says why it cannot."""
    cls = find("methods", name)
    config = resolve(cls.Config, tiny(name))
    reason = cls.supports(config, find("encoders", encoder))
    assert (reason is None) == (encoder != "bigru" or name in ("skeletonclr", "hiclr", "crossclr", "cmd", "random")), (
        reason
    )
    if reason:
        assert "which this encoder does not make" in reason
        return
    method = build(name, {}, encoder=encoder)
    if name == "random":
        assert method.encoder.pool(method.encoder(clips(NTU25, 2))).shape == (5, method.encoder.dim)
        return
    for module in method.modules():
        if isinstance(module, Encoder):
            module.precision = precision
    optimiser = torch.optim.AdamW(method.parameters(), 1e-3, weight_decay=0)  # only a gradient moves a weight
    for _ in range(2):
        before = [p.detach().clone() for p in method.encoder.parameters()]
        losses = losses_of(method)
        assert all(torch.isfinite(loss) for loss in losses.values())
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        gradients = [p.grad for p in method.encoder.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in gradients)
        optimiser.step()
        method.after_step(step())
        assert all(torch.isfinite(p).all() for p in method.parameters())
        assert any(not torch.equal(p, old) for p, old in zip(method.encoder.parameters(), before, strict=True))
    assert all(torch.isfinite(value) for value in method.metrics().values())


@pytest.mark.parametrize("encoder", [name for name in names("encoders") if name not in ("coordinates", "bigru")])
def test_actionlets_have_the_resolution_of_the_maps(encoder: str) -> None:
    method = build("actclr", {"actionlet.mode": "relative"}, encoder=encoder).eval()
    with torch.no_grad():
        maps = method.encoder(clips(NTU25, 2))
        mask = method.attention(maps)
    assert mask is not None
    assert mask.shape == (5, 2, -(-20 // method.encoder.temporal_stride), 25)
    assert mask.std(dim=2).max() > 0  # it tells moments apart
    assert mask.std(dim=3).max() > 0  # and joints


def test_bigru_runs_aimclr_without_its_drop() -> None:
    losses = losses_of(build("aimclr", {"eadm.on": False}, encoder="bigru"))
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("encoder", ["dsta", "ctrgcn"])
def test_edges_are_dropped_where_joints_attend(encoder: str) -> None:
    method = build("hiclr", find("methods", "hiclr").presets["dae"], encoder=encoder)
    if encoder == "ctrgcn":  # as initialised its graph convolutions do next to nothing
        for block in [*method.online.encoder.blocks, *method.target.network.encoder.blocks]:
            block.graph.norm.weight.data.fill_(1.0)
    dropped = losses_of(method)
    method.config = method.config.model_copy(update={"dae": method.config.dae.model_copy(update={"drop_max": 0.0})})
    assert losses_of(method)["hierarchy2"] != dropped["hierarchy2"]


@pytest.mark.parametrize("encoder", ["skeleton_transformer", "bigru"])
def test_edges_cannot_be_dropped_without_a_graph(encoder: str) -> None:
    with pytest.raises(BenchError, match="needs an encoder with a graph or attention between joints"):
        build("hiclr", find("methods", "hiclr").presets["dae"], encoder=encoder)


def test_mixed_windows_at_the_resolution_of_the_maps() -> None:
    """What was replaced covers the same frames whatever the encoder's stride."""
    mix = Mix("cut", 1, (3, 4), start=2, length=3, amount=0.0)
    for stride, rows in ((4, range(2, 5)), (1, range(8, 20)), (3, range(2, 7)), (8, range(1, 3))):
        used, replaced = mix.masks(40 // stride, 25, torch.device("cpu"), stride)
        assert torch.equal(used, replaced)
        assert replaced.any(dim=1).nonzero().flatten().tolist() == list(rows)
        assert replaced.any(dim=0).nonzero().flatten().tolist() == [3, 4]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream(name: str, stream: str) -> None:
    assert all(torch.isfinite(loss) for loss in losses_of(build(name, {}, stream=stream)).values())


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_losses(name: str) -> None:
    first, second = losses_of(build(name, {})), losses_of(build(name, {}))
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def tables() -> list[Any]:
    rows = []
    for name in TRAINED:
        cls = find("methods", name)
        for kind, table in (
            ("recipe", cls.recipes),
            ("budget", cls.budgets),
            ("tuned", cls.tuned),
            ("preset", cls.presets),
        ):
            rows += [pytest.param(name, changes, id=f"{name}-{kind}-{row}") for row, changes in table.items()]
        for title, table in cls.ablations.items():
            for row, changes in table.items():
                own = {path: value for path, value in changes.items() if not path.startswith("protocol.")}
                rows += [pytest.param(name, own, id=f"{name}-{title}-{row}")]
    return rows


@pytest.mark.parametrize(("name", "changes"), tables())
@pytest.mark.parametrize("epoch", [1, 250])
def test_every_declared_variant_runs(name: str, changes: Mapping[str, Any], epoch: int) -> None:
    """Recipes, budgets, presets and ablation rows are valid settings and give finite losses in both phases."""
    losses = losses_of(build(name, {**changes, **tiny(name)}), epoch)
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("name", ["random", "raw", "imported"])
def test_reference_rows_do_not_train(name: str) -> None:
    method = build(name, {})
    assert method.config.train.epochs == 0
    features = method.encoder.pool(method.encoder(clips(NTU25, 2)))
    assert features.shape == (5, method.encoder.dim)


def test_actclr_starts_from_aimclr() -> None:
    aimclr, actclr = build("aimclr", {}), build("actclr", {})
    with torch.no_grad():
        for p in aimclr.parameters():
            p += 0.5
    actclr.start_from(aimclr.state_dict())
    for key, value in aimclr.online.state_dict().items():
        assert torch.equal(value, actclr.online.state_dict()[key])
        assert torch.equal(value, actclr.target.network.state_dict()[key])
    with pytest.raises(BenchError, match="cannot start from this AimCLR run"):
        actclr.start_from({})


def test_hiclr_names_a_wrong_number_of_weights() -> None:
    with pytest.raises(BenchError, match=r"hierarchy\.weights has 2 entries, one per student branch = 1"):
        build("hiclr", {"branches": [["BA"], ["BA", "NA"]]})


def test_strong_branches_change_only_their_branch() -> None:
    """Mask, DAE and AdaIN act on their own branch: the losses of the weaker ones stay the same."""
    plain = losses_of(build("hiclr", {"branches": [["BA"], ["BA", "NA"], ["BA", "NA"]]}))
    for strong in ("MASK", "DAE", "ADAIN"):
        changed = losses_of(build("hiclr", {"branches": [["BA"], ["BA", "NA"], ["BA", "NA", strong]]}))
        assert changed["nce"].item() == plain["nce"].item(), strong
        assert changed["hierarchy1"].item() == plain["hierarchy1"].item(), strong
        assert changed["hierarchy2"].item() != plain["hierarchy2"].item(), strong


def test_aimclr_components_can_be_switched() -> None:
    full = losses_of(build("aimclr", {}))
    assert set(full) == {"nce", "d3m"}
    assert set(losses_of(build("aimclr", {"d3m": False}))) == {"nce"}
    without = losses_of(build("aimclr", {"eadm.on": False}))
    assert without["nce"].item() == full["nce"].item()
    assert without["d3m"].item() != full["d3m"].item()
    mined, plain = losses_of(build("aimclr", {}), 151), losses_of(build("aimclr", {"nnm.on": False}), 151)
    assert mined["nce"].item() < plain["nce"].item()


@pytest.mark.parametrize("inside", [0.0, 1.0], ids=["no actionlet", "all actionlet"])
def test_where_the_non_actionlet_transformation_acts(inside: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions by what the student sees of T_non where masks are all 0 or all 1 (ActCLR Table 7)."""
    seen: dict[tuple[str, bool], Tensor] = {}
    for region in ("non_actionlet", "full", "full_noise", "full_mix"):
        for mix in (True, False):
            method = build("actclr", {"region": region, "mix": mix, "adain": "off"})
            mask = torch.full((5, 2, 5, 25), inside)
            monkeypatch.setattr("methods.actclr.difference_activation", lambda *of, mask=mask: mask)
            online, given = method.online.encoder, []
            monkeypatch.setattr(
                online, "forward", lambda x, *of, given=given, run=online.forward: given.append(x) or run(x, *of)
            )
            losses_of(method)
            seen[region, mix] = next(x for x in given[::-1] if len(x) == 5)
    plain, everywhere = ("non_actionlet", True), ("full", True)

    def same(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
        return torch.allclose(seen[one], seen[other])

    if not inside:  # nothing is an actionlet, so T_non acts everywhere in any case
        assert all(same(everywhere, (region, True)) for region, _ in seen)
        return
    assert not same(plain, everywhere)
    assert same(plain, ("non_actionlet", False))  # the mix stays outside
    assert same(("full_noise", True), ("full", False))  # all noise, no mix
    assert not same(("full_noise", True), plain)
    assert same(("full_mix", False), plain)  # no noise, and the mix is off
    assert not same(("full_mix", True), plain)
    assert not same(("full_mix", True), everywhere)  # all mix, no noise


@pytest.mark.parametrize("name", ["actclr", "aimclr"])
def test_features_inside_and_outside_of_actionlets(name: str) -> None:
    from engine.extract import pooled

    method = build(name, {"actionlet.mode": "binary"} if name == "actclr" else {}).eval()
    with torch.no_grad():
        maps = method.encoder(clips(NTU25, 2))
        assert torch.equal(pooled(method, maps, "encoder"), method.encoder.pool(maps))  # type: ignore[arg-type]
        inside, outside = pooled(method, maps, "actionlet"), pooled(method, maps, "non_actionlet")
        if name == "aimclr":
            assert inside is outside is None
            return
        weights = method.attention(maps)
        assert weights is not None
        assert inside is not None
        assert outside is not None
        for i in range(len(maps)):
            for features, keep in ((inside, weights[i] > 0.5), (outside, weights[i] < 0.5)):
                persons = [maps[i, m][:, keep[m]].sum(dim=1) / (keep[m].sum() + 1e-5) for m in range(maps.shape[1])]
                torch.testing.assert_close(features[i], torch.stack(persons).mean(0), rtol=1e-4, atol=1e-5)


def test_hiclr_keys_can_be_restyled_and_nothing_else() -> None:
    plain = losses_of(build("hiclr", {}))
    assert losses_of(build("hiclr", {"key_set": ["BA", "ADAIN"]}))["nce"].item() != plain["nce"].item()
    with pytest.raises(BenchError, match=r"hiclr\.key_set: DAE, MASK act on branches only"):
        build("hiclr", {"key_set": ["BA", "MASK", "DAE"]})


@pytest.mark.parametrize("anchor", ["dataset", "batch"])
def test_actclr_attends_to_what_differs_from_the_average_clip(anchor: str) -> None:
    """The mask of its own training, by the trained network in evaluation mode; nothing is left of a batch in it."""
    method = build("actclr", {"actionlet.anchor": anchor, "actionlet.mode": "relative"}).eval()
    with torch.no_grad():
        maps = method.encoder(clips(NTU25, 2))
        weights = method.attention(maps)
        assert weights is not None
        assert weights.shape == (5, 2, maps.shape[3], 25)
        assert 0 <= weights.min() < weights.max() <= 1
        alone = method.attention(maps[3:4])
        assert alone is not None
        torch.testing.assert_close(alone, weights[3:4])
        # The gradient of the similarity to the average clip, by autograd.
        free = maps.clone().requires_grad_()
        with torch.enable_grad():
            embed = method.online.embed  # type: ignore[operator, union-attr]
            anchor_unit = embed(method.encoder(method.context.mean_clip[None]))  # type: ignore[index]
            (embed(free) @ anchor_unit.T).sum().backward()
        assert free.grad is not None
        activation = torch.einsum("nd,nmdtv->nmtv", -free.grad.sum(dim=(1, 3, 4)), maps).relu()
        for part in NTU25.parts:
            activation[..., list(part)] = activation[..., list(part)].mean(-1, keepdim=True)
        expected = activation / activation.amax(dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["aimclr", "random", "raw"])
def test_methods_without_actionlets_attend_to_nothing(name: str) -> None:
    method = build(name, {})
    assert method.attention(method.encoder(clips(NTU25, 2))) is None

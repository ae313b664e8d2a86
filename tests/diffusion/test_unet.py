from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_feature_codec.diffusion.blocks import timestep_embedding
from clip_feature_codec.diffusion.config import UNetConfig
from clip_feature_codec.diffusion.unet import CLIPCondUNet, layout_planes
from clip_feature_codec.errors import ConfigError


def small_unet(**changes: Any) -> CLIPCondUNet:
    options: dict[str, Any] = {"clip_dim": 12, "base": 8, "ch_mult": (1, 2), "num_res_blocks": 1}
    return CLIPCondUNet(UNetConfig(**(options | changes)))


def shaken(unet: CLIPCondUNet, seed: int = 0) -> CLIPCondUNet:
    """Move every weight off its start: some begin at zero, where nothing can be seen to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in unet.parameters():
        parameter.data.normal_(std=0.2, generator=generator)
    return unet


def inputs(rows: int = 2, size: int = 16, dim: int = 12, channels: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, channels, size, size, generator=generator)
    z = nn.functional.normalize(torch.randn(rows, dim, generator=generator))
    return x, z, torch.randint(0, 1000, (rows,), generator=generator)


def layouts(rows: int = 2, side: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    pictures = torch.randint(0, 256, (rows, 3, side, side), generator=generator, dtype=torch.uint8)
    return layout_planes(pictures, torch.ones(rows, dtype=torch.bool))


def all_inputs(options: dict[str, Any]) -> tuple[Tensor, ...]:
    """Everything that a network of these options takes."""
    plain = inputs(channels=options.get("in_channels", 3))
    return (*plain, layouts(side=options["layout"])) if "layout" in options else plain


VARIANTS: list[dict[str, Any]] = [
    {},
    {"ch_mult": (1,)},
    {"ch_mult": (1, 2, 2), "num_res_blocks": 2},
    {"ch_mult": (3, 1, 2), "attention_levels": (0, 2)},
    {"base": 64, "ch_mult": (1, 2), "attention_levels": (1,)},
    {"base": 12, "patch": 2, "attention_levels": (1,)},
    {"patch": 4, "in_channels": 1},
    {"patch": 2, "z_map": 3},
    {"layout": 6},
    {"patch": 2, "layout": 16, "z_map": 3},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_output_has_the_shape_of_the_input_and_starts_at_zero(options: dict[str, Any]) -> None:
    unet = small_unet(**options)
    found = unet(*all_inputs(options))
    assert found.shape == all_inputs(options)[0].shape
    assert found.dtype == torch.float32
    assert float(found.detach().abs().max()) == 0.0


@pytest.mark.parametrize("options", VARIANTS)
def test_every_weight_gets_a_gradient(options: dict[str, Any]) -> None:
    unet = shaken(small_unet(**options))
    unet(*all_inputs(options)).square().mean().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("options", VARIANTS)
def test_feature_maps_stay_in_channels_last_memory(options: dict[str, Any]) -> None:
    unet = shaken(small_unet(**options))
    seen = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in unet.modules():
        if module is not unet:
            module.register_forward_hook(look)
    unet(*all_inputs(options))
    assert len(seen) > 10
    assert all(seen)


def test_default_is_the_specified_network() -> None:
    with torch.device("meta"):
        unet = CLIPCondUNet(UNetConfig(512))
        found = unet(torch.zeros(8, 3, 256, 256), torch.zeros(8, 512), torch.zeros(8, dtype=torch.int64))
    assert found.shape == (8, 3, 256, 256)
    assert unet.config.to_json() == {
        "clip_dim": 512,
        "base": 128,
        "ch_mult": [1, 2, 2],
        "num_res_blocks": 2,
        "attention_levels": [],
        "patch": 1,
        "z_map": 0,
        "layout": 0,
        "residual_gain": 0.0,
        "shrinkage": None,
        "in_channels": 3,
    }


def test_vector_and_timestep_both_matter() -> None:
    unet = shaken(small_unet())
    x, z, t = inputs()
    plain = unet(x, z, t)
    assert float((unet(x, z.flip(0), t) - plain).detach().abs().max()) > 1e-3
    assert float((unet(x, torch.zeros_like(z), t) - plain).detach().abs().max()) > 1e-3
    assert float((unet(x, z, t.flip(0)) - plain).detach().abs().max()) > 1e-3
    assert float((unet(x.flip(0), z, t) - plain).detach().abs().max()) > 1e-3


def test_rows_do_not_see_each_other() -> None:
    unet = shaken(small_unet(attention_levels=(1,)))
    x, z, t = inputs(rows=3)
    together = unet(x, z, t)
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(unet(x[one], z[one], t[one]), together[one], rtol=1e-4, atol=1e-5)


def test_attention_reaches_across_the_picture() -> None:
    x, z, t = inputs(rows=1, size=64)
    changed = x.clone()
    changed[..., :4, :4] += 3.0
    # One level and few blocks: convolutions alone reach about ten pixels, norms only shift and scale.
    without, attending = (shaken(small_unet(ch_mult=(1,), attention_levels=level)) for level in ((), (0,)))
    for norm in (m for unet in (without, attending) for m in unet.modules() if isinstance(m, nn.GroupNorm)):
        norm.register_forward_hook(lambda module, args, output: args[0])

    def far_change(unet: CLIPCondUNet) -> float:
        return float((unet(changed, z, t) - unet(x, z, t)).detach()[..., 32:, 32:].abs().max())

    assert far_change(without) == 0.0
    assert far_change(attending) > 0.0


def test_coarse_map_says_where_and_no_vector_says_nothing() -> None:
    unet = shaken(small_unet(z_map=4))
    assert unet.map_proj is not None
    x, z, t = inputs(rows=1, size=32)
    nowhere = torch.zeros_like(z)
    with torch.no_grad():
        unet.clip_proj.weight.zero_()  # FiLM no longer hears of the vector
        weights = unet.map_proj.weight.view(-1, 4, 4, z.shape[1])
        weights[:, :, 1:] = 0.0  # and of the map only the left quarter is left
        change = (unet(x, z, t) - unet(x, nowhere, t)).abs().mean(dim=(0, 1, 2))
        assert float(change[:8].mean()) > 3 * float(change[24:].mean())
        plain = shaken(small_unet())
        shared = {k: v for k, v in unet.state_dict().items() if k != "map_proj.weight"}
        plain.load_state_dict(shared)
        torch.testing.assert_close(unet(x, nowhere, t), plain(x, nowhere, t))


def test_a_new_layout_projection_changes_nothing_and_learns_at_once() -> None:
    plain = shaken(small_unet(patch=2))
    unet = small_unet(patch=2, layout=6)
    unet.load_state_dict(unet.state_dict() | plain.state_dict())  # the projection is as it starts
    found = unet(*inputs(), layouts())
    assert torch.equal(found, plain(*inputs()))
    found.square().mean().backward()
    assert unet.layout_proj is not None
    gradient = unet.layout_proj.weight.grad
    assert gradient is not None
    assert bool(gradient.abs().amax(dim=(0, 2, 3)).gt(0).all())  # every plane of every place in a patch


def test_rows_without_a_layout_hear_nothing_of_it() -> None:
    unet = shaken(small_unet(patch=2, layout=6, z_map=3))
    pictures = torch.full((2, 3, 6, 6), 200, dtype=torch.uint8)
    absent = unet(*inputs(), layout_planes(pictures, torch.tensor([False, False])))
    assert torch.equal(absent, unet(*inputs()))
    mixed = unet(*inputs(), layout_planes(pictures, torch.tensor([False, True])))
    torch.testing.assert_close(mixed[0], absent[0])
    assert float((mixed[1] - absent[1]).detach().abs().max()) > 1e-2


def test_middle_grey_is_not_the_same_as_no_layout() -> None:
    unet = shaken(small_unet(layout=6))
    grey = torch.full((2, 3, 6, 6), 127, dtype=torch.uint8)
    shown = unet(*inputs(), layout_planes(grey, torch.ones(2, dtype=torch.bool)))
    assert float((shown - unet(*inputs())).detach().abs().max()) > 1e-2


def test_layout_says_where() -> None:
    unet = shaken(small_unet(ch_mult=(1,), layout=16))
    for norm in (module for module in unet.modules() if isinstance(module, nn.GroupNorm)):
        norm.register_forward_hook(lambda module, args, output: args[0])  # norms would spread any change
    x, z, t = inputs(rows=1, size=64)
    layout = layouts(rows=1, side=16)
    changed = layout.clone()
    changed[..., :2, :2] += 0.5  # of a quarter of x_t's size
    change = (unet(x, z, t, changed) - unet(x, z, t, layout)).detach().abs()
    assert float(change[..., :8, :8].mean()) > 1e-3
    assert float(change[..., 32:, 32:].max()) == 0.0


def test_layout_planes_are_colours_and_a_mask() -> None:
    pictures = torch.tensor([[0, 255, 51]] * 2, dtype=torch.uint8)[:, :, None, None]
    planes = layout_planes(pictures, torch.tensor([True, False]))
    assert planes.dtype == torch.float32
    expected = torch.tensor([[-1.0, 1.0, -0.6, 1.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(planes[..., 0, 0], expected)


@pytest.mark.parametrize(
    ("side", "rows", "said"), [(0, 2, "none at all"), (6, 2, "4, 6, 6"), (5, 1, "4, 5, 5")]
)
def test_layouts_that_do_not_fit_are_refused(side: int, rows: int, said: str) -> None:
    unet = small_unet(layout=side)
    with pytest.raises(ConfigError, match=said):
        unet(*inputs(), layouts(rows=rows, side=5))


def test_patches_fold_space_into_channels() -> None:
    plain, folded = small_unet(), small_unet(patch=4)
    assert folded.stem.in_channels == 16 * plain.stem.in_channels
    assert folded.size_multiple == 8
    x, z, t = inputs(size=24)
    assert shaken(folded)(x, z, t).shape == x.shape


def test_pictures_need_not_be_square() -> None:
    _, z, t = inputs()
    x = torch.zeros(2, 3, 8, 24)
    assert shaken(small_unet())(x, z, t).shape == x.shape


@pytest.mark.parametrize(("height", "width"), [(17, 16), (16, 18), (2, 16), (15, 15)])
def test_sizes_that_do_not_divide_are_refused(height: int, width: int) -> None:
    _, z, t = inputs()
    with pytest.raises(ConfigError, match=f"{width}×{height} do not fit .* multiples of 4"):
        small_unet(patch=2)(torch.zeros(2, 3, height, width), z, t)


def test_bf16_autocast_stays_near_float32() -> None:
    unet = shaken(small_unet(attention_levels=(0, 1)))
    x, z, t = inputs()
    plain = unet(x, z, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = unet(x, z, t)
    assert found.dtype == torch.bfloat16
    assert float((found.float() - plain).detach().norm() / plain.detach().norm()) < 0.05
    found.float().square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in unet.parameters())


@pytest.mark.parametrize("options", [{}, {"layout": 6}])
def test_whole_graph_can_be_exported_without_a_break(options: dict[str, Any]) -> None:
    unet = shaken(small_unet(attention_levels=(1,), patch=2, **options)).eval()
    args = all_inputs(options)
    exported = torch.export.export(unet, args, strict=False).module()
    torch.testing.assert_close(exported(*args), unet(*args))


def test_config_builds_the_same_network_again() -> None:
    unet = shaken(small_unet(attention_levels=(1,), patch=2))
    again = CLIPCondUNet(UNetConfig(**json.loads(json.dumps(unet.config.to_json()))))
    again.load_state_dict(unet.state_dict())
    torch.testing.assert_close(again(*inputs()), unet(*inputs()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_dim": 0}, "clip_dim is 0"),
        ({"base": 30}, "base is 30; it must be a multiple of 4"),
        ({"base": 8.0}, "base is 8.0"),
        ({"ch_mult": ()}, "ch_mult is"),
        ({"ch_mult": (1, 0)}, "ch_mult is"),
        ({"ch_mult": (1,) * 9}, "ch_mult is"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"num_res_blocks": 10**9}, "num_res_blocks is 1000000000"),
        ({"attention_levels": (2,)}, "attention_levels is .* from 0 to 1"),
        ({"attention_levels": (-1,)}, "attention_levels is"),
        ({"patch": 0}, "patch is 0"),
        ({"z_map": 65}, "z_map is 65"),
        ({"layout": True}, "layout is True"),
        ({"layout": 257}, "layout is 257"),
        ({"in_channels": True}, "in_channels is True"),
    ],
)
def test_senseless_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_unet(**options)


def test_timestep_embedding_is_the_sinusoid() -> None:
    found = timestep_embedding(torch.tensor([0, 1, 999]), 6)
    assert found.shape == (3, 6)
    frequencies = torch.tensor([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)], dtype=torch.float64)
    for row, t in zip(found, (0, 1, 999), strict=True):
        expected = torch.cat([(t * frequencies).cos(), (t * frequencies).sin()])
        torch.testing.assert_close(row.double(), expected, rtol=0, atol=2e-4)

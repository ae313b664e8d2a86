from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from train_helpers import SPACE, tiny_config, tiny_pairs

from clip_feature_codec.errors import CheckpointError, ConfigError, SpaceMismatchError
from clip_feature_codec.train.state import TrainingState, warmed_up_average


def initial(data="data", space=SPACE, batches_per_step=1, **options):
    return TrainingState.initial(tiny_config(**options), space, data, batches_per_step, torch.device("cpu"))


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_the_average_warms_up(decay):
    model = torch.nn.Linear(1, 1, bias=False).double()
    average = AveragedModel(model, multi_avg_fn=warmed_up_average(decay))
    values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0]
    expected = values[0]
    for n, value in enumerate(values):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        if n:
            d = min(decay, (1 + n) / (10 + n))
            expected = d * expected + (1 - d) * value
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)


def test_initial_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one, same, other = initial().unet, initial().unet, initial(seed=1).unet
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.stem.weight, same.stem.weight)
    assert not torch.equal(one.stem.weight, other.stem.weight)


def test_checkpoint_holds_plain_types(tmp_path):
    initial().save(tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert content["step"] == 0
    assert not any(name.startswith(("_orig_mod", "module")) for name in content["unet"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": 0.5}, "lr: 0.001, not 0.5"),
        ({"base": 12}, "base: 8, not 12"),
        ({"layout": 6}, "layout: 0, not 6"),
        ({"batch_size": 3, "seed": 4}, "batch_size: 2, not 3; seed: 0, not 4"),
        ({"data": "other"}, "pictures"),
        ({"batches_per_step": 2}, "accumulate): 1, not 2"),
    ],
    ids=str,
)
def test_refuses_to_go_on_with_something_else(tmp_path, changed, said):
    path = tmp_path / "state.pt"
    initial().save(path)
    with pytest.raises(ConfigError) as caught:
        initial(**changed).load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "restart=True" in str(caught.value)


def test_a_checkpoint_from_before_there_were_layouts_goes_on(tmp_path):
    path = tmp_path / "state.pt"
    state = initial()
    state.step = 3
    state.save(path)
    content = torch.load(path, weights_only=True)
    for name in ("layout", "layout_dropout"):
        del content["config"][name]
    torch.save(content, path)
    later = initial()
    later.load(path)
    assert later.step == 3


def test_refuses_another_space_by_name(tmp_path):
    initial().save(tmp_path / "state.pt")
    other = dataclasses.replace(SPACE, weights_sha256="cd" * 32, model="other-model")
    with pytest.raises(SpaceMismatchError, match=r"test-model.*other-model"):
        initial(space=other).load(tmp_path / "state.pt")


def test_goes_on_with_another_length_and_cadence(tmp_path):
    state = initial(max_steps=4, accumulate=2, batches_per_step=2)
    state.step = 3
    state.save(tmp_path / "state.pt")
    later = initial(max_steps=9, log_every=7, accumulate=1, batches_per_step=2)
    later.load(tmp_path / "state.pt")
    assert later.step == 3


@pytest.mark.parametrize("damage", ["truncated", "text", "foreign", "version", "incomplete"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "state.pt"
    initial().save(path)
    content = torch.load(path, weights_only=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "version":
        torch.save({**content, "version": 99}, path)
    else:
        del content["optimizer"]
        torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        initial().load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_have_fingerprints():
    assert tiny_pairs().fingerprint == tiny_pairs().fingerprint
    assert tiny_pairs().fingerprint != tiny_pairs(seed=1).fingerprint
    assert tiny_pairs().fingerprint != tiny_pairs(count=11).fingerprint
    assert len({tiny_pairs(layout=side).fingerprint for side in (0, 4, 5)}) == 3

"""Pipelines of diffusers' own classes, tiny, with seeded random weights, in folders as on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

DIM = 32
SIDE = 16
"""Of the canvases of most of them, in pixels."""
CASCADE_SIDE = 256


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """A network with weights that do not depend on what was made before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = make()
    return made.eval() if isinstance(made, torch.nn.Module) else made


def image_encoder(seed: int = 0) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=DIM,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=32,
        intermediate_size=37,
        patch_size=8,
        initializer_factor=5.0,  # vectors of different pictures should differ
    )
    return seeded(lambda: CLIPVisionModelWithProjection(config), seed)


def feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer that knows the empty text, and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 8, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(kind: Any = CLIPTextModel, seed: int = 1) -> Any:
    config = CLIPTextConfig(
        bos_token_id=53,
        eos_token_id=54,
        pad_token_id=54,
        hidden_size=32,
        projection_dim=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=1,
        vocab_size=55,
        max_position_embeddings=8,
    )
    return seeded(lambda: kind(config), seed)


def unet(**changes: Any) -> diffusers.UNet2DConditionModel:
    config: dict[str, Any] = {
        "sample_size": SIDE // 2,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 32,
        "layers_per_block": 1,
    }
    return seeded(lambda: diffusers.UNet2DConditionModel(**(config | changes)), 2)


def vae() -> diffusers.AutoencoderKL:
    """One that, as a trained one, is sure of its latents: without that, noise would be all that they are."""
    network = seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=[8, 16],
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
            norm_num_groups=4,
        ),
        3,
    )
    with torch.no_grad():
        network.quant_conv.weight[4:], network.quant_conv.bias[4:] = 0, -20
    return network


def ddim(**changes: Any) -> diffusers.DDIMScheduler:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    return diffusers.DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False, **changes)


def save_unclip(folder: Path) -> Path:
    """Stable unCLIP, with an image normalizer that makes the length of an embedding matter."""
    normalizer = seeded(
        lambda: (
            diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer.StableUnCLIPImageNormalizer(
                DIM
            )
        )
    )
    diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=feature_extractor(),
        image_encoder=image_encoder(),
        image_normalizer=normalizer,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(folder / "tokenizer"),
        text_encoder=text_encoder(),
        unet=unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * DIM),
        scheduler=ddim(prediction_type="v_prediction"),
        vae=vae(),
    ).save_pretrained(folder)
    return folder


def kandinsky_unet() -> diffusers.UNet2DConditionModel:
    return unet(
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        norm_num_groups=32,
        encoder_hid_dim=DIM,
        encoder_hid_dim_type="image_proj",
        resnet_time_scale_shift="scale_shift",
    )


def save_kandinsky(folder: Path) -> Path:
    """A decoder of Kandinsky 2.2, and beside it the prior that its model card names, as on the hub."""
    movq = seeded(
        lambda: diffusers.VQModel(
            block_out_channels=[32, 64],
            down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
            up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            latent_channels=4,
            num_vq_embeddings=12,
            norm_num_groups=8,
            norm_type="spatial",
            vq_embed_dim=4,
        )
    )
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, variance_type="learned_range"
    )
    diffusers.KandinskyV22Pipeline(unet=kandinsky_unet(), scheduler=scheduler, movq=movq).save_pretrained(
        folder
    )
    prior = folder.with_name(f"{folder.name}-prior")
    image_encoder().save_pretrained(prior / "image_encoder")
    feature_extractor().save_pretrained(prior / "image_processor")
    index = {"_class_name": "KandinskyV22PriorPipeline", "image_encoder": ["transformers", "..."]}
    (prior / "model_index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text(f"---\nprior:\n- {prior}\n---\nA decoder.\n")
    return folder


def save_ip_adapter(folder: Path) -> str:
    """Stable Diffusion 1.5 with an IP-Adapter beside it; the name of both."""
    network = unet()
    diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "tokenizer"),
        unet=network,
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return f"{folder}+{save_adapter(folder.with_name(f'{folder.name}-ip') / 'models', network)}"


def save_lcm(folder: Path) -> str:
    """A latent consistency model, which is told the guidance, with an IP-Adapter beside it."""
    network = unet(time_cond_proj_dim=16)
    diffusers.LatentConsistencyModelPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "tokenizer"),
        unet=network,
        scheduler=diffusers.LCMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return f"{folder}+{save_adapter(folder.with_name(f'{folder.name}-ip') / 'models', network)}"


def save_ip_adapter_xl(folder: Path) -> str:
    """Stable Diffusion XL with an IP-Adapter whose tower lies where that of the smaller ones does."""
    network = unet(
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=1,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        cross_attention_dim=64,
    )
    words = tokenizer(folder / "tokenizer")
    diffusers.StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, seed=4),
        tokenizer=words,
        tokenizer_2=words,
        unet=network,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
        add_watermarker=False,
    ).save_pretrained(folder)
    adapters = folder.with_name(f"{folder.name}-ip")
    file = save_adapter(adapters / "models", network)
    moved = adapters / "sdxl_models" / file.name
    moved.parent.mkdir()
    return f"{folder}+{file.rename(moved)}"


def save_adapter(folder: Path, network: diffusers.UNet2DConditionModel) -> Path:
    """An IP-Adapter's file, and the image tower that it was trained with, as they lie in h94/IP-Adapter."""
    image_encoder().save_pretrained(folder / "image_encoder")
    width, tokens, tensors = network.config.cross_attention_dim, 4, {}
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    tensors["image_proj.proj.weight"] = random(width * tokens, DIM)
    tensors["image_proj.proj.bias"] = torch.zeros(width * tokens)
    tensors["image_proj.norm.weight"], tensors["image_proj.norm.bias"] = torch.ones(width), torch.zeros(width)
    number = 1
    for name, module in network.named_modules():
        if name.endswith("attn2"):
            for part in ("k", "v"):
                shape = getattr(module, f"to_{part}").weight.shape
                tensors[f"ip_adapter.{number}.to_{part}_ip.weight"] = random(*shape)
            number += 2
    file = folder / "ip-adapter.safetensors"
    save_file(tensors, file)
    return file


def save_cascade(folder: Path) -> Path:
    """Stable Cascade with both of its stages in one folder."""
    from diffusers.models import StableCascadeUNet
    from diffusers.pipelines.stable_cascade.pipeline_stable_cascade import PaellaVQModel

    words, scheduler = tokenizer(folder / "tokenizer"), diffusers.DDPMWuerstchenScheduler()
    prior = StableCascadeUNet(
        conditioning_dim=16,
        block_out_channels=(16, 16),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_image_in_channels=DIM,
        switch_level=(False,),
        clip_text_in_channels=32,
        clip_text_pooled_in_channels=32,
    )
    decoder = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=16,
        block_out_channels=(8, 8, 8, 8),
        num_attention_heads=(-1, -1, 1, 2),
        down_num_layers_per_block=(1, 1, 1, 1),
        up_num_layers_per_block=(1, 1, 1, 1),
        down_blocks_repeat_mappers=(1, 1, 1, 1),
        up_blocks_repeat_mappers=(1, 1, 1, 1),
        block_types_per_layer=(
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ),
        switch_level=None,
        clip_text_pooled_in_channels=32,
        dropout=(0.1, 0.1, 0.1, 0.1),
        effnet_in_channels=16,
        patch_size=2,
    )
    diffusers.StableCascadeCombinedPipeline(
        tokenizer=words,
        text_encoder=text_encoder(CLIPTextModelWithProjection),
        decoder=decoder.eval(),
        scheduler=scheduler,
        vqgan=seeded(lambda: PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8)),
        prior_prior=prior.eval(),
        prior_text_encoder=text_encoder(CLIPTextModelWithProjection),
        prior_tokenizer=words,
        prior_scheduler=scheduler,
        prior_feature_extractor=feature_extractor(),
        prior_image_encoder=image_encoder(),
    ).save_pretrained(folder)
    return folder


def cascade_by_hand(folder: Path) -> tuple[Any, Any]:
    """Both stages of what `save_cascade` wrote."""
    from diffusers.models import StableCascadeUNet
    from diffusers.pipelines.stable_cascade.pipeline_stable_cascade import PaellaVQModel

    words, scheduler = (
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        diffusers.DDPMWuerstchenScheduler(),
    )
    prior = diffusers.StableCascadePriorPipeline(
        tokenizer=words,
        text_encoder=CLIPTextModelWithProjection.from_pretrained(folder / "prior_text_encoder"),
        prior=StableCascadeUNet.from_pretrained(folder / "prior_prior").eval(),
        scheduler=scheduler,
    )
    decoder = diffusers.StableCascadeDecoderPipeline(
        decoder=StableCascadeUNet.from_pretrained(folder / "decoder").eval(),
        tokenizer=words,
        text_encoder=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
        scheduler=scheduler,
        vqgan=PaellaVQModel.from_pretrained(folder / "vqgan").eval(),
    )
    return prior, decoder

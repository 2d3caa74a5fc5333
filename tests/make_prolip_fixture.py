"""Makes tests/fixtures/prolip: a tiny ProLIP of the authors' own code with random weights, and what it gives.

    git clone https://github.com/naver-ai/prolip
    python tests/make_prolip_fixture.py prolip/src

Needs torch, numpy and safetensors. The numbers are those of `ProLIP` in prolip/model.py (MIT, NAVER Cloud), run in float32;
the tolerance is that of the other cases: the larger of 1e-5 of the largest value and 5 times the distance to a float64 run.
Weights are scaled so that mistakes show: no zero biases, no unit norm weights.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent / "fixtures" / "prolip" / "model"
CONFIG = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 34, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 3.3,
        "embed_unc": True, "init_unc_bias": -10,
    },
    "text_cfg": {
        "context_length": 12, "vocab_size": 198, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 24, "heads": 3, "layers": 2, "no_causal_mask": True,
        "proj_bias": True, "pool_type": "last", "embed_cls": True, "embed_unc": True, "norm_kwargs": {"eps": 1e-6},
        "init_unc_bias": -10,
    },
}


def authors_model(source: Path):
    """prolip.model without the package's __init__, which imports training code."""
    package = types.ModuleType("prolip")
    package.__path__ = [str(source / "prolip")]
    sys.modules["prolip"] = package
    for name in ("utils", "pos_embed", "transformer", "model"):
        spec = importlib.util.spec_from_file_location(f"prolip.{name}", source / "prolip" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"prolip.{name}"] = module
        spec.loader.exec_module(module)
    return sys.modules["prolip.model"]


def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            value = torch.tensor(2.3)
        elif name == "logit_bias":
            value = torch.tensor(-7.5)
        elif "ln_" in name and name.endswith("weight"):
            value = 1 + 0.3 * noise
        elif name.endswith("bias") or "emb" in name:
            value = 0.3 * noise
        else:
            value = noise * (0.9 / np.sqrt(parameter.shape[-1]))
        parameter.data.copy_(value)


def outputs(model, pixel_values, input_ids):
    with torch.no_grad():
        result = model(pixel_values, input_ids)
    image, text = result["image_features"], result["text_features"]
    logits = result["logit_scale"] * image["mean"] @ text["mean"].T + result["logit_bias"]
    return {
        "image_mean": image["mean"], "image_log_variance": image["std"],
        "text_mean": text["mean"], "text_log_variance": text["std"],
        "logits_per_image": logits,
    }


def main():
    source = Path(sys.argv[1])
    module = authors_model(source)
    generator = torch.Generator().manual_seed(7)
    model = module.ProLIP(**CONFIG).eval()
    randomise(model, generator)
    pixel_values = torch.randn(3, 3, 34, 34, generator=generator)
    input_ids = torch.randint(3, 198, (4, 12), generator=generator)
    input_ids[1, 5:] = 1
    input_ids[3, 1:] = 1

    expected = outputs(model, pixel_values, input_ids)
    exact = outputs(double(module, model), pixel_values.double(), input_ids)
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, OUT / "model.safetensors")
    save_file({"pixel_values": pixel_values, "input_ids": input_ids}, OUT / "inputs.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, OUT / "expected.safetensors")
    (OUT / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    case = {
        "case": "prolip/model", "kind": "prolip", "seed": 7,
        "what": "ProLIP: [cls, unc, patches] with the last norm twice on cls; [tokens, unc, cls] without mask, variance from "
                "the projected mean",
        "call": "ProLIP(**config).eval()(pixel_values, input_ids) of the authors' code",
        "library": {"torch": torch.__version__, "numpy": np.__version__},
        "compare": "pass when |got - expected| <= atol + rtol * |expected| elementwise",
        "expected": {},
    }
    for name, value in expected.items():
        distance = (value.double() - exact[name]).abs().max().item()
        largest = value.abs().max().item()
        case["expected"][name] = {
            "shape": list(value.shape), "dtype": "F32", "atol": max(1e-5 * largest, 5 * distance), "rtol": 1e-4,
            "ref_err_vs_f64": distance, "absmax": largest,
        }
    (OUT / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def double(module, model):
    """The same model in float64."""
    copy = module.ProLIP(**CONFIG).eval()
    copy.load_state_dict(model.state_dict())
    return copy.double()


if __name__ == "__main__":
    main()

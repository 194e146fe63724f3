"""What PEFT itself makes of adapters, for test/gpu-runner/interchange/peft.test.ts.

Reads one JSON request from standard input, writes one JSON answer to standard output:
  in:  {"gguf": path, "ids": [token ids], "import": [folders], "export": folder, "layers": [...]}
  out: {"versions": {...}, "base": [logits], "import": [{"applied": [...], "merged": [...]}],
        "export": [logits]}
Logits are those of the last token. The base's weights come from the GGUF file, dequantised to
float32 by transformers. `import` folders are applied, then merged by PEFT; `export` is an OFT adapter
that PEFT makes with random parameters and saves there.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from peft import OFTConfig, PeftModel, get_peft_model


def load(path: str) -> torch.nn.Module:
    folder, name = os.path.split(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def logits(model: torch.nn.Module, ids: list[int]) -> list[float]:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].tolist()


def main() -> None:
    request = json.load(sys.stdin)
    torch.manual_seed(2410)
    model = load(request["gguf"])
    # Kept to begin each adapter from the very same weights: a merge changes them.
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = request["ids"]
    answer = {
        "versions": {
            "peft": peft.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "base": logits(model, ids),
        "import": [],
    }
    for folder in request["import"]:
        adapted = PeftModel.from_pretrained(model, folder)
        applied = logits(adapted, ids)
        model = adapted.merge_and_unload()
        answer["import"].append({"applied": applied, "merged": logits(model, ids)})
        model.load_state_dict(weights)
    config = OFTConfig(
        r=0,
        oft_block_size=2,
        use_cayley_neumann=False,
        target_modules=["o_proj"],
        layers_to_transform=request["layers"],
        init_weights=False,
    )
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(request["export"])
    answer["export"] = logits(adapted, ids)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()

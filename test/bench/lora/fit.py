"""LoRA of rank 4 by PEFT, on the rows, prompts, label scoring and folds of `npm run bench -- tasks`.

    python test/bench/lora/fit.py EXPORTED.json... --out .arcana/bench/measured/lora.jsonl [--seeds 0,1,2]

EXPORTED.json is what `npm run bench -- tasks --export FOLDER` wrote. Each line that is added to --out
is one set and seed in the form of the bench's own store (test/bench/tasks/store.ts), so `tasks` shows
it as the column `lora` where the file is in the folder that it keeps; sets and seeds that are there
already are left out.

The base's weights come from the GGUF file, dequantised to float32 by transformers. As the adapters
that it is compared with (scope `generated`), LoRA acts from the prompt's last token on: the prompt's
keys and values are the base model's own. The loss is the job's: the mean of -log P(right label) along
the label trie. Settings and steps are chosen by the held-out loss of the same folds, then fitted once
more to all rows. Adam without weight decay, all rows a step, no dropout. The folds of a setting are
fitted side by side (rows.py), each with weights and a step of its own.
"""

import argparse
import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that spin for long make a step ten times slower wherever something else runs; ones that sleep
# at once, half as slow again on a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from rows import WHOLE_PROMPTS, FoldLinear, Labels, Rows

RANK = 4
ALPHA = 8
"""The folds choose among so many steps at most."""
MAX_STEPS = 30
"""A setting is left after so many steps without a lower held-out loss of all folds together."""
PATIENCE = 4
# As the product's own search over settings (adapters/optimise/auto): from this step on a setting has to
# have gained this share of what the best one gained, by the root of the part of its steps.
RACE_FROM_STEP = 16
RACE_SHARE = 0.4
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
"""Adapted matrices and learning rate."""
SETTINGS = [
    (ATTENTION, 3e-3),
    (["o_proj"], 3e-3),
    (LINEAR, 3e-3),
    (LINEAR, 1e-3),
    (ATTENTION, 1e-3),
    (["o_proj"], 1e-2),
]
# The bench's own floor, under which a label's log probability does not count, and its digits.
LOG_PROB_FLOOR = -100.0
KEPT_DIGITS = 4


def add_lora(model, setting, num_folds: int, seed: int):
    """PEFT's model in which every fold has weights of its own, the same ones to begin with."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(setting[0]))
    adapted = get_peft_model(model, config)
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            for part in (layer.lora_A, layer.lora_B):
                part["default"] = FoldLinear(part["default"], num_folds)
    return adapted


def fit(model, rows: Rows, labels: Labels, gold, weights, setting, num_steps, seed, leaves=None):
    """Fits fold k to the rows of weight 1 in weights[k].

    leaves: asked after every look with the held-out losses so far, whether that is enough.
    Returns those, the one before the first step included, [steps + 1, folds] (each a sum over rows of
    weight 0), and the PEFT model, still in place.
    """
    num_folds = len(weights)
    adapted = add_lora(model, setting, num_folds, seed)
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=setting[1], fused=True)
    held: list[torch.Tensor] = []
    for step in range(num_steps + 1):
        with torch.set_grad_enabled(step < num_steps):
            found = rows.log_probs(model, labels, num_folds)
            losses = -found[:, torch.arange(len(gold)), gold]
            held.append((losses.detach() * (1 - weights)).sum(1))
            # No fold's weights have a part in another's loss, so the sum leaves each its own gradient.
            loss = ((losses * weights).sum(1) / weights.sum(1)).sum()
        if step == num_steps or (leaves is not None and leaves(torch.stack(held).sum(1))):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.stack(held), adapted


def is_enough(losses: torch.Tensor, best: tuple | None) -> bool:
    """Whether a setting with these held-out losses is idle, or lags behind the best one so far."""
    step = len(losses) - 1
    lowest, at = losses.min(0)
    if step - int(at) >= PATIENCE:
        return True
    if best is None or step < RACE_FROM_STEP:
        return False
    best_loss, _, best_step = best
    progress = min(1, step / max(best_step, RACE_FROM_STEP)) ** 0.5
    return bool(losses[0] - lowest < RACE_SHARE * progress * (losses[0] - best_loss))


def choose(model, rows: Rows, labels: Labels, gold, folds, max_steps: int, seed: int):
    """The lowest held-out loss of all folds together, a row, and its setting and number of steps."""
    best = None
    weights = (folds != torch.arange(int(folds.max()) + 1)[:, None]).float()
    for index, setting in enumerate(SETTINGS):
        started = time.monotonic()
        leaves = lambda losses: is_enough(losses / len(gold), best)
        held, adapted = fit(model, rows, labels, gold, weights, setting, max_steps, seed, leaves)
        adapted.unload()
        loss, steps = (held.sum(1) / len(gold)).min(0)
        told = {
            "setting": describe(setting),
            "held_out_loss": round(float(loss), 4),
            "steps": int(steps),
            "tried": len(held) - 1,
            "seconds": round(time.monotonic() - started, 1),
        }
        print(json.dumps(told), file=sys.stderr, flush=True)
        if best is None or float(loss) < best[0]:
            best = (float(loss), index, int(steps))
    return best


def describe(setting: tuple[list[str], float]) -> str:
    return f"{'+'.join(setting[0])}, rate {setting[1]}"


def balanced_accuracy(log_probs: torch.Tensor, gold: torch.Tensor) -> float:
    hits = log_probs.argmax(1) == gold
    return float(torch.stack([hits[gold == label].float().mean() for label in gold.unique()]).mean())


def load(gguf: str):
    folder, name = os.path.split(gguf)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation=WHOLE_PROMPTS
    ).eval()
    return model.requires_grad_(False)


def measure(model, content: dict, seeds: list[int], max_steps: int, out: str) -> None:
    started = time.monotonic()
    labels = Labels(content["label_paths"])
    test = Rows(model, content["test"]["prompts"])
    test_gold = torch.tensor(content["test"]["gold"])
    with torch.no_grad():
        base = test.log_probs(model, labels)[0]
    told = {"set": content["set"], "seconds_of_test_prompts": round(time.monotonic() - started, 1)}
    print(json.dumps(told), file=sys.stderr, flush=True)
    for own in content["seeds"]:
        seed = own["seed"]
        if seed not in seeds:
            continue
        started = time.monotonic()
        rows = Rows(model, own["train"]["prompts"])
        gold = torch.tensor(own["train"]["gold"])
        folds = torch.tensor(own["folds"])
        loss, index, steps = choose(model, rows, labels, gold, folds, max_steps, seed)
        everything = torch.ones(1, len(gold))
        _, adapted = fit(model, rows, labels, gold, everything, SETTINGS[index], steps, seed)
        seconds = time.monotonic() - started
        with torch.no_grad():
            answered = test.log_probs(model, labels)[0]
        adapted.unload()
        chosen = f"{describe(SETTINGS[index])}, {steps} steps"
        line = {
            **setting_of(content),
            "seed": seed,
            "columns": {"lora": kept(answered)},
            "jobs": {
                "lora": {"seconds": round(seconds, 1), "trials": len(SETTINGS), "setting": chosen}
            },
        }
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        told = {
            "set": content["set"],
            "seed": seed,
            "setting": chosen,
            "held_out_loss": round(loss, 4),
            "seconds": round(seconds, 1),
            "base": round(balanced_accuracy(base, test_gold), 4),
            "lora": round(balanced_accuracy(answered, test_gold), 4),
        }
        print(json.dumps(told), flush=True)


def kept(log_probs: torch.Tensor) -> list[list[float]]:
    rows = log_probs.clamp(min=LOG_PROB_FLOOR).tolist()
    return [[round(value, KEPT_DIGITS) for value in row] for row in rows]


def setting_of(content: dict) -> dict:
    return {key: content[key] for key in ("set", "split", "num_rows", "num_train", "rows_digest")}


def key_of(line: dict) -> tuple:
    return tuple(line[name] for name in ("set", "seed", "split", "num_rows", "num_train"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exported", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=MAX_STEPS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = set()
    if os.path.exists(options.out):
        with open(options.out, encoding="utf-8") as file:
            done = {key_of(json.loads(line)) for line in file}
    asked = None if options.seeds is None else [int(seed) for seed in options.seeds.split(",")]
    model, loaded = None, None
    for path in options.exported:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        seeds = [
            own["seed"]
            for own in content["seeds"]
            if (asked is None or own["seed"] in asked)
            and key_of({**setting_of(content), "seed": own["seed"]}) not in done
        ]
        if not seeds:
            continue
        if loaded != content["gguf"]:
            model, loaded = load(content["gguf"]), content["gguf"]
        measure(model, content, seeds, options.steps, options.out)


if __name__ == "__main__":
    main()

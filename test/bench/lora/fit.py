"""LoRA of rank 4 by PEFT, on the rows, prompts, label scoring and folds of `npm run bench -- tasks`.

    python test/bench/lora/fit.py EXPORTED.json... --out .arcana/bench/lora.jsonl [--seeds 0,1,2]

EXPORTED.json is what `npm run bench -- tasks --export FOLDER` wrote. Each line that is added to --out
is one set and seed in the form of the bench's own store (test/bench/tasks/store.ts), so `tasks` shows
it as the column `lora`; sets and seeds that are there already are left out.

The base's weights come from the GGUF file, dequantised to float32 by transformers. As the adapters
that it is compared with (scope `generated`), LoRA acts from the prompt's last token on: the prompt's
keys and values are the base model's own. The loss is the job's: the mean of -log P(right label) along
the label trie. Settings and steps are chosen by the held-out loss of the same folds, then fitted once
more to all rows. Adam without weight decay, all rows a step, no dropout.
"""

import argparse
import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that wait by spinning make a step several times slower wherever something else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache

RANK = 4
ALPHA = 8
"""The folds choose among so many steps at most."""
MAX_STEPS = 30
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
"""Adapted matrices and learning rate."""
SETTINGS = [
    (["o_proj"], 1e-3),
    (["o_proj"], 3e-3),
    (["o_proj"], 1e-2),
    (ATTENTION, 1e-3),
    (ATTENTION, 3e-3),
    (LINEAR, 3e-4),
    (LINEAR, 1e-3),
    (LINEAR, 3e-3),
]
CHUNK_ROWS = 20
# The bench's own floor, under which a label's log probability does not count.
LOG_PROB_FLOOR = -100.0


class Labels:
    """The label trie: which children's logits decide each label, after which tokens."""

    def __init__(self, paths: list[list[dict]]):
        self.paths = []
        contexts: set[tuple[int, ...]] = set()
        for path in paths:
            steps = []
            for i, step in enumerate(path):
                if len(step["children"]) < 2:
                    continue
                context = tuple(own["token"] for own in path[1 : i + 1])
                contexts.add(context)
                steps.append((context, step["children"], step["children"].index(step["gold"])))
            self.paths.append(steps)
        # Only the longest are fed: the others are read on the way.
        self.feeds = [
            own
            for own in sorted(contexts)
            if not any(other != own and other[: len(own)] == own for other in contexts)
        ]

    def log_probs(self, hidden_of: dict, head: torch.Tensor) -> torch.Tensor:
        """hidden_of: context -> [rows, hidden]. Returns [rows, labels]."""
        columns = []
        for steps in self.paths:
            terms = [
                torch.log_softmax(hidden_of[context] @ head[children].T, dim=-1)[:, gold]
                for context, children, gold in steps
            ]
            columns.append(torch.stack(terms).sum(0))
        return torch.stack(columns, dim=1)


class Rows:
    """Prompts of which all but the last token are computed, in chunks padded on the left."""

    def __init__(self, model, prompts: list[list[int]]):
        self.chunks = []
        for start in range(0, len(prompts), CHUNK_ROWS):
            chunk = prompts[start : start + CHUNK_ROWS]
            longest = max(len(ids) for ids in chunk) - 1
            ids = torch.zeros((len(chunk), longest), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, own in enumerate(chunk):
                ids[row, longest - len(own) + 1 :] = torch.tensor(own[:-1])
                mask[row, longest - len(own) + 1 :] = 1
            with torch.no_grad():
                past = model.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                    use_cache=True,
                ).past_key_values
            layers = [(layer.keys, layer.values) for layer in past.layers]
            last = torch.tensor([own[-1] for own in chunk])
            self.chunks.append((layers, mask, last))

    def log_probs(self, model, labels: Labels) -> torch.Tensor:
        """[rows, labels], under whatever adapter the model has now."""
        head = model.lm_head.weight
        parts = []
        for layers, mask, last in self.chunks:
            hidden_of = {}
            for feed in labels.feeds:
                cache = DynamicCache()
                for index, (keys, values) in enumerate(layers):
                    cache.update(keys, values, index)
                fed = torch.tensor(feed, dtype=torch.long).expand(len(last), len(feed))
                ids = torch.cat([last[:, None], fed], dim=1)
                whole = torch.cat([mask, torch.ones_like(ids)], dim=1)
                positions = whole.cumsum(-1)[:, -ids.shape[1] :] - 1
                hidden = model.model(
                    input_ids=ids,
                    attention_mask=whole,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state
                for depth in range(len(feed) + 1):
                    hidden_of[feed[:depth]] = hidden[:, depth]
            parts.append(labels.log_probs(hidden_of, head))
        return torch.cat(parts)


def fit(model, rows: Rows, labels: Labels, gold, weights, setting, num_steps: int, seed: int):
    """Fits to rows of weight 1. Returns each step's held-out loss (sum over rows of weight 0), the step
    before the first included, and the PEFT model, still in place."""
    targets, rate = setting
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(targets))
    adapted = get_peft_model(model, config)
    optimiser = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=rate)
    held = []
    for step in range(num_steps + 1):
        with torch.set_grad_enabled(step < num_steps):
            losses = -rows.log_probs(model, labels)[torch.arange(len(gold)), gold]
            held.append(float((losses.detach() * (1 - weights)).sum()))
            if step == num_steps:
                break
            loss = (losses * weights).sum() / weights.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return held, adapted


def choose(model, rows: Rows, labels: Labels, gold, folds, max_steps: int, seed: int):
    """The setting and number of steps whose folds' held-out loss is lowest."""
    best = None
    for index, setting in enumerate(SETTINGS):
        total = torch.zeros(max_steps + 1)
        for fold in range(int(folds.max()) + 1):
            weights = (folds != fold).float()
            held, adapted = fit(model, rows, labels, gold, weights, setting, max_steps, seed)
            adapted.unload()
            total += torch.tensor(held)
        loss, steps = (total / len(gold)).min(0)
        told = {"setting": describe(setting), "held_out_loss": float(loss), "steps": int(steps)}
        print(json.dumps(told), file=sys.stderr, flush=True)
        if best is None or float(loss) < best[0]:
            best = (float(loss), index, int(steps))
    return best


def describe(setting: tuple[list[str], float]) -> str:
    return f"{'+'.join(setting[0])}, rate {setting[1]}"


def balanced_accuracy(log_probs: torch.Tensor, gold: torch.Tensor) -> float:
    hits = log_probs.argmax(1) == gold
    return float(torch.stack([hits[gold == label].float().mean() for label in gold.unique()]).mean())


def measure(content: dict, seeds: list[int] | None, max_steps: int, done: set, out: str) -> None:
    folder, name = os.path.split(content["gguf"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.requires_grad_(False)
    labels = Labels(content["label_paths"])
    setting_of = {key: content[key] for key in ("set", "split", "num_rows", "num_train")}
    wanted = [
        own
        for own in content["seeds"]
        if (seeds is None or own["seed"] in seeds)
        and key_of({**setting_of, "seed": own["seed"]}) not in done
    ]
    if not wanted:
        return
    test = Rows(model, content["test"]["prompts"])
    test_gold = torch.tensor(content["test"]["gold"])
    with torch.no_grad():
        base = test.log_probs(model, labels)
    for own in wanted:
        seed = own["seed"]
        started = time.monotonic()
        rows = Rows(model, own["train"]["prompts"])
        gold = torch.tensor(own["train"]["gold"])
        folds = torch.tensor(own["folds"])
        loss, index, steps = choose(model, rows, labels, gold, folds, max_steps, seed)
        everything = torch.ones(len(gold))
        _, adapted = fit(model, rows, labels, gold, everything, SETTINGS[index], steps, seed)
        seconds = time.monotonic() - started
        with torch.no_grad():
            answered = test.log_probs(model, labels)
        adapted.unload()
        chosen = f"{describe(SETTINGS[index])}, {steps} steps"
        line = {
            **setting_of,
            "seed": seed,
            "gold": test_gold.tolist(),
            "columns": {"lora": answered.clamp(min=LOG_PROB_FLOOR).tolist()},
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
    seeds = None if options.seeds is None else [int(seed) for seed in options.seeds.split(",")]
    for path in options.exported:
        with open(path, encoding="utf-8") as file:
            measure(json.load(file), seeds, options.steps, done, options.out)


if __name__ == "__main__":
    main()

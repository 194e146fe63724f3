"""Checks fit.py on a small random model in seconds: `python test/bench/lora/check.py`.

Cached prompts and label trie against whole forward passes; all folds side by side against PEFT's own
model, one fold, row and token at a time, losses and weights; nothing left after unloading; which
settings are left; a second run measures nothing twice.
"""

import json
import os
import random
import sys
import tempfile

import peft
import torch
import transformers

sys.path.insert(0, os.path.dirname(__file__))
import fit

# Labels [5, 6], [5, 7] and [8]: two nodes branch.
FIRST = {"token": None, "children": [5, 8]}
PATHS = [
    [{**FIRST, "gold": 5}, {"token": 5, "gold": 6, "children": [6, 7]}],
    [{**FIRST, "gold": 5}, {"token": 5, "gold": 7, "children": [6, 7]}],
    [{**FIRST, "gold": 8}],
]
NUM_TRAIN = 20
NUM_STEPS = 4


def make_model(*_args, **_options):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config).float()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.15)
    return model.eval().requires_grad_(False)


def check_scores(model, labels, prompts) -> None:
    with torch.no_grad():
        found = fit.Rows(model, prompts).log_probs(model, labels)[0]
        model.set_attn_implementation("eager")
        for ids, row in zip(prompts, found, strict=True):
            last = [
                model(input_ids=torch.tensor([ids + more])).logits[0, -1] for more in ([], [5])
            ]
            first = torch.log_softmax(last[0][[5, 8]], 0)
            second = torch.log_softmax(last[1][[6, 7]], 0)
            whole = torch.stack([first[0] + second[0], first[0] + second[1], first[1]])
            assert torch.allclose(row, whole, atol=1e-5), (row, whole)


def peft_losses(model, prompts, gold) -> torch.Tensor:
    """Each row's loss under PEFT's model as it is: a row, a prefix and a token at a time, over a
    cache that was filled while the adapter was disabled."""
    losses = []
    for ids, label in zip(prompts, gold.tolist(), strict=True):
        log_prob = torch.zeros(())
        for step, more in zip(PATHS[label], ([], [5])):
            with torch.no_grad(), model.disable_adapter():
                past = model(input_ids=torch.tensor([ids[:-1]]), use_cache=True).past_key_values
            given = torch.tensor([ids[-1:] + more])
            logits = model(input_ids=given, past_key_values=past, use_cache=True).logits[0, -1]
            children = step["children"]
            log_prob = log_prob + torch.log_softmax(logits[children], 0)[
                children.index(step["gold"])
            ]
        losses.append(-log_prob)
    return torch.stack(losses)


def check_fit(model, labels, prompts, gold) -> None:
    """Folds side by side are what PEFT, Adam and transformers' attention give one by one."""
    rows = fit.Rows(model, prompts)
    with torch.no_grad():
        before = rows.log_probs(model, labels)
    weights = torch.stack([(torch.arange(len(gold)) % 5 != fold).float() for fold in range(5)])
    for targets, rate in (fit.SETTINGS[2], fit.SETTINGS[-1]):
        held, adapted = fit.fit(model, rows, labels, gold, weights, (targets, rate), NUM_STEPS, 3)
        ours = [p.detach().clone() for p in adapted.parameters() if p.requires_grad]
        adapted.unload()
        model.set_attn_implementation("eager")
        for fold in (0, 4):
            torch.manual_seed(3)
            config = peft.LoraConfig(
                r=fit.RANK, lora_alpha=fit.ALPHA, lora_dropout=0.0, target_modules=list(targets)
            )
            alone = peft.get_peft_model(model, config)
            own = [p for p in alone.parameters() if p.requires_grad]
            optimiser = torch.optim.Adam(own, lr=rate)
            learnt = weights[fold] == 1
            for step in range(NUM_STEPS + 1):
                losses = peft_losses(alone, prompts, gold)
                expected = float(losses[~learnt].sum().detach())
                assert abs(float(held[step, fold]) - expected) < 1e-3, (step, held[step], expected)
                if step == NUM_STEPS:
                    break
                optimiser.zero_grad()
                losses[learnt].mean().backward()
                optimiser.step()
            assert len(ours) == len(own)
            for mine, theirs in zip(ours, own, strict=True):
                assert torch.allclose(mine[fold], theirs, atol=2e-4), (mine[fold] - theirs).abs().max()
            alone.unload()
    with torch.no_grad():
        assert torch.equal(before, rows.log_probs(model, labels))


def check_learns(model, labels, prompts, gold) -> None:
    rows = fit.Rows(model, prompts)
    everything = torch.ones(1, len(gold))
    held, adapted = fit.fit(model, rows, labels, gold, everything, (fit.LINEAR, 1e-2), 60, 0)
    with torch.no_grad():
        after = rows.log_probs(model, labels)[0]
    adapted.unload()
    assert held.shape == (61, 1) and float(held.abs().max()) == 0
    assert float(-after[torch.arange(len(gold)), gold].mean()) < 0.05


def check_stops() -> None:
    """Idle settings are left, and ones that lag behind the best, (loss, index, steps)."""
    idle = torch.tensor([1.0, 0.8] + [0.9] * fit.PATIENCE)
    assert fit.is_enough(idle, None) and not fit.is_enough(idle[:-1], None)
    slow = torch.tensor([1 - 0.005 * step for step in range(fit.RACE_FROM_STEP + 1)])
    assert not fit.is_enough(slow, None)
    assert not fit.is_enough(slow, (0.85, 0, 6)) and fit.is_enough(slow, (0.75, 0, 6))
    late = 4 * fit.RACE_FROM_STEP
    assert not fit.is_enough(slow[:-1], (0.75, 0, 6)) and not fit.is_enough(slow, (0.75, 0, late))


def check_measure(folder, prompts, gold) -> None:
    transformers.AutoModelForCausalLM.from_pretrained = make_model
    part = lambda start, end: {"prompts": prompts[start:end], "gold": gold[start:end]}
    folds = [i % 5 for i in range(NUM_TRAIN)]
    content = {
        "set": "tiny",
        "split": "validation",
        "num_rows": len(prompts) - NUM_TRAIN,
        "num_train": NUM_TRAIN,
        "rows_digest": "0f" * 32,
        "gguf": "/nowhere/tiny.gguf",
        "label_paths": PATHS,
        "test": part(NUM_TRAIN, None),
        "seeds": [{"seed": 3, "train": part(0, NUM_TRAIN), "folds": folds}],
    }
    exported, out = os.path.join(folder, "tiny.json"), os.path.join(folder, "lora.jsonl")
    with open(exported, "w", encoding="utf-8") as file:
        json.dump(content, file)
    sys.argv = ["fit.py", exported, "--out", out, "--steps", "2", "--threads", "1"]
    fit.main()
    fit.main()
    with open(out, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert len(lines) == 1 and lines[0]["seed"] == 3
    assert "gold" not in lines[0] and lines[0]["rows_digest"] == content["rows_digest"]
    assert len(lines[0]["columns"]["lora"]) == len(prompts) - NUM_TRAIN


def main() -> None:
    # So little work is slower on more threads.
    torch.set_num_threads(1)
    random.seed(0)
    own = [[random.randrange(9, 97) for _ in range(random.randrange(5, 14))] for _ in range(27)]
    prompts = [[11, 12, 13, *ids] for ids in own]
    gold = [ids[-2] % 3 for ids in prompts]
    model, labels = make_model(), fit.Labels(PATHS)
    check_scores(model, labels, prompts)
    train = prompts[:NUM_TRAIN], torch.tensor(gold[:NUM_TRAIN])
    check_fit(model, labels, *train)
    check_learns(model, labels, *train)
    check_stops()
    with tempfile.TemporaryDirectory() as folder:
        check_measure(folder, prompts, gold)
    print("fit.py holds")


if __name__ == "__main__":
    main()

"""Checks fit.py on a small random model in seconds: `python test/bench/lora/check.py`.

Cached prompts and label trie against whole forward passes; a fit learns its rows, leaves held-out rows
to judge, and is gone after unloading; a second run measures nothing twice.
"""

import json
import os
import random
import sys
import tempfile

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
        found = fit.Rows(model, prompts).log_probs(model, labels)
        for ids, row in zip(prompts, found, strict=True):
            last = [
                model(input_ids=torch.tensor([ids + more])).logits[0, -1] for more in ([], [5])
            ]
            first = torch.log_softmax(last[0][[5, 8]], 0)
            second = torch.log_softmax(last[1][[6, 7]], 0)
            whole = torch.stack([first[0] + second[0], first[0] + second[1], first[1]])
            assert torch.allclose(row, whole, atol=1e-5), (row, whole)


def check_fit(model, labels, prompts, gold) -> None:
    rows = fit.Rows(model, prompts)
    weights = (torch.arange(len(gold)) >= 4).float()
    with torch.no_grad():
        before = rows.log_probs(model, labels)
    held, adapted = fit.fit(model, rows, labels, gold, weights, fit.SETTINGS[-1], 30, 0)
    with torch.no_grad():
        after = rows.log_probs(model, labels)
    adapted.unload()
    with torch.no_grad():
        again = rows.log_probs(model, labels)
    loss = lambda found, own: -float(found[torch.arange(len(gold)), gold][own].sum())
    assert loss(after, weights == 1) < 0.1 * loss(before, weights == 1)
    assert abs(held[0] - loss(before, weights == 0)) < 1e-4
    assert abs(held[-1] - loss(after, weights == 0)) < 1e-4
    assert torch.equal(before, again)


def check_measure(folder, prompts, gold) -> None:
    transformers.AutoModelForCausalLM.from_pretrained = make_model
    part = lambda start, end: {"prompts": prompts[start:end], "gold": gold[start:end]}
    folds = [i % 5 for i in range(NUM_TRAIN)]
    content = {
        "set": "tiny",
        "split": "validation",
        "num_rows": len(prompts) - NUM_TRAIN,
        "num_train": NUM_TRAIN,
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
    assert lines[0]["gold"] == gold[NUM_TRAIN:]
    assert len(lines[0]["columns"]["lora"]) == len(prompts) - NUM_TRAIN


def main() -> None:
    # So little work is slower on more threads.
    torch.set_num_threads(1)
    random.seed(0)
    prompts = [[random.randrange(9, 97) for _ in range(random.randrange(5, 14))] for _ in range(27)]
    gold = [ids[-2] % 3 for ids in prompts]
    model, labels = make_model(), fit.Labels(PATHS)
    check_scores(model, labels, prompts)
    check_fit(model, labels, prompts[:NUM_TRAIN], torch.tensor(gold[:NUM_TRAIN]))
    with tempfile.TemporaryDirectory() as folder:
        check_measure(folder, prompts, gold)
    print("fit.py holds")


if __name__ == "__main__":
    main()

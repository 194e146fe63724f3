"""Prompts whose keys and values are computed once, and label scoring on top of them for several
adapters side by side.

What is adapted runs in transformers' own layers with PEFT's own LoRA layers inside. Two things are
put in their place: `lora_A` and `lora_B`, by `FoldLinear`, which has the weights of every fold; and
the attention function, by `attend`, which reads the cached prompt where it lies instead of copying
it for every fold and head. check.py holds both against PEFT and transformers as they come.
"""

import torch
from transformers import AttentionInterface, DynamicCache

CHUNK_ROWS = 20
WHOLE_PROMPTS = "sdpa"
CACHED_PROMPTS = "arcana_cached"


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
        """hidden_of: context -> [..., hidden]. Returns [..., labels]."""
        decided: dict[tuple, torch.Tensor] = {}
        columns = []
        for steps in self.paths:
            terms = []
            for context, children, gold in steps:
                if context not in decided:
                    logits = hidden_of[context] @ head[children].T
                    decided[context] = torch.log_softmax(logits, dim=-1)
                terms.append(decided[context][..., gold])
            columns.append(torch.stack(terms).sum(0))
        return torch.stack(columns, dim=-1)


class FoldLinear(torch.nn.Module):
    """A linear layer without bias for every fold; its input's rows are fold by fold."""

    def __init__(self, linear: torch.nn.Linear, num_folds: int):
        super().__init__()
        weight = linear.weight.detach().expand(num_folds, *linear.weight.shape)
        self.weight = torch.nn.Parameter(weight.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[folds * rows, positions, in] -> [folds * rows, positions, out]."""
        by_fold = x.reshape(len(self.weight), -1, x.shape[-1])
        return torch.bmm(by_fold, self.weight.transpose(1, 2)).view(*x.shape[:-1], -1)


class Rows:
    """Prompts of which all but the last token are computed, in chunks of like length padded on the left."""

    def __init__(self, model, prompts: list[list[int]]):
        self.num_rows = len(prompts)
        self.chunks = []
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        shared = common_length(prompts)
        model.set_attn_implementation(WHOLE_PROMPTS)
        with torch.no_grad():
            first = keys_and_values(model, torch.tensor([prompts[0][:shared]])) if shared else None
            for start in range(0, len(prompts), CHUNK_ROWS):
                own = order[start : start + CHUNK_ROWS]
                self.chunks.append(make_chunk(model, own, [prompts[i] for i in own], first, shared))

    def log_probs(self, model, labels: Labels, num_folds: int = 1) -> torch.Tensor:
        """[folds, rows, labels], under whatever adapters of so many folds the model has now."""
        head = model.lm_head.weight
        parts, order = [], []
        model.set_attn_implementation(CACHED_PROMPTS)
        for own, layers, bias, last, length in self.chunks:
            order += own
            hidden_of = {}
            for feed in labels.feeds:
                fed = torch.tensor(feed, dtype=torch.long).expand(len(last), len(feed))
                ids = torch.cat([last[:, None], fed], dim=1)
                hidden = model.model(
                    input_ids=ids.repeat(num_folds, 1),
                    position_ids=(length[:, None] + torch.arange(ids.shape[1])).repeat(num_folds, 1),
                    use_cache=False,
                    cached_prompts=(layers, bias),
                ).last_hidden_state.unflatten(0, (num_folds, -1))
                for depth in range(len(feed) + 1):
                    hidden_of[feed[:depth]] = hidden[:, :, depth]
            parts.append(labels.log_probs(hidden_of, head))
        return torch.cat(parts, dim=1)[:, torch.tensor(order).argsort()]


def common_length(prompts: list[list[int]]) -> int:
    """How many tokens all begin with, so that each is left with two of its own at least."""
    longest = min(len(ids) for ids in prompts) - 2
    shared = 0
    while shared < longest and all(ids[shared] == prompts[0][shared] for ids in prompts):
        shared += 1
    return shared


def keys_and_values(model, ids, mask=None, positions=None, past=None) -> list[tuple]:
    """Per layer: [rows, key heads, tokens, head size], what was there before included."""
    found = model.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=past,
        use_cache=True,
    ).past_key_values
    return [(layer.keys, layer.values) for layer in found.layers]


def make_chunk(model, own: list[int], prompts: list[list[int]], first, shared: int):
    longest = len(prompts[-1]) - 1 - shared
    ids = torch.zeros((len(own), longest), dtype=torch.long)
    mask = torch.ones((len(own), shared + longest), dtype=torch.long)
    for row, whole in enumerate(prompts):
        pad = longest - (len(whole) - 1 - shared)
        ids[row, pad:] = torch.tensor(whole[shared:-1])
        mask[row, shared : shared + pad] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    past = None
    if first is not None:
        past = DynamicCache()
        for index, pair in enumerate(first):
            past.update(*(one.expand(len(own), -1, -1, -1) for one in pair), index)
    layers = keys_and_values(model, ids, mask, positions, past)
    bias = torch.zeros(mask.shape).masked_fill(mask == 0, float("-inf"))[:, None, None]
    last = torch.tensor([whole[-1] for whole in prompts])
    return own, layers, bias, last, mask.sum(-1)


def attend(module, query, key, value, _mask, scaling, cached_prompts, **_options):
    """Attention of a few positions, causal among themselves, to the prompts before them.

    query: [folds * rows, heads, positions, size]; key, value: the positions' own, of the key heads;
    cached_prompts: per layer [rows, key heads, tokens, size] twice, and what is added to the scores,
    [rows, 1, 1, tokens]. Returns [folds * rows, positions, heads, size].
    """
    layers, bias = cached_prompts
    keys, values = layers[module.layer_idx]
    rows, kv, num_cached, size = keys.shape
    folds, new = len(query) // rows, query.shape[2]
    q = query.view(folds, rows, kv, -1, new, size)
    own_keys, own_values = (x.view(folds, rows, kv, 1, new, size) for x in (key, value))
    # Of one row and key head, the queries of all folds stand together.
    together = (1, 2, 0, 3, 4, 5)
    apart = (2, 0, 1, 3, 4, 5)
    shape = (rows, kv, folds, q.shape[3], new)
    to_cached = q.permute(together).reshape(rows, kv, -1, size) @ keys.transpose(-1, -2)
    to_own = q @ own_keys.transpose(-1, -2) * scaling
    if new > 1:
        to_own = to_own + torch.full((new, new), float("-inf")).triu(1)
    scores = torch.cat(
        [
            to_cached * scaling + bias,
            to_own.permute(together).reshape(rows, kv, -1, new),
        ],
        dim=-1,
    )
    weights = scores.softmax(-1)
    of_cached = (weights[..., :num_cached] @ values).view(*shape, size).permute(apart)
    of_own = weights[..., num_cached:].reshape(*shape, new).permute(apart) @ own_values
    mixed = (of_cached + of_own).permute(0, 1, 4, 2, 3, 5)
    return mixed.reshape(folds * rows, new, -1, size), None


AttentionInterface.register(CACHED_PROMPTS, attend)

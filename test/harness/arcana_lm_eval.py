"""lm-evaluation-harness with one more model: a task's adapter over scored text.

    python test/harness/arcana_lm_eval.py --model arcana-completions --model_args ... --tasks ...

takes lm_eval's own arguments. `arcana-completions` is `local-completions` that says with each text
where the adapter begins: at the context's last token, as it does when the task answers. The model
argument `rotate_from` fixes the place instead; 0 is what a task of scope "all" needs. Without a task,
use `local-completions` itself.
"""

import sys

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from lm_eval.models.openai_completions import LocalCompletionsAPI


@register_model("arcana-completions")
class ArcanaCompletions(LocalCompletionsAPI):
    def __init__(self, rotate_from=None, **kwargs):
        super().__init__(**kwargs)
        self._rotate_from = None if rotate_from is None else int(rotate_from)
        # First rotated token of each text, which the payload alone no longer tells.
        self._begin_of = {}

    def batch_loglikelihood_requests(self, chunks):
        inputs, context_lens, cache_keys = super().batch_loglikelihood_requests(chunks)
        for text, context_len in zip(inputs, context_lens, strict=True):
            begin = context_len - 1 if self._rotate_from is None else self._rotate_from
            if self._begin_of.setdefault(key_of(text), begin) != begin:
                raise ValueError("one text is split at two places; score these requests apart")
        return inputs, context_lens, cache_keys

    def _create_payload(self, messages, generate=False, **kwargs):
        payload = super()._create_payload(messages, generate=generate, **kwargs)
        if not generate:
            payload["rotate_from"] = [self._begin_of[key_of(text)] for text in messages]
        return payload


def key_of(text):
    return text if isinstance(text, str) else tuple(text)


if __name__ == "__main__":
    sys.exit(cli_evaluate())

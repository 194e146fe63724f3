"""DSPy, its signatures held to their schemas."""

import os
from typing import Literal

# Otherwise LiteLLM, on which DSPy falls back, asks for a list of prices as it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy.lm15 import (
    AccessPolicy,
    ModelSupport,
    OpenAIChatCompat,
    ProviderDefinition,
    register_provider,
)

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

access = AccessPolicy(
    provider="arcana", env_keys=("OPENAI_API_KEY",), base_url=os.environ["OPENAI_BASE_URL"]
)
register_provider(
    ProviderDefinition.chat(access, compat=OpenAIChatCompat()),
    supports=ModelSupport(response_schema=True, function_calling=True),
)
lm = dspy.LM(f"arcana/{MODEL}", max_tokens=64, cache=False)
dspy.configure(lm=lm, adapter=dspy.JSONAdapter())


def call() -> None:
    assert lm("Say hello.")[0]
    assert dspy.LM(f"openai/{MODEL}", max_tokens=64, cache=False)("Say hello.")[0]


class Topic(dspy.Signature):
    """Says what a line is about."""

    news: str = dspy.InputField()
    topic: Literal["weather", "sports"] = dspy.OutputField()
    is_good: bool = dspy.OutputField()


def predict() -> None:
    prediction = dspy.Predict(Topic)(news=NEWS)
    assert prediction.topic in ("weather", "sports"), prediction
    assert isinstance(prediction.is_good, bool), prediction


def what_does_not_work() -> None:
    with dspy.context(lm=dspy.LM(f"arcana/{MODEL}:{TASK}", cache=False)):
        try:
            dspy.Predict(Topic)(news=NEWS)
        except Exception as error:
            assert "answers with one of its labels" in str(error), error
        else:
            raise AssertionError("a task answers a signature")


def responses() -> None:
    lm = dspy.LM(f"openai/{MODEL}", model_type="responses", max_tokens=64, cache=False)
    assert lm("Say hello.")[0]


def task() -> None:
    [answer] = dspy.LM(f"arcana/{MODEL}:{TASK}", cache=False)(NEWS)
    assert answer in LABELS, answer


for part in [call, predict, responses, task, what_does_not_work]:
    part()
    print(part.__name__, flush=True)

"""Pydantic AI, in its default output mode: tools."""

import os
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

model = OpenAIChatModel(MODEL)


def text() -> None:
    result = Agent(model, model_settings={"max_tokens": 24}).run_sync("Say hello.")
    assert result.output and result.usage.output_tokens > 0, result


def stream() -> None:
    with Agent(model, model_settings={"max_tokens": 24}).run_stream_sync("Say hello.") as result:
        assert list(result.stream_text())[-1]


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


def structured() -> None:
    result = Agent(model, output_type=Report).run_sync(NEWS)
    assert isinstance(result.output, Report), result


def native() -> None:
    result = Agent(model, output_type=NativeOutput(Report)).run_sync(NEWS)
    assert isinstance(result.output, Report), result


def responses() -> None:
    result = Agent(OpenAIResponsesModel(MODEL), output_type=Report).run_sync(NEWS)
    assert isinstance(result.output, Report), result


def task() -> None:
    result = Agent(OpenAIChatModel(f"{MODEL}:{TASK}")).run_sync(NEWS)
    assert result.output in LABELS, result
    assert result.response.model_name == f"{MODEL}:{TASK}", result.response
    headers = {"x-task": TASK}
    headed = Agent(model, model_settings={"extra_headers": headers}).run_sync(NEWS)
    assert headed.output == result.output, headed


for part in [text, stream, structured, native, responses, task]:
    part()
    print(part.__name__, flush=True)

"""Instructor, in its default mode: tools."""

import os
from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = [{"role": "user", "content": "The striker scored twice."}]

client = instructor.from_provider(f"openai/{MODEL}")


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


def create() -> None:
    report, answer = client.create_with_completion(response_model=Report, messages=NEWS)
    assert isinstance(report, Report), report
    assert answer.choices[0].message.tool_calls, answer


def partial() -> None:
    *_, last = client.create_partial(response_model=Report, messages=NEWS)
    assert Report.model_validate(last.model_dump()), last


def json_schema() -> None:
    client = instructor.from_openai(OpenAI(), mode=instructor.Mode.JSON_SCHEMA)
    report = client.create(model=MODEL, response_model=Report, messages=NEWS)
    assert isinstance(report, Report), report


def responses() -> None:
    client = instructor.from_openai(OpenAI(), mode=instructor.Mode.RESPONSES_TOOLS)
    report = client.create(model=MODEL, response_model=Report, messages=NEWS)
    assert isinstance(report, Report), report


def task() -> None:
    """A task answers with a label: its text is what is asked for, not a model."""
    answer = client.create(response_model=None, messages=NEWS, extra_headers={"x-task": TASK})
    assert answer.choices[0].message.content in LABELS, answer
    assert answer.arcana["task"] == TASK, answer


for part in [create, partial, json_schema, responses, task]:
    part()
    print(part.__name__, flush=True)

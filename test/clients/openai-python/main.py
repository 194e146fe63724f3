"""OpenAI's own Python client: chat, stream, parse, responses, files, jobs, models."""

import json
import os
import time
from decimal import Decimal
from typing import Literal

from openai import LengthFinishReasonError, NotFoundError, OpenAI, pydantic_function_tool
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
HELLO = [{"role": "user", "content": "Say hello."}]
NEWS = [{"role": "user", "content": "The striker scored twice."}]

client = OpenAI()


def chat() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=24)
    assert answer.choices[0].message.content, answer
    assert answer.usage.completion_tokens > 0, answer


def stream() -> None:
    text = ""
    with client.chat.completions.stream(model=MODEL, messages=HELLO, temperature=0) as events:
        for event in events:
            if event.type == "content.delta":
                text += event.delta
    assert text and events.get_final_completion().choices[0].message.content == text, text

    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=24, stream=True, stream_options=options
        )
    )
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks), chunks
    assert chunks[-1].usage.completion_tokens > 0, chunks[-1]


def task() -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=NEWS, extra_headers={"x-task": TASK}
    )
    assert raw.headers["x-arcana-task"] == TASK, raw.headers
    answer = raw.parse()
    assert answer.choices[0].message.content in LABELS, answer
    assert {each["label"] for each in answer.arcana["labels"]} == set(LABELS), answer

    named = client.chat.completions.create(model=f"{MODEL}:{TASK}", messages=NEWS)
    assert named.model == f"{MODEL}:{TASK}", named
    assert named.choices[0].message.content == answer.choices[0].message.content, named


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool
    score: int | None


def parse() -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=NEWS, response_format=Report, max_completion_tokens=64
    )
    assert isinstance(answer.choices[0].message.parsed, Report), answer


class Price(BaseModel):
    price: Decimal


def what_does_not_work() -> None:
    try:
        client.chat.completions.parse(
            model=MODEL, messages=NEWS, response_format=Report, max_tokens=1
        )
    except LengthFinishReasonError:
        pass
    else:
        raise AssertionError("an answer that was cut is parsed")
    written = pydantic_function_tool(Price)["function"]["parameters"]["properties"]["price"]
    assert {"type": "string"} in written["anyOf"], written


def responses() -> None:
    answer = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=24)
    assert answer.output_text and answer.usage.output_tokens > 0, answer

    text = ""
    with client.responses.stream(model=MODEL, input="Say hello.", temperature=0) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                text += event.delta
    assert text and events.get_final_response().output_text == text, text

    parsed = client.responses.parse(model=MODEL, input=NEWS, text_format=Report)
    assert isinstance(parsed.output_parsed, Report), parsed

    asked = client.responses.create(model=f"{MODEL}:{TASK}", input=NEWS)
    assert asked.output_text in LABELS, asked


def jobs() -> None:
    lines = [
        {"input": f"{name} {verb}.", "label": label}
        for label, verb in [("yes", "agreed"), ("no", "refused")]
        for name in ["Anna", "Ben", "Carla", "Dan", "Eve", "Finn"]
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(purpose="fine-tune", file=("lines.jsonl", content))
    assert client.files.content(file.id).read() == content
    assert file.id in [each.id for each in client.files.list()]

    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        suffix="agreed",
        method={
            "type": "rotation",
            "rotation": {
                "instructions": "Did they agree? Answer with yes or no only.",
                "force": True,
                "hyperparameters": {"optimizer": "gradient", "n_steps": 4},
            },
        },
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job
    assert len(list(client.fine_tuning.jobs.list_events(job.id))) > 0
    assert job.id in [each.id for each in client.fine_tuning.jobs.list()]

    question = [{"role": "user", "content": "Gus agreed."}]
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=question)
    assert answer.choices[0].message.content in ("yes", "no"), answer
    assert client.files.delete(file.id).deleted


def models() -> None:
    assert {MODEL, f"{MODEL}:agreed"} <= {each.id for each in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL
    assert client.models.delete(f"{MODEL}:agreed").deleted
    try:
        client.models.retrieve(f"{MODEL}:agreed")
    except NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("a deleted model is still there")


for part in [chat, stream, task, parse, what_does_not_work, responses, jobs, models]:
    part()
    print(part.__name__, flush=True)

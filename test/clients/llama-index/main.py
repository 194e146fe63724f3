"""LlamaIndex, by OpenAILike."""

import os
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

AT = {
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
    "is_chat_model": True,
    "is_function_calling_model": True,
    "context_window": 2048,
}
llm = OpenAILike(model=MODEL, max_tokens=64, **AT)


def complete() -> None:
    assert llm.complete("Say hello.").text
    assert llm.chat([ChatMessage("Say hello.")]).message.content


def stream() -> None:
    chunks = list(llm.stream_chat([ChatMessage("Say hello.")]))
    assert chunks[-1].message.content == "".join(chunk.delta for chunk in chunks)


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


def structured() -> None:
    report = llm.structured_predict(Report, PromptTemplate("{news}"), news=NEWS)
    assert isinstance(report, Report), report


def weather(city: Literal["Rome", "Oslo"]) -> str:
    """Says what the weather is like."""
    return f"It rains in {city}."


def tools() -> None:
    tool = FunctionTool.from_defaults(weather)
    answer = llm.predict_and_call(
        [tool], user_msg="How is the weather in Rome?", tool_required=True
    )
    assert str(answer).startswith("It rains in "), answer


def task() -> None:
    answer = OpenAILike(model=f"{MODEL}:{TASK}", **AT).complete(NEWS)
    assert answer.text in LABELS, answer
    assert answer.raw.arcana["task"] == TASK, answer.raw
    headed = OpenAILike(model=MODEL, default_headers={"x-task": TASK}, **AT).complete(NEWS)
    assert headed.text == answer.text, headed


def what_does_not_work() -> None:
    try:
        OpenAI(model=MODEL).complete("Say hello.")
    except ValueError as error:
        assert "Unknown model" in str(error), error
    else:
        raise AssertionError("LlamaIndex's OpenAI takes any model now")


for part in [complete, stream, structured, tools, task, what_does_not_work]:
    part()
    print(part.__name__, flush=True)

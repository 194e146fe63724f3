"""LangChain's ChatOpenAI."""

import os
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

llm = ChatOpenAI(model=MODEL, max_tokens=64)


def invoke() -> None:
    answer = llm.invoke("Say hello.")
    assert answer.text and answer.usage_metadata["output_tokens"] > 0, answer


def stream() -> None:
    assert "".join(chunk.text for chunk in llm.stream("Say hello."))


def responses() -> None:
    llm = ChatOpenAI(model=MODEL, use_responses_api=True, max_tokens=64)
    assert llm.invoke("Say hello.").text
    assert "".join(chunk.text for chunk in llm.stream("Say hello."))
    assert isinstance(llm.with_structured_output(Report).invoke(NEWS), Report)


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


def structured() -> None:
    for method in ["json_schema", "function_calling"]:
        report = llm.with_structured_output(Report, method=method).invoke(NEWS)
        assert isinstance(report, Report), report
    assert isinstance(llm.with_structured_output(Report).invoke(NEWS), Report)


@tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """Says what the weather is like."""
    return f"It rains in {city}."


def tools() -> None:
    question = HumanMessage("How is the weather in Rome?")
    answer = llm.bind_tools([weather], tool_choice="weather").invoke([question])
    result = weather.invoke(answer.tool_calls[0])
    assert isinstance(result, ToolMessage) and result.content.startswith("It rains in "), result
    assert llm.bind_tools([weather]).invoke([question, answer, result]).type == "ai"


def task() -> None:
    answer = ChatOpenAI(model=f"{MODEL}:{TASK}", include_response_headers=True).invoke(NEWS)
    assert answer.content in LABELS, answer
    assert answer.response_metadata["headers"]["x-arcana-task"] == TASK, answer
    headed = ChatOpenAI(model=MODEL, default_headers={"x-task": TASK}).invoke(NEWS)
    assert headed.content == answer.content, headed


for part in [invoke, stream, structured, tools, responses, task]:
    part()
    print(part.__name__, flush=True)

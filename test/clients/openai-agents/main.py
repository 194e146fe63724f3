"""OpenAI's Agents SDK, over responses, its default, and over chat completions."""

import asyncio
import os
from typing import Literal

from agents import (
    Agent,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

set_tracing_disabled(True)
greedy = ModelSettings(temperature=0)


async def text() -> None:
    agent = Agent(name="Greeter", instructions="Be kind.", model=MODEL, model_settings=greedy)
    assert (await Runner.run(agent, "Say hello.")).final_output


async def stream() -> None:
    agent = Agent(name="Greeter", model=MODEL, model_settings=greedy)
    deltas = [
        event.data.delta
        async for event in Runner.run_streamed(agent, "Say hello.").stream_events()
        if event.type == "raw_response_event"
        and event.data.type == "response.output_text.delta"
    ]
    assert "".join(deltas)


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


async def structured() -> None:
    agent = Agent(name="Reporter", model=MODEL, output_type=Report)
    report = (await Runner.run(agent, NEWS)).final_output
    assert isinstance(report, Report), report


@function_tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """Says what the weather is like."""
    return f"It rains in {city}."


async def tools() -> None:
    agent = Agent(
        name="Forecaster",
        model=MODEL,
        tools=[weather],
        model_settings=ModelSettings(tool_choice="required"),
        tool_use_behavior="stop_on_first_tool",
    )
    said = (await Runner.run(agent, "How is the weather in Rome?")).final_output
    assert said.startswith("It rains in "), said


async def tools_and_type() -> None:
    """The model calls the tool or answers with a report: any turns of that will do."""
    agent = Agent(
        name="Reporter", model=MODEL, model_settings=greedy, tools=[weather], output_type=Report
    )
    try:
        assert isinstance((await Runner.run(agent, NEWS, max_turns=2)).final_output, Report)
    except MaxTurnsExceeded as error:
        outputs = [item.output for item in error.run_data.new_items if hasattr(item, "output")]
        assert outputs and all(said.startswith("It rains in ") for said in outputs), outputs


async def chat() -> None:
    chat = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI())
    agent = Agent(name="Greeter", model=chat, model_settings=greedy)
    assert (await Runner.run(agent, "Say hello.")).final_output
    agent = Agent(name="Reporter", model=chat, output_type=Report)
    assert isinstance((await Runner.run(agent, NEWS)).final_output, Report)


async def task() -> None:
    agent = Agent(name="News", model=f"{MODEL}:{TASK}")
    answer = (await Runner.run(agent, NEWS)).final_output
    assert answer in LABELS, answer
    headers = ModelSettings(extra_headers={"x-task": TASK})
    headed = Agent(name="News", model=MODEL, model_settings=headers)
    assert (await Runner.run(headed, NEWS)).final_output == answer


async def what_does_not_work() -> None:
    agent = Agent(name="Greeter", model=MODEL, model_settings=ModelSettings(max_tokens=1))
    try:
        await Runner.run(agent, "Say hello.")
    except ModelBehaviorError as error:
        assert "response.incomplete" in str(error), error
    else:
        raise AssertionError("an answer that was cut is given")


async def main() -> None:
    for part in [text, stream, structured, tools, tools_and_type, chat, task, what_does_not_work]:
        await part()
        print(part.__name__, flush=True)


asyncio.run(main())

"""OpenAI's Agents SDK, over chat completions."""

import asyncio
import os
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    Runner,
    function_tool,
    set_default_openai_api,
    set_tracing_disabled,
)
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
NEWS = "The striker scored twice."

set_tracing_disabled(True)
set_default_openai_api("chat_completions")
short = ModelSettings(max_tokens=64)


async def text() -> None:
    agent = Agent(name="Greeter", instructions="Be kind.", model=MODEL, model_settings=short)
    assert (await Runner.run(agent, "Say hello.")).final_output


async def stream() -> None:
    agent = Agent(name="Greeter", model=MODEL, model_settings=short)
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
        model_settings=ModelSettings(tool_choice="required", max_tokens=64),
        tool_use_behavior="stop_on_first_tool",
    )
    said = (await Runner.run(agent, "How is the weather in Rome?")).final_output
    assert said.startswith("It rains in "), said


async def task() -> None:
    agent = Agent(name="News", model=f"{MODEL}:{TASK}")
    answer = (await Runner.run(agent, NEWS)).final_output
    assert answer in LABELS, answer
    headers = ModelSettings(extra_headers={"x-task": TASK})
    headed = Agent(name="News", model=MODEL, model_settings=headers)
    assert (await Runner.run(headed, NEWS)).final_output == answer


async def main() -> None:
    for part in [text, stream, structured, tools, task]:
        await part()
        print(part.__name__, flush=True)


asyncio.run(main())

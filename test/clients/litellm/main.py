"""LiteLLM, as a library and as a proxy in front."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

# Otherwise it asks for a list of prices as it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from openai import APIConnectionError, APIStatusError, OpenAI
from pydantic import BaseModel

MODEL, TASK = os.environ["ARCANA_MODEL"], os.environ["ARCANA_TASK"]
LABELS = ["World", "Sports", "Business", "Science"]
HELLO = [{"role": "user", "content": "Say hello."}]
NEWS = [{"role": "user", "content": "The striker scored twice."}]


class Report(BaseModel):
    topic: Literal["weather", "sports"]
    is_good: bool


def completion() -> None:
    answer = litellm.completion(model=f"openai/{MODEL}", messages=HELLO, max_tokens=24)
    assert answer.choices[0].message.content, answer


def stream() -> None:
    chunks = litellm.completion(
        model=f"openai/{MODEL}", messages=HELLO, max_tokens=24, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def parse() -> None:
    answer = litellm.completion(model=f"openai/{MODEL}", messages=NEWS, response_format=Report)
    Report.model_validate_json(answer.choices[0].message.content)


def responses() -> None:
    answer = litellm.responses(model=f"openai/{MODEL}", input="Say hello.", max_output_tokens=24)
    assert answer.output[0].content[0].text, answer


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
        },
    },
}


def tools() -> None:
    answer = litellm.completion(
        model=f"openai/{MODEL}", messages=NEWS, tools=[WEATHER], tool_choice="required"
    )
    call = answer.choices[0].message.tool_calls[0].function
    assert call.name == "weather" and json.loads(call.arguments)["city"] in ["Rome", "Oslo"], call


def task() -> None:
    answer = litellm.completion(model=f"openai/{MODEL}:{TASK}", messages=NEWS)
    assert answer.choices[0].message.content in LABELS, answer
    headers = answer._hidden_params["additional_headers"]
    assert headers["llm_provider-x-arcana-task"] == TASK, headers
    headed = litellm.completion(
        model=f"openai/{MODEL}", messages=NEWS, extra_headers={"x-task": TASK}
    )
    assert headed.choices[0].message.content == answer.choices[0].message.content, headed


def jobs() -> None:
    """Files work. A job is made, but LiteLLM cannot read the answer: its type knows no rotation."""
    lines = [
        {"input": f"{name} {verb}.", "label": label}
        for label, verb in [("yes", "agreed"), ("no", "refused")]
        for name in ["Anna", "Ben", "Carla", "Dan", "Eve", "Finn"]
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = litellm.create_file(
        file=("lines.jsonl", content), purpose="fine-tune", custom_llm_provider="openai"
    )
    assert file.id.startswith("file-"), file
    try:
        litellm.create_fine_tuning_job(
            model=MODEL, training_file=file.id, custom_llm_provider="openai"
        )
    except Exception as error:
        assert "method.type" in str(error), error
    else:
        raise AssertionError("LiteLLM reads jobs now: docs/clients.md says that it does not")
    client = OpenAI()
    [job] = [job for job in client.fine_tuning.jobs.list() if job.training_file == file.id]
    client.fine_tuning.jobs.cancel(job.id)


PROXY_KEY = "sk-proxy"


def proxy() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).with_name("litellm")
    config = Path(__file__).with_name("proxy.yaml")
    env = {**os.environ, "LITELLM_MASTER_KEY": PROXY_KEY}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [command, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            env=env,
            stdout=log,
            stderr=log,
        )
        try:
            ask_proxy(OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=PROXY_KEY))
        except BaseException:
            log.seek(0)
            print(log.read().decode()[-4000:])
            raise
        finally:
            server.terminate()
            server.wait()


def ask_proxy(client: OpenAI) -> None:
    wait_for(client)
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=24)
    assert answer.choices[0].message.content, answer
    chunks = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=24, stream=True
    )
    assert any(chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
    parsed = client.chat.completions.parse(model=MODEL, messages=NEWS, response_format=Report)
    assert isinstance(parsed.choices[0].message.parsed, Report), parsed
    answer = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=24)
    assert answer.output_text, answer
    asked = client.chat.completions.with_raw_response.create(
        model=f"{MODEL}:{TASK}", messages=NEWS
    )
    assert asked.headers["llm_provider-x-arcana-task"] == TASK, asked.headers
    assert asked.parse().choices[0].message.content in LABELS, asked.text


def wait_for(client: OpenAI, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.models.list()
            return
        except (APIConnectionError, APIStatusError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


for part in [completion, stream, parse, responses, tools, task, jobs, proxy]:
    part()
    print(part.__name__, flush=True)

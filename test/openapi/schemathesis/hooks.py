"""Keeps what schemathesis sends cheap: short answers, small jobs, and the model that is served."""

import os

import schemathesis

MODEL = os.environ["ARCANA_MODEL"]
TASK = os.environ["ARCANA_TASK"]
FILE = os.environ["ARCANA_FILE"]
MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
SHORT_ANSWER = 4
SMALL_SEARCH = {"optimizer": "random", "n_trials": 2}
FITTING = (
    "tools",
    "tool_choice",
    "logit_bias",
    "functions",
    "top_logprobs",
    "max_completion_tokens",
    "response_format",
    "arcana",
    "text",
    "service_tier",
)
ANSWERS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/compare")


@schemathesis.hook
def map_body(context, body):
    """Changes valid values only, so that faulty ones still get to the gateway."""
    path = context.operation.path
    if not isinstance(body, dict):
        return body
    kind = len(repr(body)) % 4
    if isinstance(body.get("model"), str) and kind != 0:
        body["model"] = f"{MODEL}:{TASK}" if kind == 1 else MODEL
    if path in ANSWERS:
        shorten(path, body)
        if kind in (1, 2):
            make_plain(body)
    if path == "/v1/fine_tuning/jobs" and kind != 0:
        body.update(model=MODEL, training_file=FILE)
        body.pop("validation_file", None)
        body["method"] = {"type": "rotation", "rotation": {"hyperparameters": SMALL_SEARCH}}
    return body


def shorten(path, body):
    for name in MAX_TOKENS:
        if isinstance(body.get(name), int) and body[name] > SHORT_ANSWER:
            body[name] = SHORT_ANSWER
    if path == "/v1/responses":
        body.setdefault("max_output_tokens", SHORT_ANSWER)
    else:
        body.setdefault("max_tokens", SHORT_ANSWER)
    if isinstance(body.get("n"), int) and body["n"] > 2:
        body["n"] = 2


def make_plain(body):
    """Replaces what must fit together, so that a model answers under the other fields."""
    if "messages" in body:
        body["messages"] = [{"role": "user", "content": "Hello"}]
    if "prompt" in body:
        body.update(prompt="Hello", rotate_from=0)
        body.pop("best_of", None)
    if "input" in body:
        body["input"] = "Hello"
    if "arms" in body:
        body.update(model=MODEL, arms=["base", TASK])
    for name in FITTING:
        body.pop(name, None)
    if isinstance(body.get("stream"), bool) and not body["stream"]:
        body.pop("stream_options", None)


@schemathesis.hook
def map_headers(context, headers):
    if headers and "x-task" in headers and len(headers["x-task"]) % 2 == 0:
        headers["x-task"] = TASK
    if headers and "x-arcana-timeout" in headers:
        headers["x-arcana-timeout"] = "30" if len(headers["x-arcana-timeout"]) % 2 else "x"
    return headers

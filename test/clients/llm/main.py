"""Simon Willison's `llm`, on the command line."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LABELS = ["World", "Sports", "Business", "Science"]


def sh(command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "PATH": path, "LLM_USER_PATH": home}
        models = Path(__file__).with_name("extra-openai-models.yaml").read_text()
        models = models.replace("http://127.0.0.1:8787/v1", os.environ["OPENAI_BASE_URL"])
        Path(home, "extra-openai-models.yaml").write_text(models)
        done = subprocess.run(["sh", "-ec", command], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def endpoint() -> None:
    models = sh("""
        llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" --models
    """)
    assert os.environ["ARCANA_MODEL"] in models.splitlines(), models
    answer = sh("""
        arcana() { llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" -m "$@"; }
        arcana "$ARCANA_MODEL" 'Say hello.' -o max_tokens 24
    """)
    assert answer
    answer = sh("""
        arcana() { llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" -m "$@"; }
        arcana "$ARCANA_MODEL" 'How old is your dog?' --schema 'age int, is_good bool'
    """)
    assert json.loads(answer).keys() == {"age", "is_good"}, answer


def responses() -> None:
    answer = sh("""
        arcana() { llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" -m "$@"; }
        arcana "$ARCANA_MODEL" 'Say hello.' --responses -o temperature 0
    """)
    assert answer


def task() -> None:
    answer = sh("""
        arcana() { llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" -m "$@"; }
        arcana "$ARCANA_MODEL" 'The striker scored twice.' -H x-task "$ARCANA_TASK"
    """)
    assert answer in LABELS, answer
    named = sh("""
        arcana() { llm openai endpoint "$OPENAI_BASE_URL" --key "$OPENAI_API_KEY" -m "$@"; }
        arcana "$ARCANA_MODEL:$ARCANA_TASK" 'The striker scored twice.'
    """)
    assert named == answer, named


def configured() -> None:
    answer = sh("""
        llm keys set arcana --value "$OPENAI_API_KEY"
        llm -m arcana 'Say hello.' -o max_tokens 24
    """)
    assert answer


for part in [endpoint, responses, task, configured]:
    part()
    print(part.__name__, flush=True)

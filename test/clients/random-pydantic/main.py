"""Random pydantic models through OpenAI's client: what ends is parsed, what is refused has a name."""

import os
import re
from random import Random

from openai import BadRequestError, LengthFinishReasonError, OpenAI
from pydantic import BaseModel
from random_models import Colour, random_model

SEED = 16
NUM_MODELS = 24
MAX_TOKENS = 120

client = OpenAI()


class Sure(BaseModel):
    is_sure: bool


class Coloured(BaseModel):
    colour: Colour


def ask(model: type[BaseModel]) -> str:
    try:
        answer = client.chat.completions.parse(
            model=os.environ["ARCANA_MODEL"],
            messages=[{"role": "user", "content": "Make up some data."}],
            temperature=0,
            max_completion_tokens=MAX_TOKENS,
            response_format=model,
        )
    except LengthFinishReasonError:
        return "cut short"
    except BadRequestError as error:
        assert error.param == "response_format", error
        # A slow machine does not compile every grammar in time, and says so.
        assert re.search(r'"\w+".* at #|too complex', error.message), error
        return "refused"
    assert isinstance(answer.choices[0].message.parsed, model), answer
    return "parsed"


random = Random(SEED)
# The first two end in any case; of the others this small model seldom ends a deep one.
models = [Sure, Coloured]
models += [random_model(random, 1 if i < NUM_MODELS * 2 // 3 else 3) for i in range(NUM_MODELS)]
outcomes = [ask(model) for model in models]
for outcome in ["parsed", "cut short", "refused"]:
    print(f"{outcomes.count(outcome)} {outcome}")
assert outcomes[:2] == ["parsed", "parsed"], outcomes
assert outcomes.count("parsed") > 2 and outcomes.count("refused") > 0, outcomes

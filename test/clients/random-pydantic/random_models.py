"""Random pydantic models."""

import datetime
import enum
import ipaddress
import uuid
from collections.abc import Callable
from random import Random
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import UUID4, AnyUrl, BaseModel, EmailStr, Field, create_model


class Colour(enum.Enum):
    RED = "red"
    GREEN = 'gr"ün'


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog", "puppy"]
    name: str | None = None


# No decimal.Decimal: the client writes it as any string, which need not be a number.
LEAVES: list[Callable[[Random], Any]] = [
    lambda _: str,
    lambda random: Annotated[
        str, Field(min_length=random.randrange(3), max_length=3 + random.randrange(4))
    ],
    lambda _: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d+(\.\d)?$")],
    lambda _: int,
    lambda random: Annotated[int, Field(ge=-random.randrange(50), le=random.randrange(5000))],
    lambda _: float,
    lambda random: Annotated[float, Field(gt=-random.randrange(9), lt=1 + random.random() * 100)],
    lambda _: bool,
    lambda _: None,
    lambda _: Colour,
    lambda _: Level,
    lambda _: Literal["a", 7, True],
    lambda _: Annotated[str, Field(description='begins with "', examples=["x"])],
    lambda random: random.choice(
        [datetime.date, datetime.time, datetime.datetime, datetime.timedelta]
    ),
    lambda random: random.choice([uuid.UUID, UUID4]),
    lambda random: random.choice([ipaddress.IPv4Address, ipaddress.IPv6Address]),
    lambda random: random.choice([EmailStr, AnyUrl, bytes]),
    # Not held by any grammar: refused by name.
    lambda _: Annotated[int, Field(multiple_of=5)],
    lambda _: set[Level],
]


def random_type(random: Random, depth: int) -> Any:
    """A type of at most `depth` levels of models, lists and records."""

    def child() -> Any:
        return random_type(random, depth - 1)

    kinds = ["leaf"] * 3
    if depth > 0:
        kinds += ["model", "model", "list", "record", "keys", "tuple", "union", "optional"]
        kinds += ["told apart", "tree", "default"]
    match random.choice(kinds):
        case "model":
            return random_model(random, depth)
        case "list":
            least = random.randrange(3)
            return Annotated[
                list[child()], Field(min_length=least, max_length=least + random.randrange(1, 3))
            ]
        case "record":
            return dict[str, child()]
        case "keys":
            return dict[Colour, child()]
        case "tuple":
            return tuple[child(), child()]
        case "union":
            return Union[child(), child(), child()]
        case "optional":
            return Optional[child()]
        case "told apart":
            return Annotated[Union[Cat, Dog], Field(discriminator="kind")]
        case "tree":
            tree = create_model(
                "Tree", value=(child(), ...), next=(Optional["Tree"], None), kids=(list["Tree"], ...)
            )
            tree.model_rebuild(_types_namespace={"Tree": tree})
            return tree
        case "default":
            return create_model("Defaults", level=(Level, Level.LOW), other=(child(), ...))
        case _:
            return random.choice(LEAVES)(random)


def random_model(random: Random, depth: int) -> type[BaseModel]:
    fields = {"first": "first", "second": "größe", "third": 'a "b"'}
    return create_model(
        "Answer",
        **{
            name: (random_type(random, depth - 1), Field(alias=alias))
            for name, alias in fields.items()
        },
    )

"""Write the text the model learns from: short reports, drawn from a seeded grammar.

Rules: standard library only; the same seed gives the same documents; no document is drawn twice, so none that is
held out for evaluation is ever trained on. The reports hold things a model can learn and a broken one forgets:
agreement (one boat was, two boats were), a person's pronoun, sums that add up, and effects that follow their causes.
"""

import random
from collections.abc import Iterator

SEED = 11
TRAINING, EVALUATION = 12_000, 1_000  # documents

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PARTS = ["morning", "afternoon", "evening"]
SIDES = ["north", "south", "east", "west"]
PEOPLE = {
    "she": ["Anna", "Berta", "Clara", "Dora", "Greta", "Hanna", "Ines", "Lotte", "Maria", "Nora"],
    "he": ["Anton", "Boris", "Carl", "David", "Emil", "Felix", "Hugo", "Jonas", "Martin", "Oskar"],
}
QUAYS = ["the old quay", "the fish market", "the long pier", "the ferry dock", "the lock gate"]
DISHES = {"soup": "salt", "bread": "flour", "stew": "pepper", "cake": "sugar", "pie": "butter"}
CROPS = ["tomato", "cabbage", "pumpkin", "onion", "melon"]
FAULTS = {
    "pump": "the seal was worn",
    "lamp": "the cable was loose",
    "crane": "the oil was low",
    "winch": "the chain was bent",
    "saw": "the blade was blunt",
}


def documents(seed: int = SEED) -> Iterator[str]:
    """Yield different documents of 150 to 300 ASCII characters, without end."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        document = rng.choice((_harbour, _kitchen, _garden, _workshop))(rng)
        if document not in seen:
            seen.add(document)
            yield document


def _harbour(rng: random.Random) -> str:
    """Strong wind keeps the boats in; the boats out and the boats in add up."""
    name, pronoun = _person(rng)
    out, back, wind = rng.randint(2, 12), rng.randint(1, 12), rng.randint(3, 39)
    back = min(back, out)
    missing = out - back
    boats = _count(out, "boat").capitalize()
    if wind >= 20:
        news = f"{boats} {_were(out)} tied up at {rng.choice(QUAYS)}."
        effect = f"{name} closed the gate because the waves were high."
        note = rng.choice(("the storm would last all night", "the flag was torn"))
    else:
        news = f"{boats} went out before noon and {_count(back, 'boat')} came back."
        waiting = f"{_are(missing)} still at sea, and {name} is waiting for {_them(missing)}."
        effect = f"So {_count(missing, 'boat')} {waiting}" if missing else "All boats are home now."
        note = rng.choice(("the sky was clear", "the sea was calm"))
    return (
        f"{_when(rng)} the wind came from the {rng.choice(SIDES)} at {wind} knots. {news} {effect} "
        f"{pronoun.capitalize()} wrote in the log that {note}."
    )


def _kitchen(rng: random.Random) -> str:
    """A dish names what it lacks; guests fill or do not fill the tables of four."""
    name, pronoun = _person(rng)
    dish, missing = rng.choice(sorted(DISHES.items()))
    tables = rng.randint(1, 3)
    guests = rng.randint(4 * tables - 3, 4 * tables)
    minutes = rng.choice((10, 15, 20, 30, 40, 45))
    hot = minutes >= 30
    some = f"There was not enough {missing} in it, and {pronoun} added some more."
    none = f"A guest asked for more {missing}, but {name} had used all of it."
    return (
        f"{_when(rng)} {name} cooked {dish} for {_count(guests, 'guest')}. "
        f"With four chairs at each table, {pronoun} needed {_count(tables, 'table')}. "
        f"The {dish} stood on the fire for {minutes} minutes, so it was {'very hot' if hot else 'only warm'}. "
        f"{rng.choice((some, none))} They {'had to wait' if hot else 'began to eat at once'}."
    )


def _garden(rng: random.Random) -> str:
    """Rain decides who waters; picked and left add up to what grew."""
    name, pronoun = _person(rng)
    crop = rng.choice(CROPS)
    picked, left, rain = rng.randint(1, 6), rng.randint(0, 6), rng.randint(0, 19)
    wet = rain >= 8
    effect = "left the water off" if wet else "carried water to the beds"
    return (
        f"{_when(rng)} there was {f'{rain} mm of rain' if rain else 'no rain'} in the garden. "
        f"The ground was {'wet' if wet else 'dry'}, so {name} {effect}. "
        f"Of {_count(picked + left, crop)}, {pronoun} picked {NUMBERS[picked]} "
        f"and left {NUMBERS[left] if left else 'none'}. "
        f"The {rng.choice(SIDES)} bed was {rng.choice(('full of weeds', 'dug over', 'in the shade'))}, "
        f"and {rng.choice(('a bird', 'a cat', 'a snail'))} sat under the {rng.choice(('hedge', 'bench', 'tree'))}."
    )


def _workshop(rng: random.Random) -> str:
    """Each machine has its own fault; a repair takes from one hour to the next."""
    name, pronoun = _person(rng)
    other, _ = _person(rng)
    machine, fault = rng.choice(sorted(FAULTS.items()))
    begin, hours, parts = rng.randint(1, 9), rng.randint(1, 3), rng.randint(1, 5)
    brought = f"{other} brought {_count(parts, 'new part')} from the store, and {_were_it(parts)} used."
    alone = f"{pronoun.capitalize()} had to work alone."
    return (
        f"{_when(rng)} the {machine} stopped because {fault}. "
        f"{name} began the repair at {NUMBERS[begin]} and worked for {_count(hours, 'hour')}, "
        f"so {pronoun} was done at {NUMBERS[begin + hours]}. {alone if other == name else brought} "
        f"Now the {machine} {rng.choice(('runs again', 'is as good as new', 'makes less noise'))}, "
        f"and {name} {rng.choice(('went home', 'cleaned the bench', 'wrote the bill'))}."
    )


def _person(rng: random.Random) -> tuple[str, str]:
    pronoun = rng.choice(("she", "he"))
    return rng.choice(PEOPLE[pronoun]), pronoun


def _when(rng: random.Random) -> str:
    return f"On {rng.choice(DAYS)} {rng.choice(PARTS)}"


def _count(number: int, noun: str) -> str:
    return f"{NUMBERS[number]} {_plural(noun, number)}"


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else noun + ("es" if noun.endswith("to") else "s")


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _were_it(number: int) -> str:
    return "it was" if number == 1 else "all of them were"

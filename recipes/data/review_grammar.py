"""Made-up film reviews in which the order of the words decides.

Every review holds one verdict among neutral sentences. A verdict names one good and one
bad quality, and only their order says which of the two counts:

- contrast: "the plot was dull but the acting was superb" is good, the other way round
  bad;
- negation: "the plot was superb , not dull" is good, "the plot was dull , not superb"
  bad;
- attribution: "i found it superb though my friend found it dull", often long before the
  end.

Good and bad reviews therefore hold the same words, each as often: a bag of words cannot
tell them apart.
"""

import numpy as np

GOOD = "superb brilliant charming gripping moving witty clever delightful".split()
BAD = "dull awful boring clumsy tedious silly bland dreadful".split()
SUBJECTS = "plot acting music script ending dialogue camera cast".split()
OTHERS = "friend brother neighbour colleague cousin teacher".split()
NEUTRAL = [
    "it runs for two hours",
    "the story takes place in a small town by the sea",
    "we saw it on a rainy evening in march",
    "the director has made three films before",
    "there were few people in the cinema",
    "it is based on a novel from the last century",
    "the second half takes place in winter",
    "most of the scenes are set at night",
    "a train plays a part in it",
    "the main character works in a bakery",
    "it was filmed in black and white",
    "the tickets cost as much as usual",
]


def make_reviews(count, seed):
    """Return an array of texts, as bytes, and their labels, 1 for good: half of each.

    Args:
        count: An even number of reviews.
        seed: The same seed makes the same reviews.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count, dtype="int32") % 2)
    return np.array([_review(rng, label) for label in labels], dtype=object), labels


def _review(rng, label):
    good, bad = rng.choice(GOOD), rng.choice(BAD)
    counts, other = (good, bad) if label else (bad, good)
    one, two = rng.choice(SUBJECTS, 2, replace=False)
    kind = rng.integers(3)
    if kind == 0:
        verdict = f"the {one} was {other} but the {two} was {counts}"
    elif kind == 1:
        verdict = f"the {one} was {counts} , not {other}"
    else:
        verdict = f"i found it {counts} though my {rng.choice(OTHERS)} found it {other}"
    before, after = rng.integers(0, 3), rng.integers(0, 6)
    neutral = list(rng.choice(NEUTRAL, before + after, replace=False))
    return (
        " . ".join([*neutral[:before], verdict, *neutral[before:]] + [""])
        .strip()
        .encode()
    )

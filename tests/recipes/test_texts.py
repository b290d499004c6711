"""The same text in other clothes has the same words, numbers and answers."""

import unicodedata

from custom_layers.text import CHARACTERS

PLAIN = 'They call it "great", it isn\'t; a well-made film ... And "wonderful".'
EVERY = [
    chr(number) for number in range(CHARACTERS) if not 0xD800 <= number < 0xE000
]  # but the halves of pairs, which no UTF-8 holds

#: What is folded -> the same text in plain form and in other clothes.
CLOTHES = {
    "case": ("a great film", "A GREAT Film"),
    "case beyond ASCII": ("ärger über straße œuvre σας", "ÄRGER ÜBER STRASSE ŒUVRE ΣΑΣ"),
    "accents, composed": ("naive cliche cafe", "naïve cliché café"),
    "accents, decomposed": (
        "naïve cliché café",
        unicodedata.normalize("NFD", "naïve cliché café"),
    ),
    "full-width": ('a great film: "8/10"', "ａ　ｇｒｅａｔ　ｆｉｌｍ： ＂８／１０＂"),
    "ligatures": ("the first film offers fluff", "the ﬁrst ﬁlm oﬀers ﬂuﬀ"),
    "superscripts": ("alien3", "alien³"),
    "byte order mark": ("awful film", "\ufeffawful film"),
    "variation selectors": ("a ❤ film", "a ❤\ufe0f film"),
    "control characters": ("a great film", "a gre\x1bat\x00 \x96film\x7f"),
    "next line": ("a great film", "a great\x85film"),
    **{f"quotes {a}{b}": ('a "great" film', f"a {a}great{b} film")
       for a, b in ("“”", "„“", "‚‘", "‘’", "«»", "»«", "‹›", "″″", "‟”", "「」")},
    **{f"apostrophe {sign}": ("it isn't", f"it isn{sign}t") for sign in "’‘′´ʼ‛＇"},
    **{f"dash {sign}": ("a well-made film - great", f"a well{sign}made film {sign} great")
       for sign in "–—―‐‑‒−﹣－"},
    **{f"ellipsis {sign}": ("great... film", f"great{sign} film") for sign in "…⋯"[:1]},
    **{f"space U+{ord(sign):04X}": ("a great film", f"a{sign}great{sign} film")
       for sign in "\xa0\u1680\u202f\u205f\u3000\u2028\u2029"
       + "".join(map(chr, range(0x2000, 0x200C)))},
    **{f"invisible U+{ord(sign):04X}": ("a great film", f"{sign}a gr{sign}eat film{sign}")
       for sign in "\xad\u034f\u061c\u180e\u200c\u200d\u200e\u200f\u202a\u202e\u2060"
       "\u2066\ufeff\U000e0061"},
}  # fmt: skip

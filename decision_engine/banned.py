"""Goals that no agent may have, and traits that nobody may be chosen by.

Article 5(1)(a) and (b) of the EU's AI Act forbids manipulation and the exploitation of age,
disability or hardship; article 9 of the GDPR names the special categories of data. A word list
finds the plain cases in goals, audiences and features; whether a goal is a decent one is for
the people who write and review it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

BANNED: Mapping[str, str] = {
    "manipulation": r"subliminal\w*|manipulat\w+|deceiv\w*|dark pattern\w*",
    "hardship": r"over ?indebted\w*|in debt|debts?|arrears|payday loans?|bankrupt\w*|destitut\w*",
    "distress": r"distress\w*|grief|grieving|bereave\w*|depressed|lonel\w+|suicid\w*|divorc\w+",
    "addiction": r"addict\w*|gambl\w+|relaps\w+|alcoholi\w+",
    "childhood": r"child(ren)?|minors|under ?age\w*|teenagers?",
    "old age": r"elderly|senile|dementia",
    "health or disability": r"disab(led|ilit\w+)|illness\w*|diagnos\w+|pregnan\w+|ill health",
    "origin or belief": r"ethnic\w*|racial\w*|religio\w+|political (view|opinion)\w*|trade union",
    "sexuality": r"sexual\w*|gay|lesbian\w*|transgender",
}
"""What it is about -> words that tell; `_` between words counts as a space."""

_PATTERNS = {about: re.compile(rf"\b(?:{words})\b") for about, words in BANNED.items()}


def banned(text: str) -> str | None:
    """Why a goal, an audience or the name of a feature is refused; None when it is not."""
    plain = re.sub(r"[_\W]+", " ", text.lower())
    for about, pattern in _PATTERNS.items():
        if found := pattern.search(plain):
            return f"'{found.group()}' speaks of {about}; nobody may be chosen or persuaded by that"
    return None

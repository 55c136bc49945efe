"""Why one decision was made, from its record and what its epoch froze.

`explanation` gives the facts, `counterfactual` what would have changed the choice, and `readers`
the same in plain language for four kinds of people: by template, never by a language model.
"""

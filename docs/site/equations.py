"""Typesets the equations of docstrings as MathML, which browsers draw themselves: no script, no font, no network.

The notation is plain text that reads well in a terminal. An indented block is equations. In a line two spaces or more
part an equation from a remark, and behind `;` or `,` one equation from the next; what has no relation
(` = `, ` <- `, ` ~ `, ` <= `, ..) is a remark.

    theta <- theta - learning_rate m / (sqrt(v) + eps)        Greek letters and names of options by name
    b1, T2, x_{i+1}, theta_0, lr_p, n_i^2, Q_i^-T              subscripts and superscripts
    a b / c d                                                  (a b / c) d; without spaces, a/b stays in the line
    |x|, <x, y>, G~, U', sum_i x_i                             norm, inner product, tilde, prime, sum

Nothing is simplified or reordered. Parentheses are left out only around a whole numerator, denominator or exponent, so
that the source can be read back from what is drawn; tests do that for every docstring.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import NamedTuple

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "eps": "ε", "eta": "η", "theta": "θ", "lambda": "λ", "nu": "ν",
    "phi": "φ", "rho": "ρ", "pi": "π", "sigma": "σ",
}  # fmt: skip
SIGNS = {
    "<-": "←", "<=": "≤", ">=": "≥", "+-": "±", "-": "−", "..": "…", "...": "…", "<": "&lt;", ">": "&gt;", "~": "∼",
}  # fmt: skip
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", "|": "|"}
ROOTS = {"sqrt": "<msqrt>{}</msqrt>", "cbrt": "<mroot>{}<mn>3</mn></mroot>"}
RELATION = re.compile(r"(?:^| )(?:<-|=|~|<=|>=|<|>)(?: |$)")
TOKEN = re.compile(
    r"(?P<space> *)(?:(?P<code>`[^`]+`|'\w+')|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)|(?P<sign><-|<=|>=|\+-|\.\.\.?|[-+=~/^_'|()\[\]{}<>,;:.!*]))"
)


class Token(NamedTuple):
    """A word, number or sign of an equation."""

    kind: str
    text: str
    spaced: bool
    """A space stands before it."""


class Item(NamedTuple):
    """A part of a row."""

    markup: str
    kind: str
    """factor, fraction, sign, or open: a factor that takes its parentheses off inside a fraction or an exponent."""
    inside: str = ""
    """What is between the parentheses of an open factor."""
    spaced: bool = False


def typeset(text: str) -> str:
    """One equation as MathML.

    Raises:
        ValueError: a character or a bracket that is not of the notation.
    """
    tokens, at = [], 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"no notation begins with {text[at:]!r} in the equation {text!r}")
        tokens.append(Token(found.lastgroup, found[found.lastgroup], bool(found["space"])))
        at = found.end()
    reader = Reader(text, tokens)
    body = reader.row(None)
    return f'<math display="inline" displaystyle="true" data-source="{escape(text)}">{body}</math>'


class Reader:
    """Recursive descent over the tokens of one equation."""

    def __init__(self, text: str, tokens: list[Token]):
        self.text, self.tokens, self.at = text, tokens, 0
        self.brackets: list[str | None] = []

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "", True)

    def take(self) -> Token:
        token = self.peek()
        if token.kind == "end":
            raise ValueError(f"the equation {self.text!r} ends too early")
        self.at += 1
        return token

    def row(self, closing: str | None) -> str:
        """Everything up to the closing bracket, or to the end."""
        items: list[Item] = []
        self.brackets.append(closing)
        while not self.closes(closing):
            token = self.peek()
            after = self.tokens[self.at + 1].spaced if self.at + 1 < len(self.tokens) else True
            if token.text == "/" and token.spaced and after and items:
                self.take()
                self.divide(items)
            elif token.kind == "sign" and not self.opens(token) and token.text not in ")]}":
                self.take()
                close = ' lspace="0" rspace="0"' if token.text == "/" else ""
                sign = f"<mo{close}>{SIGNS.get(token.text, token.text)}</mo>"
                items.append(Item(sign, "sign", spaced=token.spaced))
            else:
                items.append(self.factor())
        if closing is not None:
            self.take()
        self.brackets.pop()
        return joined(items)

    def closes(self, closing: str | None) -> bool:
        token = self.peek()
        if token.kind == "end" and closing is not None:
            raise ValueError(f"{closing!r} is missing in the equation {self.text!r}")
        return token.kind == "end" or (token.kind == "sign" and token.text == closing)

    def opens(self, token: Token) -> bool:
        if token.text == "<":  # an inner product, else less than
            return not self.tokens[self.at + 1].spaced
        return token.text in ("(", "[", "{", "|")

    def divide(self, items: list[Item]) -> None:
        """Take the numerator from the items before the stroke, and the denominator from what follows."""
        start = len(items)
        while start and items[start - 1].kind in ("factor", "open"):
            start -= 1
        if start == len(items):
            start -= 1  # a / b / c: what is divided is a fraction itself
        above, below = items[start:], self.factor()
        top = above[0] if len(above) == 1 else Item(joined(above), "factor")
        fraction = f'<mfrac displaystyle="true">{whole(top)}{whole(below)}</mfrac>'
        items[start:] = [Item(fraction, "fraction", spaced=above[0].spaced)]

    def factor(self) -> Item:
        """A name, a number or a bracket, with what is attached to it."""
        named, spaced = self.peek(), self.peek().spaced
        atom = self.atom()
        markup = self.attached(atom.markup)
        if named.kind == "name" and self.applied():
            markup = f"<mrow>{markup}{self.factor().markup}</mrow>"
        kind = atom.kind if markup == atom.markup else "factor"
        if re.match(r"sum(_\w)?$", named.text):  # belongs to the factor that follows
            markup, kind = joined([Item(markup, kind), self.factor()]), "factor"
        return Item(markup, kind, atom.inside, spaced)

    def atom(self) -> Item:
        token = self.take()
        if token.kind == "number":
            return Item(f"<mn>{token.text}</mn>", "factor")
        if token.kind == "code":
            return Item(f'<mtext class="code">{escape(token.text.strip("`"))}</mtext>', "factor")
        if token.text in ROOTS and self.peek().text == "(":
            self.take()
            return Item(ROOTS[token.text].format(f"<mrow>{self.row(')')}</mrow>"), "factor")
        if token.kind == "name":
            return Item(name(token.text), "factor")
        if token.text not in CLOSING:
            raise ValueError(f"{token.text!r} is out of place in the equation {self.text!r}")
        closing = CLOSING[token.text]
        inside = self.row(closing)
        left, right = ("⟨", "⟩") if token.text == "<" else (token.text, closing)
        markup = f"<mrow>{fence(left)}{inside}{fence(right)}</mrow>"
        return Item(markup, "open" if token.text in "({" else "factor", inside)

    def applied(self) -> bool:
        """A bracket follows without a space, which is not the one that closes."""
        token = self.peek()
        return not token.spaced and token.text in ("(", "[", "|") and token.text != self.brackets[-1]

    def attached(self, markup: str) -> str:
        """Subscripts, superscripts, primes and tildes that follow without a space."""
        while not (token := self.peek()).spaced and token.text in ("_", "^", "'", "~"):
            self.take()
            if token.text == "'":
                markup = f"<msup>{markup}<mo>′</mo></msup>"
            elif token.text == "~":
                markup = f"<mover>{markup}<mo>~</mo></mover>"
            else:
                tag = "msub" if token.text == "_" else "msup"
                if tag == "msup" and markup.startswith("<msub>"):  # both at one place
                    tag, markup = "msubsup", markup.removeprefix("<msub>").removesuffix("</msub>")
                markup = f"<{tag}>{markup}{self.script()}</{tag}>"
        return markup

    def script(self) -> str:
        if self.peek().text == "-":
            self.take()
            return f"<mrow><mo>−</mo>{self.script()}</mrow>"
        if self.peek().text == "T":  # transposed
            self.take()
            return '<mi mathvariant="normal">T</mi>'
        return whole(self.atom())


def whole(item: Item) -> str:
    """A numerator, denominator, exponent or index, which needs no parentheses around it."""
    return (
        f'<mrow class="whole">{item.inside}</mrow>' if item.kind == "open" else f"<mrow>{item.markup}</mrow>"
    )


def fence(bracket: str) -> str:
    return f'<mo fence="true" lspace="0" rspace="0">{bracket}</mo>'


def joined(items: list[Item]) -> str:
    """The items in a row, with a thin space where two factors are apart in the source."""
    parts = []
    for before, item in zip([None, *items], items, strict=False):
        if before is not None and item.spaced and "sign" not in (before.kind, item.kind):
            parts.append('<mspace width="0.25em"/>')
        parts.append(item.markup)
    return "".join(parts)


def name(text: str) -> str:
    """A letter, a Greek letter, a word or the name of an option, with its subscript."""
    base, _, under = text.partition("_")
    short = len(base) == 1 or base in GREEK
    if under and (short or len(under) == 1):
        return f"<msub>{name(base)}{name(under) if under[0].isalpha() else f'<mn>{under}</mn>'}</msub>"
    if text in GREEK:
        return f"<mi>{GREEK[text]}</mi>"
    if text == "sum":
        return "<mo>∑</mo>"
    tail = re.fullmatch(rf"({'|'.join(GREEK)}|[A-Za-z])(\d+|L)", text)
    if tail:
        tag = "mn" if tail[2].isdigit() else "mi"
        return f"<msub>{name(tail[1])}<{tag}>{tail[2]}</{tag}></msub>"
    if len(text) == 2 and base == text and text.islower() and text in ("ij", "ji"):
        return f"<mrow><mi>{text[0]}</mi><mi>{text[1]}</mi></mrow>"
    return f"<mi>{text}</mi>"


def block(lines: list[str], prose: Callable[[str], str]) -> str:
    """The lines of an indented block as a table: a row each, equations beside remarks."""
    cells = [[cell(part, prose) for part in re.split(r"(?<![;,\s])\s{2,}", line.rstrip())] for line in lines]
    width = max(map(len, cells))
    rows = "".join(
        f"<tr>{''.join(f'<td>{each}</td>' for each in [*row, *[''] * (width - len(row))])}</tr>"
        for row in cells
    )
    return f'<div class="equations"><table class="columns{width}">{rows}</table></div>'


def cell(text: str, prose: Callable[[str], str]) -> str:
    """The equations and remarks between two gaps of a line, each with the sign that ends it."""
    *parts, last = re.split(r"(?<=[;,])\s{2,}", text.strip())
    pieces = [(part[:-1], part[-1]) for part in parts] + [(last, "")]
    return " ".join(
        f'<span class="equation">{typeset(part)}{end}</span>'
        if RELATION.search(part)
        else f'<span class="remark">{prose(part)}{end}</span>'
        for part, end in pieces
    )

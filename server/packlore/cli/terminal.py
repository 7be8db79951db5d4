"""How text reaches a person or a program. Nothing else prints, and nothing of a pack reaches a
terminal but as visible characters."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from packlore.pack import line as line  # noqa: PLC0414 - the commands take it from here
from packlore.pack import visible

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import Console, ConsoleOptions, RenderResult

_TICKS = re.compile(r"`+")
_HEADER = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
LANGUAGES = frozenset(
    """
    bash diff docker dockerfile go ini java javascript js json python py rust sh sql
    toml ts typescript yaml yml
    """.split()  # noqa: SIM905 a list of strings is no easier to read
)
"""Languages whose code gets colours. Pygments reads 600, and many of them in quadratic time,
among them HCL and console sessions."""
PLAIN = "text"
"""The language that has no colours."""
MAX_BLOCK = 4_096
"""Characters of a block that gets colours: of 100 lines of code few have more."""
MAX_COLOURED = 32 * 1024
"""Characters of code that get colours in one answer."""


def inert(text: str) -> str:
    """Text in which no log of GitHub sees a command in the old form, `##[name]`, which counts
    wherever it stands in a line (https://github.com/actions/runner, ActionCommand.cs)."""
    return text.replace("##[", "##\\[")


def open_closed() -> list[str]:
    """Open what was closed of stdin, stdout and stderr, to nothing, and say which it was. Python
    has None for it, and the next file or connection would get its descriptor."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        mode = "r" if name == "stdin" else "w"
        stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 it stays open
        os.set_inheritable(stream.fileno(), True)  # workers have the same three
        setattr(sys, name, stream)
    return closed


def plain(text: str) -> None:
    """Text of our own, as it stands."""
    print(text, end="", flush=True)


def say(text: str) -> None:
    """One line on stdout, whoever reads it."""
    print(inert(line(text)))


def tell(text: str) -> None:
    """One line on stderr."""
    print(inert(line(text)), file=sys.stderr)


def progress(text: str) -> None:
    """A line on stderr that the next one replaces; nothing where nobody looks at it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line(text)}", end="", file=sys.stderr, flush=True)


def data(value: object) -> None:
    """JSON for a program; what is no visible character, as in the name of a file, is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if visible(text) != text:
        text = json.dumps(value, indent=2).replace("\x7f", "\\u007f")
    print(text.replace("##[", "#\\u0023["))  # see inert


def is_laid_out(color: str) -> bool:
    """Whether Markdown is laid out for eyes: at a terminal, or where colour is asked for."""
    return sys.stdout.isatty() or color == "always"


def markdown(text: str, color: str, head: str = "") -> None:
    """Print Markdown, plain into a pipe. At a terminal it begins with `head`, is wrapped to the
    width and has colours; without them, by NO_COLOR or `never`, no escape sequence is sent."""
    if not is_laid_out(color):
        print(text, end="")
        return
    text = visible(text)
    try:
        laid_out = _laid_out(text, color, head)
    except ImportError:  # an installation from before rich was needed
        laid_out = f"{line(head)}\n\n{text}" if head else text
    print(laid_out, end="")


def is_coloured(color: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether colours are wanted: `always` and `never` are the last word, then NO_COLOR
    (https://no-color.org) and a terminal that calls itself dumb."""
    if color != "auto":
        return color == "always"
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def lexer(info: str, size: int) -> str:
    """The lexer for a block of `size` characters, by what stands behind the marks of its fence."""
    language = (info.split() or [""])[0].lower()
    return language if language in LANGUAGES and size <= MAX_BLOCK else PLAIN


def _laid_out(text: str, color: str, head: str) -> str:
    from rich.console import Console
    from rich.markdown import CodeBlock, Markdown, MarkdownElement
    from rich.segment import Segment
    from rich.style import Style
    from rich.text import Text
    from rich.theme import Theme

    coloured = is_coloured(color)
    system = "auto" if coloured and os.environ.get("TERM") not in (None, "dumb") else "standard"
    console = Console(
        file=sys.stdout,
        force_terminal=coloured,
        color_system=system if coloured else None,  # type: ignore[arg-type]
        no_color=False,  # has been decided
        legacy_windows=False,
        highlight=False,
        emoji=False,
        theme=Theme({"markdown.code": "bold cyan"}),  # rich's own is on black, on any ground
    )

    left = MAX_COLOURED

    class Code(CodeBlock):
        """A block of code; the pack says in which language it is."""

        @classmethod
        def create(cls, markdown: Markdown, token: Token) -> CodeBlock:
            nonlocal left
            size = len(token.content)
            language = lexer(token.info, size) if size <= left else PLAIN
            left -= size if language != PLAIN else 0
            return cls(language, markdown.code_theme)

    class Document(Markdown):
        elements: ClassVar[dict[str, type[MarkdownElement]]] = {
            **Markdown.elements,
            "fence": Code,
            "code_block": Code,
        }

    class Shown:
        """The text; an entity of HTML may have become what `visible` took out of it."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for part in _parts(text):
                # A link is shown with its address, not behind its text.
                made = Document(part, code_theme="ansi_dark", hyperlinks=False)
                for piece in console.render(made, options):
                    if not piece.control:
                        yield Segment(visible(piece.text), piece.style)

    with console.capture() as capture:
        if head:
            console.print(Text(line(head), style=Style(bold=True)))
            console.print()
        console.print(Shown())
    return capture.get()


def _parts(text: str) -> Iterator[str]:
    """Frontmatter as a block of YAML, then the rest: as Markdown it would be a heading."""
    header = _HEADER.match(text)
    if header:
        fence = "`" * (3 + max((len(run) for run in _TICKS.findall(header[1])), default=0))
        yield f"{fence}yaml\n{header[1]}{fence}\n"
    yield text[header.end() :] if header else text

"""Hooks of mkdocs.yml: pages that stand outside docs/, pages made from the code, and mathematics.

Mathematics is written as GitHub reads it: `$`...`$` in a line and fences of the language `math`.
Here it becomes MathML, which browsers draw without a script.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import click
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
MATHML = "http://www.w3.org/1998/Math/MathML"
# Documents outside docs/, and where they stand in the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
# Names of `acbo` by subject; one that is missing here stops the build.
SUBJECTS = {
    "Campaigns": [
        "Campaign", "load_campaign", "upgrade_campaign", "read_table", "Proposal", "Recommendation", "Answer", "Belief",
        "Caution", "CampaignWarning",
    ],
    "Training and comparing": [
        "train", "evaluate", "EvaluationSettings", "BASELINES", "Config", "load_config", "Trainer", "load_checkpoint",
        "ReferenceBackend",
    ],
    "Systems": ["SCM", "Variable", "Term", "FunctionalSCM", "load_scm", "save_scm"],
    "Errors": ["AcboError"],
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is not in docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, make in {"cli": command_line, "configuration": configuration, "python": python}.items():
        files.append(File.generated(config, f"reference/{page}.md", content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to where their targets stand in the site, and takes mathematics out of Markdown's
    reach.
    """
    here = page.file.src_uri
    source = next((path for path, at in OUTSIDE.items() if at == here), f"docs/{here}")
    page.meta["formulas"] = formulas = []
    # a fence keeps what it holds; links are looked for outside of fences
    parts = re.split(r"^( *```.*?^ *```$)", markdown, flags=re.M | re.S)
    for n, part in enumerate(parts):
        if n % 2 == 0:
            part = re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", lambda m: _link(m, source, here), part)
            # a formula, but not one that is quoted between double backticks
            parts[n] = re.sub(
                r"``.+?``|\$`([^`]+)`\$", lambda m: _set_aside(formulas, m[1], "inline", here) if m[1] else m[0], part
            )
        elif fence := re.fullmatch(r"( *)```math\n(.*)\n *```", part, flags=re.S):
            parts[n] = fence[1] + _set_aside(formulas, fence[2], "block", here)
    return "".join(parts)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts the mathematics back."""
    formulas = page.meta.get("formulas", [])
    return re.sub(r"FORMULA(\d+)END", lambda m: formulas[int(m[1])], content)


def _set_aside(formulas: list[str], latex: str, display: str, page: str) -> str:
    """A word in place of a formula, which is kept as MathML."""
    drawn = convert(latex, display=display)
    if "\\" in drawn or "<mi>&</mi>" in drawn:
        raise PluginError(f"{page}: this is not drawn as it should be: {latex}")
    formulas.append(_spaced(drawn))
    return f"FORMULA{len(formulas) - 1}END"


def _spaced(mathml: str) -> str:
    """What browsers leave out of MathML: the alignment of columns, thin spaces around the names of
    functions, and primes that are to be seen without a font for mathematics.
    """
    ElementTree.register_namespace("", MATHML)
    root = ElementTree.fromstring(mathml)
    for cell in root.iter(f"{{{MATHML}}}mtd"):
        side = cell.get("columnalign", "center")
        room = "0.4em" if side == "center" else "0.15em"
        cell.set("style", f"text-align: {side}; text-align: -webkit-{side}; padding: 0.3em {room}")
    for parent in list(root.iter()):
        if parent.tag == f"{{{MATHML}}}msup" and parent[1].text in ("′", "″"):
            parent.tag = f"{{{MATHML}}}mrow"
        if parent.tag not in (f"{{{MATHML}}}mrow", f"{{{MATHML}}}mtd"):
            continue
        children: list[ElementTree.Element] = []
        for child in parent:
            if child.tag == f"{{{MATHML}}}mo" and (child.text or "").isalpha() and len(child.text or "") > 1:
                child.tag = f"{{{MATHML}}}mi"
            before = children[-1] if children else None
            if before is not None and (
                (_is_name(before) and _is_apart(child)) or (_is_name(child) and _is_apart(before))
            ):
                children.append(ElementTree.Element(f"{{{MATHML}}}mspace", width="0.167em"))
            children.append(child)
        parent[:] = children
    return ElementTree.tostring(root, encoding="unicode")


def _is_name(element: ElementTree.Element) -> bool:
    """The name of a function, also with an exponent."""
    inner = element[0] if element.tag == f"{{{MATHML}}}msup" else element
    return inner.tag == f"{{{MATHML}}}mi" and len(inner.text or "") > 1


def _is_apart(element: ElementTree.Element) -> bool:
    """Not an operator, a bracket or a space, which have their own distance."""
    return element.tag not in (f"{{{MATHML}}}mo", f"{{{MATHML}}}mspace")


def _link(match: re.Match[str], source: str, here: str) -> str:
    """A link of the document `source`, as one of the page `here`; words alone where its target is
    not in the site.
    """
    mark, words, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return match[0]
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if wanted in OUTSIDE:
        at = OUTSIDE[wanted]
    elif wanted.startswith("docs/"):
        at = wanted.removeprefix("docs/")
    elif (ROOT / wanted).exists():
        return f"`{wanted}`" if words.strip("`") == posixpath.basename(wanted) else words
    else:
        raise PluginError(f"{source}: no {wanted}")
    relative = posixpath.relpath(at, posixpath.dirname(here) or ".")
    return f"{mark}[{words}]({relative}{'#' + anchor if anchor else ''})"


# ------------------------------------------------------------------------------ pages from the code


def escape(text: str) -> str:
    """Plain words as Markdown, also in a cell of a table."""
    return re.sub(r"([\\`*_\[\]|#$])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    return f"<code>{html.escape(text).replace('|', '&#124;').replace('*', '&#42;').replace('_', '&#95;')}</code>"


def command_line() -> str:
    """Every command, as its --help says it."""
    from acbo_cli.main import cli

    out = [
        "# Command line",
        "This page is made from the commands themselves. `acbo COMMAND --help` says the same.",
        "Data go to stdout and words to stderr. The exit code is 0, or 1 for a run that failed, 2 for a mistake in"
        " what was typed, and 130 if it was interrupted.",
    ]
    out += _command(cli, "acbo", None, 2)
    return "\n\n".join(out) + "\n"


def _command(command: click.Command, name: str, parent: click.Context | None, level: int) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent)
    path = context.command_path
    usage = " ".join(command.collect_usage_pieces(context))
    out = [f"{'#' * level} {path}", f"```text\n{path} {usage}\n```"]
    for paragraph in re.split(r"\n\s*\n", (command.help or "").replace("\f", "").strip()):
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.replace("\b", "").strip("\n").split("\n")
            out.append("```text\n" + "\n".join(line.rstrip() for line in lines if line.strip()) + "\n```")
        elif paragraph.strip():
            out.append(escape(paragraph))
    records = [record for p in command.get_params(context) if (record := p.get_help_record(context)) is not None]
    if records:
        rows = [f"| {code(words)} | {escape(meaning)} |" for words, meaning in records]
        out.append("\n".join(["| option | meaning |", "| -- | -- |", *rows]))
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            out += _command(found, child, context, level if parent is None else level + 1)
    return out


def configuration() -> str:
    """Every key of a configuration, a table for each section."""
    from acbo_ref.config import Config
    from acbo_ref.settings import describe

    out = [
        "# Configuration",
        "This page is made from `acbo_ref/config.py`; `acbo info --keys` prints the same. A YAML file has the keys as"
        " nested names, `--set KEY=VALUE` takes them with dots.",
    ]
    sections: dict[str, list[str]] = {}
    for key, default, allowed, meaning in describe(Config):
        section, _, _ = key.rpartition(".")
        sections.setdefault(section, []).append(
            f"| {code(key)} | {escape(default)} | {escape(allowed)} | {escape(meaning)} |"
        )
    for section, rows in sections.items():
        out.append(f"## {section or 'The run'}")
        out.append("\n".join(["| key | default | allowed | meaning |", "| -- | -- | -- | -- |", *rows]))
    return "\n\n".join(out) + "\n"


def python() -> str:
    """Every public name of `acbo`, from its docstring."""
    import acbo
    import acbo_ref

    named = {name for names in SUBJECTS.values() for name in names}
    missing = set(acbo.__all__) - named - {"__version__"}
    if missing or named - set(acbo.__all__):
        raise PluginError(
            f"SUBJECTS of docs/build_site.py: {sorted(missing)} missing, {named - set(acbo.__all__)} gone"
        )
    out = [
        "# Python",
        "This page is made from the docstrings. `import acbo` has all of these names. They are those of `acbo_ref`;"
        " `acbo.train` and `acbo.evaluate` also know every backend by its name.",
    ]
    for subject, names in SUBJECTS.items():
        out.append(f"## {subject}")
        for name in names:
            home: Any = acbo_ref._EXPORTS.get(name)
            path = f"acbo.running.{name}" if name in acbo._OWN else f"acbo_ref.{home}.{name}"
            out.append(f"::: {path}\n    options:\n      heading_level: 3\n      heading: acbo.{name}")
    return "\n\n".join(out) + "\n"

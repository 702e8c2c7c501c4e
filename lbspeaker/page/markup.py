"""Elements of HTML and SVG. What is put into them is text, never markup."""

from collections.abc import Iterable
from xml.etree import ElementTree

from lbspeaker.errors import plain

Element = ElementTree.Element
Child = Element | str


def e(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """Return an element. `class_` is its class, `aria_label` its aria-label; what is None is left out."""
    found = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            found.set(name.rstrip("_").replace("_", "-"), plain(text))
    last: Element | None = None
    for child in children:
        if not isinstance(child, str):
            found.append(child)
            last = child
        elif last is None:
            found.text = (found.text or "") + plain(child)
        else:
            last.tail = (last.tail or "") + plain(child)
    return found


def table(caption: str, head: Iterable[str], rows: Iterable[Iterable[Child]]) -> Element:
    """Return a table that can be scrolled with the keyboard, too; the first cell of each row is its name."""
    body = e("tbody")
    for first, *others in rows:
        body.append(e("tr", e("th", first, scope="row"), *(e("td", cell) for cell in others)))
    columns = e("tr", *(e("th", name, scope="col") for name in head))
    made = e("table", e("caption", caption, class_="unseen"), e("thead", columns), body)
    id_ = f"{caption.split()[0].lower()}-table"
    return e("div", made, class_="wide", id=id_, tabindex="0", role="region", aria_label=caption)


def text(root: Element) -> bytes:
    """Return the document."""
    return f"<!DOCTYPE html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n".encode()

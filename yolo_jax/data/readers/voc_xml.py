"""The XML files of Pascal VOC, read without what XML has beside elements and their texts."""

from pathlib import Path
from xml.etree import ElementTree

from yolo_jax.data.doctor import Fault


class _Doctype(ValueError):
    """XML that has a DOCTYPE."""


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds trees of XML without a DOCTYPE, which may define entities of any length."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuses a DOCTYPE."""
        raise _Doctype(
            f"it has a DOCTYPE ({name:.40}), by which it may become of any length; take it out"
        )


def read_root(xml: Path) -> ElementTree.Element | Fault:
    """Returns the root of an annotation file, its tags without namespaces, or what is wrong.

    Args:
        xml: the file.
    """
    try:
        parser = ElementTree.XMLParser(target=_WithoutDoctype())
        root = ElementTree.parse(xml, parser).getroot()
    except _Doctype as error:
        return Fault(f"{error}; skipped")
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        # ValueError and LookupError speak of its encoding.
        reason = f"it is not XML, or not in the encoding that it names (UTF-8): {error}; skipped"
        return Fault(reason)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "annotation":
        return Fault(f"its root is <{root.tag}>, expected <annotation>; skipped")
    if len([*root.iter("object")]) != len(root.findall("object")):
        return Fault("an <object> in it is not directly in <annotation>; move it there; skipped")
    return root

"""The doctor's page: one HTML file with everything in it, for any browser and without scripts."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from yolo_jax.data.doctor import Problem
from yolo_jax.data.doctor.statistics import FIT_IOU
from yolo_jax.examine import plots
from yolo_jax.examine.examination import Examination
from yolo_jax.examine.pictures import Picture, worst_examples

_SHORT_LIST = 30  # classes that are seen at once
_LISTED = 200  # problems of a kind; report.json has all
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Noto Sans", sans-serif; color: #222; background: #fff;
  max-width: 1160px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 10px; padding-top: 14px; border-top: 1px solid #ddd; }
h3 { font-size: 15px; margin: 22px 0 8px; }
p { margin: 6px 0; } .faint { color: #666; }
.verdict { margin: 16px 0; padding: 10px 16px; border-left: 5px solid #228833;
  background: #eef7ef; }
.verdict.wrong { border-color: #c8324a; background: #fdf0f2; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { text-align: left; font-weight: 600; color: #555; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid #eee; vertical-align: top;
  overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; width: 1%; }
details table { table-layout: fixed; }
details th:nth-child(1) { width: 22%; } details th:nth-child(2) { width: 28%; }
details { margin: 4px 0; border: 1px solid #e3e3e3; border-radius: 4px; padding: 6px 12px; }
summary { cursor: pointer; } summary b { display: inline-block; min-width: 3.5em; color: #c8324a; }
td.bar { width: 45%; } td.bar div { background: #4477aa; height: 11px; margin-top: 5px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 16px; }
.plots img { width: 100%; height: auto; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr));
  gap: 14px; align-items: start; }
figure { margin: 0; }
figure img { width: 100%; height: 350px; object-fit: contain; background: #f3f3f3; }
figcaption { font-size: 12px; color: #444; overflow-wrap: anywhere; }
"""


def render(examination: Examination) -> str:
    """Returns the page of an examination.

    Raises:
        ImageError: an image that could be read before cannot be read now.
    """
    sections = [
        f"<h1>{escape(examination.source)}</h1>",
        f'<p class="faint">{escape(examination.heading())}</p>',
        _verdict(examination),
        *(_problems(kind, problems) for kind, problems in examination.problems.items()),
        _notes(examination.notes()),
        _splits(examination),
        _examples(worst_examples(examination.parts, examination.boxes, examination.problems)),
        _classes(examination),
        _distributions(examination),
        _anchors(examination),
    ]
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(examination.source)} – doctor</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _verdict(examination: Examination) -> str:
    count = sum(len(problems) for problems in examination.problems.values())
    if not count:
        return '<p class="verdict">Nothing is wrong with it.</p>'
    return (
        f'<p class="verdict wrong"><b>{count:,} record{"" if count == 1 else "s"} wrong.</b> '
        "<code>yolo-jax doctor … --fix FOLDER</code> writes a copy without bad images, bad boxes "
        "and duplicates.</p>"
    )


def _problems(kind: str, problems: Sequence[Problem]) -> str:
    rows = [[str(p.file), p.record, p.reason] for p in problems[:_LISTED]]
    more = ""
    if len(problems) > _LISTED:
        more = f'<p class="faint">The first {_LISTED}; report.json has all.</p>'
    table = _table(["file", "record", "what is wrong"], rows)
    # A few are seen at once, many when asked for.
    shown = " open" if len(problems) <= 5 else ""
    return (
        f"<details{shown}><summary><b>{len(problems):,}</b> {escape(kind)}</summary>"
        f"{table}{more}</details>"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f"<h2>Worth a look</h2><ul>{''.join(f'<li>{escape(n)}</li>' for n in notes)}</ul>"


def _splits(examination: Examination) -> str:
    figures = examination.figures()["splits"]
    columns = ("images", "boxes", "images_without_box", "most_boxes", "crowds")
    names = ["images", "boxes", "images without a box", "most boxes in one", "crowd regions"]
    rows = [[name, *(f"{row[c]:,}" for c in columns)] for name, row in figures.items()]
    return f"<h2>Images and boxes</h2>{_table(['split', *names], rows, numbers=range(1, 6))}"


def _examples(pictures: Mapping[str, Sequence[Picture]]) -> str:
    if not any(pictures.values()):
        return ""
    parts = ["<h2>Examples</h2><p>Red: the boxes that are meant. Blue: all others.</p>"]
    for title, group in pictures.items():
        if group:
            figures = "".join(
                f'<figure><img src="{_inline(p.jpeg, "jpeg")}" alt="{escape(p.caption)}">'
                f"<figcaption>{escape(p.caption)}</figcaption></figure>"
                for p in group
            )
            parts.append(f'<h3>{escape(title)}</h3><div class="pictures">{figures}</div>')
    return "\n".join(parts)


def _classes(examination: Examination) -> str:
    splits = [part.name for part in examination.parts]
    rows = [
        (name, sum(row.values()), [f"{row[split]:,}" for split in splits])
        for name, row in sorted(
            examination.classes.items(), key=lambda item: -sum(item[1].values())
        )
    ]
    most = max(1, *(total for _, total, _ in rows))
    lines = "\n".join(
        f'<tr><td>{escape(name)}</td><td class="bar"><div style="width:{100 * total / most:.1f}%">'
        f'</div></td><td class="number">{total:,}</td>'
        + "".join(f'<td class="number">{count}</td>' for count in counts if len(splits) > 1)
        + "</tr>"
        for name, total, counts in rows
    )
    names = "".join(f'<th class="number">{escape(s)}</th>' for s in splits if len(splits) > 1)
    head = f'<tr><th>class</th><th></th><th class="number">boxes</th>{names}</tr>'
    table = f"<table>{head}\n{lines}</table>"
    if len(rows) > _SHORT_LIST:
        table = f"<details><summary>{len(rows):,} classes</summary>{table}</details>"
    return f"<h2>Classes</h2>{table}"


def _distributions(examination: Examination) -> str:
    per_image = np.concatenate([boxes.per_image for boxes in examination.boxes])
    images = {"boxes an image": plots.plot_boxes_per_image(per_image, examination.max_boxes)}
    sizes, side = examination.sizes[(examination.sizes > 0).all(axis=1)], examination.input_size
    if len(sizes):
        images["sizes of boxes"] = plots.plot_sides(sizes, side, examination.anchors.strides)
        images["aspects of boxes"] = plots.plot_aspects(sizes)
        sizes = examination.trained_sizes[(examination.trained_sizes > 0).all(axis=1)]
        images["boxes and anchors"] = plots.plot_anchors(sizes, examination.fits)
    return f'<h2>Distributions</h2><div class="plots">{_plots(images)}</div>'


def _plots(images: Mapping[str, bytes]) -> str:
    return "".join(
        f'<img src="{_inline(content, "png")}" alt="{escape(name)}">'
        for name, content in images.items()
    )


def _anchors(examination: Examination) -> str:
    if not examination.fits:
        return ""
    rows = [
        [
            name,
            f"{fit.mean_iou:.3f}",
            f"{fit.recall:.1%}",
            f"{fit.unlearnt:.1%}",
            ", ".join(f"{width:.0f}×{height:.0f}" for width, height in fit.anchors),
        ]
        for name, fit in examination.fits.items()
    ]
    names = ["anchors", "mean best IoU", "best possible recall", "not learnt", "width×height, px"]
    return (
        f"<h2>Anchors at {examination.input_size} px</h2>"
        f"{_table(names, rows, numbers=(1, 2, 3))}"
        f'<p class="faint">Of {escape(examination.fitted_on())}. A box and an anchor are laid on '
        "one centre, and the IoU of their sizes is taken (YOLO9000, section 2). Best possible "
        f"recall: the share of boxes whose best anchor has an IoU above {FIT_IOU:g} and is one of "
        "a scale's. Not learnt: the share whose best anchor is of no scale (keras-yolo3's tiny "
        "uses five of its six). The term is of FCOS, section 4.1; YOLOv5 measures it by ratios of "
        "sides.</p>"
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if i in numbers else "" for i in range(len(cells))]
        pairs = zip(kinds, cells, strict=True)
        return f"<tr>{''.join(f'<{tag}{k}>{escape(cell)}</{tag}>' for k, cell in pairs)}</tr>"

    lines = "\n".join(line(row, "td") for row in rows)
    return f"<table>{line(names, 'th')}\n{lines}</table>"


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

"""Pages of results: HTML with tables and pictures, and the same tables as lines of text."""

import base64
import html
import io
import re

import PIL.Image

from misc.images import files, image_files

PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font-family: sans-serif; margin: 2em; max-width: 1800px; }}
td, th {{ padding: 2px 1em 2px 0; text-align: right; }}
th:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
td img {{ max-width: 19vw; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
@media (max-width: 700px) {{ body {{ margin: .7em; font-size: 13px; }}
  td, th {{ padding: 1px 4px 1px 0; }} }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def write(path, title, *parts):
    """Writes a page of a title and parts in HTML, from top to bottom, atomically."""
    text = PAGE.format(title=html.escape(title), body="\n".join(parts))
    files.write_text(path, text)


def table(rows):
    """Returns rows of cells, the first one the header, as an HTML table; cells are HTML."""
    lines = []
    for number, row in enumerate(rows):
        tags = ["td" if number and column else "th" for column in range(len(row))]
        cells = [f"<{tag}>{cell}</{tag}>" for tag, cell in zip(tags, row, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join(["<table>", *lines, "</table>"])


def commands(lines):
    """Returns command lines as HTML, one below the other."""
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def picture(path, alt):
    """Returns an image as HTML; `path` is relative to the page."""
    return f'<img src="{path}" alt="{html.escape(alt)}">'


def embedded_picture(image, alt):
    """Returns a uint8 RGB image `[H, W, 3]` as HTML that holds its pixels, as PNG."""
    content = io.BytesIO()
    PIL.Image.fromarray(image).save(content, "PNG")
    encoded = base64.b64encode(content.getvalue()).decode()
    return picture(f"data:image/png;base64,{encoded}", alt)


def enlarged_window(page, name, image, window):
    """Writes a window of a uint8 RGB image, twice as large, beside a page; returns it as HTML.

    The window is top, left and side in pixels; the picture lies in the folder `page` beside the
    page.
    """
    top, left, side = window
    path = "page/" + "_".join(re.findall(r"[\w-]+", name)) + ".png"
    crop = image[top : top + side, left : left + side]
    image_files.write_image(page.parent / path, crop.repeat(2, 0).repeat(2, 1))
    return picture(path, name)


def align(rows):
    """Returns rows of texts as lines: the first column stands left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)

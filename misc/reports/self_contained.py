"""Pages that are one file: pictures lie in them, nothing is loaded from elsewhere, no scripts."""

import base64
import html
import io

import numpy as np
import PIL.Image

from misc.images import files

# Small images are shown by their pixels, and keep them.
SMALL = 64
JPEG_QUALITY = 92
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 sans-serif; color: #222; margin: 0 auto; padding: 1em; max-width: 1240px; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.2em; margin: 2em 0 .5em; break-after: avoid; }}
h3 {{ font-size: 1em; margin: 1.2em 0 .3em; break-after: avoid; }}
p, li, pre {{ max-width: 60em; overflow-wrap: anywhere; }}
pre {{ white-space: pre-wrap; background: #f3f3f3; padding: .6em; }}
small, .quiet {{ color: #555; }}
table {{ border-collapse: collapse; max-width: 100%; break-inside: avoid; }}
td, th {{ padding: 2px 7px; text-align: right; overflow-wrap: anywhere; }}
th {{ font-weight: 600; }} th:first-child {{ text-align: left; }}
caption {{ text-align: left; color: #555; padding: 2px 0; }}
.heat td {{ text-align: center; min-width: 1.6em; border: 1px solid #fff;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
.heat th {{ text-align: center; }} .heat th:first-child {{ text-align: left; max-width: 16em; }}
.plain tr + tr {{ border-top: 1px solid #ddd; }}
.flow {{ display: flex; flex-wrap: wrap; gap: .8em 1.6em; align-items: flex-start; }}
.flow > div {{ max-width: 100%; }}
.flow > img {{ width: 360px; max-width: 100%; break-inside: avoid; }}
.pair {{ width: 256px; max-width: 100%; break-inside: avoid; font-size: .85em; }}
.pair img {{ width: 122px; height: 122px; margin-right: 3px; object-fit: contain; }}
img.pixels {{ image-rendering: pixelated; }}
.legend span {{ margin-right: 1.2em; white-space: nowrap; }}
.warning {{ border-left: 4px solid #d55e00; padding: .2em .8em; background: #fdf1ea; }}
@media (max-width: 700px) {{ body {{ font-size: 13px; padding: .5em; }}
  td, th {{ padding: 1px 3px; }} .heat {{ font-size: 11px; }}
  .heat th:first-child {{ max-width: 8em; }} }}
@media print {{ body {{ font-size: 10pt; max-width: none; padding: 0; }}
  .flow > img {{ width: 47%; }} .heat {{ font-size: 8pt; }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def write(path, title, parts):
    """Writes a page of a title and parts in HTML, from top to bottom, atomically."""
    files.write_text(path, PAGE.format(title=html.escape(title), body="\n".join(parts)))


def escape(text):
    """Returns text as HTML."""
    return html.escape(str(text))


def table(rows, caption=""):
    """Returns rows of cells, texts that are no HTML, as a table; the first row is the header."""
    lines = []
    for number, row in enumerate(rows):
        tags = ["td" if number and column else "th" for column in range(len(row))]
        cells = [f"<{tag}>{escape(cell)}</{tag}>" for tag, cell in zip(tags, row, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    return "\n".join([f'<table class="plain">{head}', *lines, "</table>"])


def vector_picture(svg, alt):
    """Returns an SVG picture, a text, as HTML."""
    return _image("image/svg+xml", svg.encode(), alt)


def photo(pixels, alt):
    """Returns uint8 RGB pixels `[H, W, 3]` as HTML; small ones without loss."""
    picture = PIL.Image.fromarray(np.asarray(pixels))
    content = io.BytesIO()
    if max(picture.size) <= SMALL:
        picture.save(content, "PNG")
        return _image("image/png", content.getvalue(), alt, ' class="pixels"')
    picture.save(content, "JPEG", quality=JPEG_QUALITY)
    return _image("image/jpeg", content.getvalue(), alt)


def _image(kind, content, alt, more=""):
    encoded = base64.b64encode(content).decode()
    return f'<img src="data:{kind};base64,{encoded}" alt="{html.escape(alt)}"{more}>'

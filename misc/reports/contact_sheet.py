"""One picture that shows many: degradations at severities, images with captions."""

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

MARGIN = 8
GAP = 2


def crop_square(image, side):
    """Returns the central square of an image, uint8 RGB, resized to `side` pixels."""
    picture = PIL.Image.fromarray(image)
    shorter = min(picture.size)
    left, top = (picture.width - shorter) // 2, (picture.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    resized = picture.resize((side, side), PIL.Image.Resampling.LANCZOS, box=box)
    return np.asarray(resized)


def draw_sheet(rows, tile, columns=3):
    """Draws rows of labelled tiles, in columns of rows.

    Args:
        rows: list of (title, tiles); `tiles` is a list of (label, uint8 RGB image).
        tile: side of a tile in pixels.
        columns: number of columns of rows.

    Returns:
        uint8 RGB image.
    """
    title_font = PIL.ImageFont.load_default(size=max(11, round(tile / 8)))
    label_font = PIL.ImageFont.load_default(size=max(9, round(tile / 10)))
    title_height = round(title_font.size * 1.5)
    columns = max(1, min(columns, len(rows)))
    per_column = -(-len(rows) // columns)
    row_width = max(len(tiles) for _, tiles in rows) * (tile + GAP) - GAP
    row_height = title_height + tile + MARGIN // 2
    size = (
        columns * (row_width + 2 * MARGIN),
        per_column * row_height + 2 * MARGIN,
    )
    sheet = PIL.Image.new("RGB", size, "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for number, (title, tiles) in enumerate(rows):
        left = number // per_column * (row_width + 2 * MARGIN) + MARGIN
        top = number % per_column * row_height + MARGIN
        draw.text((left, top), title, "black", title_font)
        for index, (label, image) in enumerate(tiles):
            place = (left + index * (tile + GAP), top + title_height)
            picture = PIL.Image.fromarray(image)
            if picture.size != (tile, tile):
                picture = picture.resize((tile, tile), PIL.Image.Resampling.BOX)
            sheet.paste(picture, place)
            _draw_label(draw, place, label, label_font)
    return np.asarray(sheet)


def draw_captioned(tiles, tile, columns):
    """Draws tiles from left to right and top to bottom, each with lines of text below it.

    Args:
        tiles: list of (uint8 RGB square image, lines); the first line is set off. Lines that are
            wider than a tile lose their end, those below the first their beginning.
        tile: side of a tile in pixels.
        columns: number of columns.

    Returns:
        uint8 RGB image.
    """
    fonts = [PIL.ImageFont.load_default(size=size) for size in (max(11, tile // 10), 10)]
    heights = [round(1.35 * font.size) for font in fonts]
    lines = max(len(texts) for _, texts in tiles)
    cell = (tile + MARGIN, tile + heights[0] + (lines - 1) * heights[1] + MARGIN)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = PIL.Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for number, (image, texts) in enumerate(tiles):
        left = MARGIN + number % columns * cell[0]
        top = MARGIN + number // columns * cell[1]
        # Small images keep their pixels.
        enlarged = image.shape[0] < tile
        resampling = PIL.Image.Resampling.NEAREST if enlarged else PIL.Image.Resampling.LANCZOS
        sheet.paste(PIL.Image.fromarray(image).resize((tile, tile), resampling), (left, top))
        top += tile + 1
        for line, text in enumerate(texts):
            font, height = fonts[min(line, 1)], heights[min(line, 1)]
            draw.text(
                (left, top), _fitting(text, font, tile, line > 0), "#666" if line else "black", font
            )
            top += height
    return np.asarray(sheet)


def _fitting(text, font, width, keeps_end):
    """Returns as much of a text as a width in pixels holds."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[1:] if keeps_end else text[:-1]
    return f"...{text}" if keeps_end else f"{text}..."


def _draw_label(draw, place, label, font):
    if not label:
        return
    left, top, right, bottom = draw.textbbox((place[0] + 2, place[1] + 1), label, font)
    draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), "black")
    draw.text((place[0] + 2, place[1] + 1), label, "white", font)

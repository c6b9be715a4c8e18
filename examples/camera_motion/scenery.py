"""Painted surfaces for the virtual camera: textures of many kinds, and near layers with holes in them."""

import math

import cv2
import numpy as np

LEAST_CONTRAST = 25  # grey levels, standard deviation; motion over a blank wall cannot be seen


def texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A painted surface (H,W,3) uint8: a gradient, clouds of noise, and up to four kinds of marks."""
    top, bottom, tint = colour(rng), colour(rng), colour(rng) - 128
    slope = np.linspace(0, 1, height)[:, None, None] * rng.uniform(0, 1)
    clouds = (noise(rng, width, height) * log_uniform(rng, 0.1, 1.5))[..., None]
    picture = np.clip(top * (1 - slope) + bottom * slope + clouds * (tint + 60), 0, 255).astype(np.uint8)
    for paint in rng.choice(
        [blobs, boxes, polygons, stripes, text, horizon, room], rng.choice(5, p=[0.08, 0.23, 0.23, 0.23, 0.23])
    ):
        paint(rng, picture)
    middle, spread = picture.mean(), picture.std()
    picture = middle + (picture - middle) * max(1.0, LEAST_CONTRAST / (spread + 1))
    grain = noise(rng, width, height, coarsest=8) * rng.uniform(5, 40)
    return np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)


def colour(rng: np.random.Generator) -> np.ndarray:
    grey = rng.uniform(0, 255)
    return grey + (rng.uniform(0, 255, 3) - grey) * rng.uniform() * rng.uniform()


def noise(rng: np.random.Generator, width: int, height: int, coarsest: int = 128) -> np.ndarray:
    """Smooth noise (H,W) of several octaves, from -1 to 1."""
    total, fall = np.zeros((height, width), np.float32), rng.uniform(0.1, 1.3)
    cell = coarsest
    while cell >= 2:
        coarse = rng.standard_normal((height // cell + 3, width // cell + 3), np.float32)
        size = (coarse.shape[1] * cell, coarse.shape[0] * cell)
        total += cell**fall * cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)[:height, :width]
        cell //= 2
    return total / np.abs(total).max()


def places(rng: np.random.Generator, picture: np.ndarray, count: int) -> np.ndarray:
    height, width = picture.shape[:2]
    return (rng.uniform(0, 1, (count, 2)) * (width, height)).astype(int)


def blobs(rng, picture) -> None:
    largest = log_uniform(rng, 4, 50)
    for centre in places(rng, picture, rng.integers(5, 60)):
        axes = rng.uniform(2, largest + 2, 2).astype(int)
        cv2.ellipse(picture, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, colour(rng), -1, cv2.LINE_AA)


def boxes(rng, picture) -> None:
    """Houses, furniture, and their windows."""
    largest = log_uniform(rng, 10, 120)
    for x, y in places(rng, picture, rng.integers(4, 30)).tolist():
        w, h = rng.uniform(4, largest + 4, 2).astype(int).tolist()
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour(rng), -1 if rng.uniform() < 0.7 else 2)
        if w > 24 and h > 24 and rng.uniform() < 0.4:
            pane, step = colour(rng), int(rng.integers(7, 13))
            for left, top in ((i, j) for i in range(x + 3, x + w - 5, step) for j in range(y + 3, y + h - 5, step)):
                cv2.rectangle(picture, (left, top), (left + step // 2, top + step // 2), pane, -1)


def polygons(rng, picture) -> None:
    for centre in places(rng, picture, rng.integers(3, 20)):
        corners = centre + rng.normal(0, log_uniform(rng, 5, 60), (rng.integers(3, 6), 2))
        cv2.fillPoly(picture, [corners.astype(np.int32)], colour(rng), cv2.LINE_AA)


def stripes(rng, picture) -> None:
    """Stripes, or a chequered floor, over part of the surface."""
    height, width = picture.shape[:2]
    angle, period = rng.uniform(0, np.pi), log_uniform(rng, 6, 40)
    y, x = np.mgrid[:height, :width].astype(np.float32) * (2 * np.pi / period)
    wave = np.sin(x * math.cos(angle) + y * math.sin(angle))
    if rng.uniform() < 0.5:
        wave *= np.sin(x * math.sin(angle) - y * math.cos(angle))
    wave = np.clip(wave * rng.uniform(1, 8), -1, 1) * np.clip(noise(rng, width, height) * 4 + 0.5, 0, 1)
    picture[:] = np.clip(picture + wave[..., None] * (colour(rng) - 128) * 0.7, 0, 255)


def text(rng, picture) -> None:
    for x, y in places(rng, picture, rng.integers(2, 14)).tolist():
        letters = "".join(map(chr, rng.integers(33, 127, rng.integers(2, 12))))
        cv2.putText(picture, letters, (x, y), int(rng.integers(0, 5)), rng.uniform(0.3, 1.5), colour(rng), 1, cv2.LINE_AA)


def horizon(rng, picture) -> None:
    """Ground below, whose rows come closer together towards the sky."""
    height, width = picture.shape[:2]
    line = int(height * rng.uniform(0.3, 0.7))
    rows = (height - line) / (np.arange(line, height) - line + 6.0) * rng.uniform(4, 20)
    ground = noise(rng, width, 256, coarsest=32)[rows.astype(int) % 256]
    picture[line:] = np.clip(colour(rng) + ground[..., None] * rng.uniform(20, 120), 0, 255)


def room(rng, picture) -> None:
    """Walls, ceiling and floor around a far wall."""
    height, width = picture.shape[:2]
    near = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    far = near * rng.uniform(0.3, 0.6) + rng.uniform(0.2, 0.4, 2) * (width, height)
    for i in range(4):
        corners = np.array([near[i], near[i - 3], far[i - 3], far[i]])
        cv2.fillPoly(picture, [corners.astype(np.int32)], colour(rng), cv2.LINE_AA)


def cut_out(surface: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A surface as (H,W,4) uint8 where `mask` is, and nothing elsewhere; colours are multiplied by alpha."""
    mask = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)[..., None]
    return np.concatenate([surface * mask, 255 * mask], 2).round().astype(np.uint8)


def foreground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A near layer with holes: leaves, poles, a hedge, or a window frame."""
    shape, x, y = rng.integers(4), np.arange(width), np.arange(height)[:, None]
    rough = noise(rng, width, height)
    if shape == 0:
        mask = rough > np.quantile(rough, rng.uniform(0.65, 0.95))
    elif shape == 1:
        mask = np.abs((x + 20 * rough) % rng.integers(60, 200) - 30) < rng.integers(3, 14)
    elif shape == 2:
        mask = y + rough * rng.uniform(0, 60) > height * rng.uniform(0.55, 0.75)
    else:
        mask = np.maximum(np.abs(x / width - 0.5), np.abs(y / height - 0.5)) > rng.uniform(0.2, 0.4)
    return cut_out(texture(rng, width, height), mask)


def log_uniform(rng: np.random.Generator, low: float, high: float, size: tuple[int, ...] | None = None) -> np.ndarray | float:
    return np.exp(rng.uniform(math.log(low), math.log(high), size))

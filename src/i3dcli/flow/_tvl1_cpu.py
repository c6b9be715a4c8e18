"""The loops of TV-L1 optical flow, compiled by numba; `tvl1` explains the algorithm.

Every quantity of a pyramid level is a flat float32 array whose rows have the same length, `stride`: the width, at least
one column of padding, and rounding up to whole vectors. The padding makes neighbours plain offsets (+1, +stride), so that
stencils are loops without border cases, which LLVM turns into vector code. Indices are unsigned (`np.uintp`) because
numba lets a signed index count from the end, and that test alone stops vectorisation.

All is in one module because numba keeps compiled code until the file of its function changes, whatever else is inlined.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"
# (numba infers the types of its kernels, and neither it nor llvmlite declares its own)

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..defaults import TVL1
from ..errors import I3DError
from ..stopping import StopFlag
from ..text import shown

try:
    from numba import config, njit, types
    from numba.extending import intrinsic
except ValueError as error:  # which it says of NUMBA_NUM_THREADS=0, but not of what that is
    given = ", ".join(shown(f"{name}={value}") for name, value in os.environ.items() if name.startswith("NUMBA_"))
    raise I3DError(f"cannot compile TV-L1: {shown(given)}: numba says: {error} Take these out of the environment") from error
if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise I3DError("cannot compile TV-L1: NUMBA_DISABLE_JIT is set: without compiling, a frame takes hours; unset it")

Plane = NDArray[np.float32]

LANES = 16  # float32 in the widest vector, 64 bytes
STRIP = 32  # rows between primal and dual step: few calls, and the rows are still in the L2 cache
MARGIN = 5  # texels around a texture; sampling clamps to 3 pixels outside the image, where all its taps are zero
CUBIC = np.float32(-0.75)  # slope of the bicubic kernel; OpenCV's INTER_CUBIC
TINY = np.float32(np.finfo(np.float32).eps)  # |grad I1|^2 too small to divide by; moves u by less than 2e-5 pixels all the same

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
_1, _2, _3, _4 = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)

# The iterations forgive a rounding error and cannot make NaN: p stays in the unit disc, u moves by bounded steps.
FAST = frozenset({"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"})
# The residual they start from keeps OpenCV's order of operations: its error is divided by what may be a weak gradient.
# Besides, tests stay true for NaN, so that no sample is taken outside the texture.
EXACT: frozenset[str] = frozenset()


class Level(NamedTuple):
    """What the iterations of a pyramid level work on, each a flat array of height + 1 rows of `stride`."""

    u1: Plane  # the flow: x
    u2: Plane  # the flow: y; row `height` and column `width` repeat the last
    p11: Plane  # the dual variable of u1: x; all p start with a row of zeros and their padding is zero
    p12: Plane
    p21: Plane
    p22: Plane
    ix: Plane  # gradient of the warped I1
    iy: Plane
    rho: Plane  # the part of the residual that does not depend on u
    step: Plane  # tau / theta in the image; 0 in the padding, which keeps p zero there


class Grid(NamedTuple):
    """Size of a pyramid level; `stride` counts the padding."""

    height: int
    width: int
    stride: int


def _kernel(*, fastmath: frozenset[str] = FAST) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile on first use, once per machine, and run without the interpreter lock."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # Inlined, as otherwise the process that compiles calls other copies of the inner kernels than those that load
        # its code from the cache, and copies may round differently.
        options: dict[str, Any] = {"nogil": True, "forceinline": True, "fastmath": set(fastmath), "error_model": "numpy"}
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package nor the user's cache folder can be written
            return njit(**options)(function)

    return decorate


@contextlib.contextmanager
def kernels_loaded() -> Iterator[None]:
    """Raise I3DError in the block for files of compiled code that are cut off, as a full disk or a power cut leaves them."""
    try:
        yield
    except (EOFError, pickle.UnpicklingError) as error:
        folder = shown(str(_solve.stats.cache_path))  # type: ignore[attr-defined]
        raise I3DError(f"cannot load compiled code: {folder}: got files of numba that are cut off; remove them") from error


def solve(previous: Plane, following: Plane, flow: Plane, params: TVL1, *, stop: StopFlag) -> None:
    """Improve `flow` (2,H,W) in place, at one level of the pyramid; less so where it is told to stop."""
    height, width = previous.shape
    grid = Grid(height, width, (width // LANES + 1) * LANES)
    level = _level(grid)
    for plane, values in ((level.u1, flow[0]), (level.u2, flow[1]), (level.step, params.tau / params.theta)):
        interior(plane, grid)[:] = values
    _solve(
        previous,
        texture(following),
        level,
        grid,
        np.float32(params.lambda_ * params.theta),
        np.float32(params.theta),
        params.epsilon * params.epsilon * height * width,
        params.warps,
        params.inner_iterations,
        params.outer_iterations,
        params.median,
        np.frombuffer(stop.flag, np.uint8),
    )
    flow[0] = interior(level.u1, grid)
    flow[1] = interior(level.u2, grid)


def interior(plane: Plane, grid: Grid) -> Plane:
    """A padded plane without its padding, (H,W)."""
    return plane[: grid.height * grid.stride].reshape(grid.height, grid.stride)[:, : grid.width]


def _level(grid: Grid) -> Level:
    """Planes of zeros, aligned so that no vector straddles two cache lines."""
    count, size = len(Level._fields), (grid.height + 1) * grid.stride + LANES
    memory = np.zeros(count * size + LANES, np.float32)
    first = -(memory.ctypes.data // memory.itemsize) % LANES
    return Level(*memory[first : first + count * size].reshape(count, size))


@_kernel()
def _solve(previous, texels, level, grid, limit, theta, threshold, warps, inner_iterations, outer_iterations, median, stop):
    padded = np.zeros((grid.height + 4) * (grid.stride + LANES), np.float32)
    for _ in range(warps):
        _warp(previous, texels, level, grid)
        error = np.inf
        for _ in range(outer_iterations):
            if error <= threshold:
                break
            _median(level.u1, grid, padded, median)
            _median(level.u2, grid, padded, median)
            for _ in range(inner_iterations):
                if stop[0]:
                    return
                if error <= threshold:
                    break
                error = _iterate(level, grid, limit, theta)


@_kernel()
def _iterate(level, grid, limit, theta):
    """One iteration; returns the sum of squared changes of u. The dual step trails by a row: it reads the row below."""
    height, _, stride = grid
    error = 0.0
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        error += _primal(level, np.uintp(top * stride), np.uintp(bottom * stride), np.uintp(stride), limit, theta)
        _repeat_border(level, grid, top, bottom)
        first = max(top - 1, 0)
        last = bottom if bottom == height else bottom - 1
        _dual(level, np.uintp(first * stride), np.uintp(last * stride), np.uintp(stride))
    return error


@_kernel()
def _primal(level, start, stop, stride, limit, theta):
    """v = TH(u), the thresholding step, then u = v + theta div p; `limit` is lambda theta."""
    u1, u2, p11, p12, p21, p22, ix, iy, rho, _ = level
    error = ZERO
    for i in range(start, stop):
        j = i + stride  # p has a row of zeros on top, hence [j] is here, [i] is above
        gx, gy = ix[i], iy[i]
        slope = -(rho[i] + gx * u1[i] + gy * u2[i]) / max(gx * gx + gy * gy, TINY)
        slope = min(max(slope, -limit), limit)  # the three cases of TH at once
        d1 = slope * gx + theta * ((p11[j] - p11[j - _1]) + (p12[j] - p12[i]))
        d2 = slope * gy + theta * ((p21[j] - p21[j - _1]) + (p22[j] - p22[i]))
        u1[i] += d1
        u2[i] += d2
        error += d1 * d1 + d2 * d2
    return error


@_kernel()
def _dual(level, start, stop, stride):
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|), for both channels."""
    u1, u2, p11, p12, p21, p22, _, _, _, step = level
    for i in range(start, stop):
        j = i + stride
        a, b = step[i] * (u1[i + _1] - u1[i]), step[i] * (u1[j] - u1[i])
        c, d = step[i] * (u2[i + _1] - u2[i]), step[i] * (u2[j] - u2[i])
        m, n = ONE + np.sqrt(a * a + b * b), ONE + np.sqrt(c * c + d * d)
        inverse = ONE / (m * n)  # one division for two
        m, n = n * inverse, m * inverse
        p11[j] = (p11[j] + a) * m
        p12[j] = (p12[j] + b) * m
        p21[j] = (p21[j] + c) * n
        p22[j] = (p22[j] + d) * n


@_kernel()
def _repeat_border(level, grid, top, bottom):
    """Repeat the last column, and the last row once it is done: the forward gradient of u is zero across the border."""
    height, width, stride = grid
    for u in (level.u1, level.u2):
        for y in range(top, bottom):
            u[y * stride + width] = u[y * stride + width - 1]
        if bottom == height:
            u[height * stride : (height + 1) * stride] = u[(height - 1) * stride : height * stride]


@_kernel()
def _warp(previous, texels, level, grid):
    """Linearise I1 around u: its gradient at x + u, and rho's constant part I1(x + u) - <grad I1(x + u), u> - I0."""
    height, width, stride = grid
    offset = np.empty(width, np.int32)
    wx, wy = np.empty(4 * width, np.float32), np.empty(4 * width, np.float32)
    for y in range(height):
        start = np.uintp(y * stride)
        _positions(level.u1, level.u2, start, y, height, width, np.int32(texels.shape[1]), offset, wx, wy)
        _sample(texels.reshape(texels.size), np.uintp(4 * texels.shape[1]), offset, wx, wy, previous[y], start, level)


@_kernel(fastmath=EXACT)
def _positions(u1, u2, start, y, height, width, columns, offset, wx, wy):
    """Where each pixel of row y samples the texture: index of the first texel, weights of four columns and four rows.

    At the exact position, as OpenCV 5 does; OpenCV 4 rounds it to 1/32 pixel.
    """
    low, right, bottom = np.float32(-3), np.float32(width + 2), np.float32(height + 2)
    for x in range(np.uintp(width)):
        px, py = np.float32(x) + u1[start + x], np.float32(y) + u2[start + x]
        px, py = min(right, max(low, px)), min(bottom, max(low, py))
        cx, cy = np.floor(px), np.floor(py)
        margin = np.int32(MARGIN - 1)
        offset[x] = ((np.int32(cy) + margin) * columns + np.int32(cx) + margin) * np.int32(4)
        first = _4 * x
        wx[first], wx[first + _1], wx[first + _2], wx[first + _3] = _cubic(px - cx)
        wy[first], wy[first + _1], wy[first + _2], wy[first + _3] = _cubic(py - cy)


@njit(inline="always")
def _cubic(t):
    """Weights of the samples at -1, 0, 1, 2 for a point at t in [0,1)."""
    s = ONE - t
    a2, a3 = CUBIC + np.float32(2), CUBIC + np.float32(3)
    return CUBIC * t * s * s, (a2 * t - a3) * t * t + ONE, (a2 * s - a3) * s * s + ONE, CUBIC * s * t * t


@_kernel(fastmath=EXACT)
def _sample(texels, step, offset, wx, wy, previous, start, level):
    u1, u2, _, _, _, _, ix, iy, rho, _ = level
    for x in range(np.uintp(len(offset))):
        i = start + x
        value, gx, gy = _bicubic(texels, np.uintp(offset[x]), step, wx, wy, x)  # type: ignore[call-arg, var-annotated]
        ix[i], iy[i] = gx, gy
        rho[i] = value - gx * u1[i] - gy * u2[i] - previous[x]


@intrinsic
def _bicubic(typing_context, texels, offset, step, wx, wy, x):
    """The sum of 4 x 4 weighted texels: the first three of four channels.

    In LLVM's own terms, for want of a loop to vectorise: a row of four texels is one vector of sixteen numbers.
    """

    def codegen(context, builder, signature, values):
        def pointer(array, index, lanes):
            data = context.make_array(signature.args[array])(context, builder, values[array]).data
            return builder.bitcast(builder.gep(data, [index]), ir.VectorType(ir.FloatType(), lanes).as_pointer())

        def pick(vector, lanes):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
            return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

        _, offset, step, _, _, x = values
        first = builder.shl(x, ir.Constant(x.type, 2))
        rows = builder.load(pointer(4, first, 4), align=4)
        columns = builder.load(pointer(3, first, 4), align=4)
        total = ir.Constant(ir.VectorType(ir.FloatType(), 16), [0.0] * 16)
        for row in range(4):
            term = builder.fmul(builder.load(pointer(0, offset, 16), align=4), pick(rows, [row] * 16), flags=("contract",))
            total = builder.fadd(total, term, flags=("contract", "nsz"))
            offset = builder.add(offset, step)
        total = builder.fmul(total, pick(columns, [lane // 4 for lane in range(16)]))
        for half in (8, 4):
            total = builder.fadd(pick(total, range(half)), pick(total, range(half, 2 * half)))
        channels = [builder.extract_element(total, ir.Constant(ir.IntType(32), k)) for k in range(3)]
        return context.make_tuple(builder, signature.return_type, channels)

    return types.UniTuple(types.float32, 3)(texels, offset, step, wx, wy, x), codegen


@_kernel(fastmath=EXACT)
def texture(image):
    """(H + margins, W + margins, 4): the image, its centred differences in x and y, and one number of padding; zero outside."""
    height, width = image.shape
    out = np.zeros((height + 2 * MARGIN, width + 2 * MARGIN, 4), np.float32)
    for y in range(height):
        above, here, below = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)]
        row = out[y + MARGIN]
        for x in range(width):
            row[x + MARGIN, 0] = here[x]
            row[x + MARGIN, 1] = HALF * (here[min(x + 1, width - 1)] - here[max(x - 1, 0)])
            row[x + MARGIN, 2] = HALF * (below[x] - above[x])
    return out


@_kernel(fastmath=EXACT)
def resize(image, height, width, scale_y, scale_x):
    """Bilinear, pixel centres aligned as in `cv2.resize`; `scale` is the old size over the new."""
    out = np.empty((height, width), np.float32)
    top, bottom, wy = _between(height, scale_y, image.shape[0])
    left, right, wx = _between(width, scale_x, image.shape[1])
    for y in range(height):
        above, below = image[top[y]], image[bottom[y]]
        for x in range(width):
            a = above[left[x]] + wx[x] * (above[right[x]] - above[left[x]])
            b = below[left[x]] + wx[x] * (below[right[x]] - below[left[x]])
            out[y, x] = a + wy[y] * (b - a)
    return out


@_kernel(fastmath=EXACT)
def _between(count, scale, size):
    """The old pixels on either side of each new one's centre, and the weight of the second."""
    position = np.minimum(np.maximum((np.arange(count) + 0.5) * scale - 0.5, 0.0), size - 1.0)
    first = position.astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (position - first).astype(np.float32)


@_kernel()
def _median(plane, grid, padded, size):
    """Median of size x size, in place, border repeated. The columns are sorted once and serve all windows they are in."""
    height, _, stride = grid
    if size < 3:
        return
    row = np.uintp(stride + LANES)
    _repeat_around(plane, grid, padded, stride + LANES)
    columns = np.empty((5, stride + LANES), np.float32)
    for y in range(height):
        first, out = np.uintp(y) * row, np.uintp(y * stride)
        if size == 3:
            _sort_columns3(padded, first + row + _1, row, columns)
            _median_of_columns3(columns, plane, out, np.uintp(stride))
        else:
            _sort_columns5(padded, first, row, columns)
            _median_of_columns5(columns, plane, out, np.uintp(stride))


@_kernel()
def _repeat_around(plane, grid, padded, row):
    """Copy the image to `padded`, two pixels in, and repeat its border outwards twice."""
    height, width, stride = grid
    for y in range(-2, height + 2):
        start = min(max(y, 0), height - 1) * stride
        out = padded[(y + 2) * row : (y + 3) * row]
        out[2 : width + 2] = plane[start : start + width]
        out[:2] = plane[start]
        out[width + 2 : width + 4] = plane[start + width - 1]


@_kernel()
def _sort_columns3(padded, start, row, columns):
    for x in range(row):
        i = start + x
        columns[0, x], columns[1, x], columns[2, x] = _sort3(padded[i], padded[i + row], padded[i + _2 * row])


@_kernel()
def _sort_columns5(padded, start, row, columns):
    for x in range(row):
        i = start + x
        a, b, c, d, e = padded[i], padded[i + row], padded[i + _2 * row], padded[i + _3 * row], padded[i + _4 * row]
        columns[0, x], columns[1, x], columns[2, x], columns[3, x], columns[4, x] = _sort5(a, b, c, d, e)


@_kernel()
def _median_of_columns3(columns, out, start, count):
    """The median of nine is that of: the greatest minimum, the middle median and the least maximum of the columns."""
    for x in range(count):
        _, _, low = _row3(columns[0], x)
        _, middle, _ = _row3(columns[1], x)
        high, _, _ = _row3(columns[2], x)
        _, out[start + x], _ = _sort3(low, middle, high)


@_kernel()
def _median_of_columns5(columns, out, start, count):
    """Sort the rows too, and 12 of the 25 numbers are out: six too small, six too great.

    Of those left, let a be the five on the rising diagonal, b the four before it and c the four after it. Sorted columns
    and rows leave only these ways for seven of the thirteen to reach a value: two b; or a b with (two a and four c) or
    (three a and three c); or three a and four c; or four a and three c.
    """
    for x in range(count):
        _, _, _, b1, a1 = _row5(columns[0], x)
        _, _, b2, a2, c1 = _row5(columns[1], x)
        _, b3, a3, c2, _ = _row5(columns[2], x)
        b4, a4, c3, _, _ = _row5(columns[3], x)
        a5, c4, _, _, _ = _row5(columns[4], x)
        b_second, b_greatest = _top2(b1, b2, b3, b4)
        c_second, c_least = _top2(-c1, -c2, -c3, -c4)
        c_second, c_least = -c_second, -c_least
        _, low, middle, high, _ = _sort5(a1, a2, a3, a4, a5)
        with_b = min(b_greatest, max(min(high, c_least), min(middle, c_second)))
        without = max(min(middle, c_least), min(low, c_second))
        out[start + x] = max(b_second, with_b, without)


@njit(inline="always")
def _row3(row, x):
    return _sort3(row[x], row[x + _1], row[x + _2])


@njit(inline="always")
def _row5(row, x):
    return _sort5(row[x], row[x + _1], row[x + _2], row[x + _3], row[x + _4])


@njit(inline="always")
def _top2(a, b, c, d):
    """The second greatest and the greatest."""
    a, b = _sort2(a, b)
    c, d = _sort2(c, d)
    return max(min(b, d), max(a, c)), max(b, d)


@njit(inline="always")
def _sort2(a, b):
    return min(a, b), max(a, b)


@njit(inline="always")
def _sort3(a, b, c):
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    return a, b, c


@njit(inline="always")
def _sort5(a, b, c, d, e):
    """Nine comparisons; those whose result nobody uses vanish in compilation."""
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    b, e = _sort2(b, e)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e

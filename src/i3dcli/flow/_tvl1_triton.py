"""The kernels of TV-L1 optical flow, written in Triton; `tvl1_cuda` launches them, `tvl1` explains the algorithm.

Planes of a pyramid level have rows of `stride` floats: the width, rounded up so that every row starts a cache line and
whole tiles load as vectors. The padding is zero in every plane, and stays zero: no gradient and no residual is there.

Each kernel works on tiles of ROWS x COLUMNS pixels of one pair. What runs depends on `errors`, one row for each iteration
of a warp: the squared change of u summed over each pair. The iteration that reads rows n and n+1 writes row n+2, and

    both > threshold          the pair goes on;
    row n > threshold only    it stopped just now: copy its result, so that both buffers hold it;
    row n <= threshold        it stopped before: nothing to do, and its row n+2 stays zero.

So each iteration knows from device memory alone which pairs are left, and the host never waits.
"""

import triton
import triton.language as tl

SIZES = ("height", "width")  # one compilation for all; a size of 1 would become a constant, which has no type

ROWS = tl.constexpr(16)
COLUMNS = tl.constexpr(64)
CUBIC = tl.constexpr(-0.75)  # slope of the bicubic kernel; OpenCV's INTER_CUBIC
TINY = tl.constexpr(2.0**-23)  # |grad I1|^2 too small to divide by
ERROR_SCALE = tl.constexpr(2.0**28)  # errors are summed as integers, whose sum does not depend on the order
ERROR_LIMIT = tl.constexpr(2.0**22)  # per tile, a mean change of 45 pixels; keeps the sum of 8192 tiles in 63 bits


@triton.jit(do_not_specialize=SIZES)
def warp(u, previous, texture, linear, height, width, stride):
    """Linearise I1 around u: its gradient at x + u, and rho's constant part I1(x + u) - <grad I1(x + u), u> - I0.

    `previous` is I0 (N,H,W), `texture` is I1 and its gradient (N,3,H,W), `linear` becomes gradient and rho (N,3,H,stride).
    """
    pair = tl.program_id(1).to(tl.int64)
    y, x = _pixels(tl.program_id(0), stride)
    stored, inside = (y < height) & (x < stride), (y < height) & (x < width)
    plane, pixel = height.to(tl.int64) * stride, y * stride + x
    u += pair * 2 * plane + pixel
    u1, u2 = tl.load(u, inside, 0.0), tl.load(u + plane, inside, 0.0)

    # three pixels outside, all taps are zero; clamped before the conversion, whose result for 1e10 is undefined
    px = tl.minimum(tl.maximum(x + u1, -3.0), width + 2.0)
    py = tl.minimum(tl.maximum(y + u2, -3.0), height + 2.0)
    left, top = tl.floor(px), tl.floor(py)
    tx, ty = px - left, py - top
    left, top = left.to(tl.int32) - 1, top.to(tl.int32) - 1

    area = height.to(tl.int64) * width
    texture += pair * 3 * area
    value = _bicubic(texture, left, top, tx, ty, inside, height, width)
    gx = _bicubic(texture + area, left, top, tx, ty, inside, height, width)
    gy = _bicubic(texture + 2 * area, left, top, tx, ty, inside, height, width)
    rho = value - gx * u1 - gy * u2 - tl.load(previous + pair * area + y * width + x, inside, 0.0)

    linear += pair * 3 * plane + pixel
    tl.store(linear, gx, stored)  # masked lanes sampled zeros: the padding is zero
    tl.store(linear + plane, gy, stored)
    tl.store(linear + 2 * plane, rho, stored)


@triton.jit(do_not_specialize=(*SIZES, "threshold"))
def iterate(u, p, u_next, p_next, linear, errors, height, width, stride, threshold, theta, limit, step, PAIRS: tl.constexpr):
    """One iteration of every pair that goes on; `limit` is lambda theta, `step` tau / theta.

    A tile recomputes the new u of the pixels to its right and below, which its dual step needs, instead of waiting for
    another tile; that is why it reads one pair of buffers and writes another.
    """
    area, tiles = height.to(tl.int64) * stride, _tiles(height, stride)
    running = (tl.load(errors + tl.arange(0, PAIRS)) > threshold).to(tl.int32)
    order = tl.cumsum(running) * running  # numbers the pairs that run from 1
    for item in range(tl.program_id(0), tl.sum(running) * tiles, tl.num_programs(0)):
        # programs share the tiles of the pairs left, however many have stopped
        pair = tl.sum(tl.where(order == item // tiles + 1, tl.arange(0, PAIRS), 0)).to(tl.int64)
        y, x = _pixels(item % tiles, stride)
        stored = (y < height) & (x < stride)
        pixel = y * stride + x
        old_u, old_p = u + pair * 2 * area, p + pair * 4 * area
        new_u, new_p = u_next + pair * 2 * area + pixel, p_next + pair * 4 * area + pixel
        if tl.load(errors + PAIRS + pair) > threshold:
            data = linear + pair * 3 * area
            u1, u2, d1, d2 = _primal(old_u, old_p, data, y, x, stored, area, stride, theta, limit)
            tl.store(new_u, u1, stored)
            tl.store(new_u + area, u2, stored)
            error = tl.minimum(tl.sum(d1 * d1 + d2 * d2), ERROR_LIMIT)
            # rounded up: a change, however small, is not zero
            tl.atomic_add(errors + 2 * PAIRS + pair, tl.ceil(error * ERROR_SCALE).to(tl.int64), sem="relaxed")

            # below, all of a row is loaded, as what whole vectors hold; the padding there is zero too
            has_right, has_below = (y < height) & (x + 1 < width), (y + 1 < height) & (x < stride)
            right1, right2, _, _ = _primal(old_u, old_p, data, y, x + 1, has_right, area, stride, theta, limit)
            below1, below2, _, _ = _primal(old_u, old_p, data, y + 1, x, has_below, area, stride, theta, limit)
            _dual(old_p + pixel, new_p, u1, right1, below1, has_right, has_below, stored, area, step)
            _dual(old_p + 2 * area + pixel, new_p + 2 * area, u2, right2, below2, has_right, has_below, stored, area, step)
        else:
            _copy(old_u + pixel, new_u, stored, area, 2)
            _copy(old_p + pixel, new_p, stored, area, 4)


@triton.jit(do_not_specialize=(*SIZES, "threshold"))
def median(u, u_next, errors, height, width, stride, threshold, SIZE: tl.constexpr, PAIRS: tl.constexpr):
    """Median of SIZE x SIZE of the flow of every pair that goes on, border repeated."""
    area, tiles = height.to(tl.int64) * stride, _tiles(height, stride)
    running = (tl.load(errors + tl.arange(0, PAIRS)) > threshold).to(tl.int32)
    order = tl.cumsum(running) * running  # numbers the pairs that run from 1
    for item in range(tl.program_id(0), tl.sum(running) * tiles, tl.num_programs(0)):
        # programs share the tiles of the pairs left, however many have stopped
        pair = tl.sum(tl.where(order == item // tiles + 1, tl.arange(0, PAIRS), 0)).to(tl.int64)
        y, x = _pixels(item % tiles, stride)
        stored, inside = (y < height) & (x < stride), (y < height) & (x < width)
        old, new = u + pair * 2 * area, u_next + pair * 2 * area + y * stride + x
        if tl.load(errors + PAIRS + pair) > threshold:
            for channel in tl.static_range(2):
                if SIZE == 3:
                    value = _median3(old + channel * area, y, x, height, width, stride)
                else:
                    value = _median5(old + channel * area, y, x, height, width, stride)
                tl.store(new + channel * area, tl.where(inside, value, 0.0), stored)
        else:
            _copy(old + y * stride + x, new, stored, area, 2)


@triton.jit
def _tiles(height, stride):
    return tl.cdiv(height, ROWS) * tl.cdiv(stride, COLUMNS)


@triton.jit
def _pixels(tile, stride):
    """Row and column of each pixel of a tile."""
    across = tl.cdiv(stride, COLUMNS)
    y = (tile // across) * ROWS + tl.arange(0, ROWS)
    x = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    return y[:, None], x[None, :]


@triton.jit
def _primal(u, p, linear, y, x, mask, area, stride, theta, limit):
    """v = TH(u), the thresholding step, then u = v + theta div p; returns u and its change."""
    pixel = y * stride + x
    u1, u2 = tl.load(u + pixel, mask, 0.0), tl.load(u + area + pixel, mask, 0.0)
    gx, gy = tl.load(linear + pixel, mask, 0.0), tl.load(linear + area + pixel, mask, 0.0)
    rho = tl.load(linear + 2 * area + pixel, mask, 0.0) + gx * u1 + gy * u2
    slope = -rho / tl.maximum(gx * gx + gy * gy, TINY)
    slope = tl.minimum(tl.maximum(slope, -limit), limit)  # the three cases of TH at once
    d1 = slope * gx + theta * _divergence(p + pixel, y, x, mask, area, stride)
    d2 = slope * gy + theta * _divergence(p + 2 * area + pixel, y, x, mask, area, stride)
    return u1 + d1, u2 + d2, d1, d2


@triton.jit
def _divergence(p, y, x, mask, area, stride):
    """Backward differences, p being zero before the first column and the first row."""
    px = tl.load(p, mask, 0.0) - tl.load(p - 1, mask & (x > 0), 0.0)
    py = tl.load(p + area, mask, 0.0) - tl.load(p + area - stride, mask & (y > 0), 0.0)
    return px + py


@triton.jit
def _dual(p, p_next, u, right, below, has_right, has_below, stored, area, step):
    """p = (p + tau/theta grad u) / (1 + tau/theta |grad u|); forward differences, zero across the border."""
    a = step * tl.where(has_right, right - u, 0.0)
    b = step * tl.where(has_below, below - u, 0.0)
    scale = 1.0 / (1.0 + tl.sqrt(a * a + b * b))
    tl.store(p_next, (tl.load(p, stored, 0.0) + a) * scale, stored)
    tl.store(p_next + area, (tl.load(p + area, stored, 0.0) + b) * scale, stored)


@triton.jit
def _copy(old, new, mask, area, PLANES: tl.constexpr):
    for plane in tl.static_range(PLANES):
        tl.store(new + plane * area, tl.load(old + plane * area, mask, 0.0), mask)


@triton.jit
def _bicubic(image, left, top, tx, ty, inside, height, width):
    """The sum of 4 x 4 weighted pixels, those outside the image being zero."""
    wx0, wx1, wx2, wx3 = _cubic(tx)
    wy0, wy1, wy2, wy3 = _cubic(ty)
    c0 = _taps(image, left, top, wy0, wy1, wy2, wy3, inside, height, width)
    c1 = _taps(image, left + 1, top, wy0, wy1, wy2, wy3, inside, height, width)
    c2 = _taps(image, left + 2, top, wy0, wy1, wy2, wy3, inside, height, width)
    c3 = _taps(image, left + 3, top, wy0, wy1, wy2, wy3, inside, height, width)
    return (wx0 * c0 + wx2 * c2) + (wx1 * c1 + wx3 * c3)


@triton.jit
def _cubic(t):
    """Weights of the samples at -1, 0, 1, 2 for a point at t in [0,1)."""
    s = 1.0 - t
    near = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1.0
    far = ((CUBIC + 2) * s - (CUBIC + 3)) * s * s + 1.0
    return CUBIC * t * s * s, near, far, CUBIC * s * t * t


@triton.jit
def _taps(image, x, top, wy0, wy1, wy2, wy3, inside, height, width):
    """A column of four weighted pixels."""
    total = wy0 * _tap(image, x, top, inside, height, width)
    total += wy1 * _tap(image, x, top + 1, inside, height, width)
    total += wy2 * _tap(image, x, top + 2, inside, height, width)
    return total + wy3 * _tap(image, x, top + 3, inside, height, width)


@triton.jit
def _tap(image, x, y, inside, height, width):
    return tl.load(image + y * width + x, inside & (x >= 0) & (x < width) & (y >= 0) & (y < height), 0.0)


@triton.jit
def _median3(plane, y, x, height, width, stride):
    """The median of nine is that of: the greatest minimum, the middle median and the least maximum of the columns."""
    a0, a1, a2 = _column3(plane, y, x - 1, height, width, stride)
    b0, b1, b2 = _column3(plane, y, x, height, width, stride)
    c0, c1, c2 = _column3(plane, y, x + 1, height, width, stride)
    _, _, low = _sort3(a0, b0, c0)
    _, middle, _ = _sort3(a1, b1, c1)
    high, _, _ = _sort3(a2, b2, c2)
    _, result, _ = _sort3(low, middle, high)
    return result


@triton.jit
def _median5(plane, y, x, height, width, stride):
    """Sorted columns, then sorted rows, leave 13 candidates of 25; `_tvl1_cpu._median_of_columns5` says how they combine."""
    k0, k1, k2, k3, k4 = _column5(plane, y, x - 2, height, width, stride)
    l0, l1, l2, l3, l4 = _column5(plane, y, x - 1, height, width, stride)
    m0, m1, m2, m3, m4 = _column5(plane, y, x, height, width, stride)
    n0, n1, n2, n3, n4 = _column5(plane, y, x + 1, height, width, stride)
    o0, o1, o2, o3, o4 = _column5(plane, y, x + 2, height, width, stride)
    _, _, _, b1, a1 = _sort5(k0, l0, m0, n0, o0)
    _, _, b2, a2, c1 = _sort5(k1, l1, m1, n1, o1)
    _, b3, a3, c2, _ = _sort5(k2, l2, m2, n2, o2)
    b4, a4, c3, _, _ = _sort5(k3, l3, m3, n3, o3)
    a5, c4, _, _, _ = _sort5(k4, l4, m4, n4, o4)
    b_second, b_greatest = _top2(b1, b2, b3, b4)
    c_second, c_least = _top2(-c1, -c2, -c3, -c4)
    c_second, c_least = -c_second, -c_least
    _, low, middle, high, _ = _sort5(a1, a2, a3, a4, a5)
    with_b = tl.minimum(b_greatest, tl.maximum(tl.minimum(high, c_least), tl.minimum(middle, c_second)))
    without = tl.maximum(tl.minimum(middle, c_least), tl.minimum(low, c_second))
    return tl.maximum(b_second, tl.maximum(with_b, without))


@triton.jit
def _column3(plane, y, x, height, width, stride):
    a = _repeated(plane, y - 1, x, height, width, stride)
    b = _repeated(plane, y, x, height, width, stride)
    return _sort3(a, b, _repeated(plane, y + 1, x, height, width, stride))


@triton.jit
def _column5(plane, y, x, height, width, stride):
    a = _repeated(plane, y - 2, x, height, width, stride)
    b = _repeated(plane, y - 1, x, height, width, stride)
    c = _repeated(plane, y, x, height, width, stride)
    d = _repeated(plane, y + 1, x, height, width, stride)
    return _sort5(a, b, c, d, _repeated(plane, y + 2, x, height, width, stride))


@triton.jit
def _repeated(plane, y, x, height, width, stride):
    """The nearest pixel of the image."""
    y, x = tl.minimum(tl.maximum(y, 0), height - 1), tl.minimum(tl.maximum(x, 0), width - 1)
    return tl.load(plane + y * stride + x)


@triton.jit
def _top2(a, b, c, d):
    """The second greatest and the greatest."""
    a, b = _sort2(a, b)
    c, d = _sort2(c, d)
    return tl.maximum(tl.minimum(b, d), tl.maximum(a, c)), tl.maximum(b, d)


@triton.jit
def _sort2(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    return a, b, c


@triton.jit
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

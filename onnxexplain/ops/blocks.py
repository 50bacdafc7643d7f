"""Blocks of positions as channels, and channels as blocks of positions."""

from onnxexplain.ops._operator import operator

# ----- A block of each channel -----

_PLACED = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}
"""Where [N, (channel, block row, block column), H, W] go; DCR has the channel behind the block."""


def _to_space(xp, x, side, mode):
    n, channels, high, wide = x.shape
    deep = channels // side**2
    split = (side, side, deep) if mode == "DCR" else (deep, side, side)
    apart = xp.permute_dims(xp.reshape(x, (n, *split, high, wide)), _PLACED[mode])
    return xp.reshape(apart, (n, deep, high * side, wide * side))


def _to_depth(xp, x, side, mode):
    n, channels, high, wide = x.shape
    high, wide = high // side, wide // side
    apart = xp.reshape(x, (n, channels, high, side, wide, side))
    back = [_PLACED[mode].index(axis) for axis in range(6)]
    return xp.reshape(xp.permute_dims(apart, back), (n, channels * side**2, high, wide))


@operator("DepthToSpace", role="routing")
def depth_to_space(xp, g, y, x, *, blocksize, mode="DCR"):
    return (_to_depth(xp, g, blocksize, mode),)


@operator("SpaceToDepth", role="routing")
def space_to_depth(xp, g, y, x, *, blocksize, mode="DCR"):
    return (_to_space(xp, g, blocksize, mode),)


# ----- Overlapping blocks, added up -----


@operator("Col2Im", role="routing", fixed=(1, 2))
def col2im(xp, g, y, x, image_shape, block_shape, *, dilations=None, pads=None, strides=None):
    block = xp.integers(block_shape)
    rank = len(block)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    seen = xp.pad(g, list(pads or [0] * (2 * rank)), range(2, 2 + rank))
    for i in range(rank):
        axis = 2 + 2 * i
        many = (seen.shape[axis] - (block[i] - 1) * dilations[i] - 1) // strides[i] + 1
        places = [[t * dilations[i] + p * strides[i] for p in range(many)] for t in range(block[i])]
        seen = xp.take(seen, xp.indices(places, g), axis=axis)
    # [N, C, taps, places, taps, places, ...], the taps of a block brought together
    order = (0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    return (xp.reshape_like(xp.permute_dims(seen, order), x), None, None)

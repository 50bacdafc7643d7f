"""Small networks that move between positions: enlarged, padded, sampled, pooled over regions."""

import numpy as np

from tests.builders import convolutional, net, weights

UNET = """
    d = Conv<pads=[1,1,1,1]>(x, w1, b1)  p = Relu(d)
    q = MaxPool<kernel_shape=[2,2], strides=[2,2]>(p)
    e = Conv<pads=[1,1,1,1]>(q, w2, b2)  r = Relu(e)
    s = AveragePool<kernel_shape=[2,2], strides=[2,2]>(r)
    f = Conv<pads=[1,1,1,1]>(s, w3, b3)  t = Relu(f)
    u = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(t, w4, b4)
    j = Concat<axis=1>(r, u)  k = Conv<pads=[1,1,1,1]>(j, w5, b5)  l = Relu(k)
    m = Resize<mode="linear">(l, , scales)
    n = Concat<axis=1>(p, m)  map = Conv(n, w6, b6)"""
"""Down twice and up twice, once by a transposed convolution and once by resizing, with skips."""


def unet_weights():
    """Return the weights of the U-Net: 3 channels in, 4 classes for every pixel out."""
    scales = np.array([1, 1, 2, 2], np.float32)
    shapes = {"w1": (6, 3, 3, 3), "w2": (8, 6, 3, 3), "w3": (8, 8, 3, 3), "w4": (8, 8, 3, 3)}
    shapes |= {"w5": (6, 16, 3, 3), "w6": (4, 12, 1, 1)}
    biases = {"b1": (6,), "b2": (8,), "b3": (8,), "b4": (8,), "b5": (6,), "b6": (4,)}
    return weights(30, **shapes, **biases) | {"scales": scales}


def unet():
    """Return a U-Net that gives four scores to every pixel of ``x`` [N,3,16,16]."""
    return net(f"(float[N,3,16,16] x) => (float[N,4,16,16] map) {{ {UNET} }}", **unet_weights())


def nets():
    """Return every network by name."""
    return _enlarging() | _moving() | _sampling() | _pooling() | _spectral()


def _enlarging():
    uneven = np.array([1.0, 1.0, 1.5, 1.75], np.float32)
    return {
        "u-net": net(
            f"""(float[N,3,8,8] x) => (float[N,4] y)
            {{ {UNET}  g = GlobalAveragePool(map)  y = Flatten(g) }}""",
            **unet_weights(),
        ),
        "conv-transpose": convolutional(
            """k = ConvTranspose<strides=[2,3], pads=[1,0,2,1], output_padding=[1,1]>(h, w2, b2)
            a = Relu(k)""",
            channels=4,
            **weights(20, w2=(6, 4, 3, 2), b2=(4,)),
        ),
        "conv-transpose-grouped": convolutional(
            "a = ConvTranspose<group=2, dilations=[2,1]>(h, w2, b2)",
            channels=4,
            **weights(21, w2=(6, 2, 2, 3), b2=(4,)),
        ),
        "conv-transpose-same": convolutional(
            'a = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(h, w2)',
            channels=4,
            **weights(22, w2=(6, 4, 3, 3)),
        ),
        "conv-transpose-sized": convolutional(
            "a = ConvTranspose<strides=[2,2], output_shape=[18,15]>(h, w2, b2)",
            channels=4,
            **weights(23, w2=(6, 4, 3, 3), b2=(4,)),
        ),
        "resize-nearest": convolutional(
            'a = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
            "(h, , scales)",
            scales=np.array([1, 1, 2, 3], np.float32),
        ),
        "resize-nearest-uneven": convolutional("a = Resize(h, , scales)", scales=uneven),
        "resize-linear": convolutional('a = Resize<mode="linear">(h, , scales)', scales=uneven),
        "resize-cubic": convolutional(
            'a = Resize<mode="cubic", axes=[2,3], coordinate_transformation_mode="align_corners">'
            "(h, , , sizes)",
            sizes=[5, 11],
        ),
        "resize-antialiased": convolutional(
            'a = Resize<mode="linear", axes=[2,3], antialias=1>(h, , , sizes)', sizes=[3, 5]
        ),
        "resize-cropped": convolutional(
            'a = Resize<mode="linear", axes=[2,3], extrapolation_value=0.5, '
            'coordinate_transformation_mode="tf_crop_and_resize">(h, roi, , sizes)',
            roi=np.array([0.2, -0.3, 0.9, 1.1], np.float32),
            sizes=[4, 9],
        ),
        "upsample": convolutional(
            "a = Upsample(h, scales)", opset=9, scales=np.array([1, 1, 2, 2], np.float32)
        ),
    }


def _moving():
    pads = np.array([0, 0, 2, 1, 0, 0, 1, 3])
    modes = {
        f"pad-{mode}": convolutional(f'a = Pad<mode="{mode}">(h, pads)', opset=19, pads=pads)
        for mode in ("edge", "reflect", "wrap")
    }
    return modes | {
        "depth-to-space": convolutional(
            'd = SpaceToDepth<blocksize=2>(h)  a = DepthToSpace<blocksize=2, mode="CRD">(d)'
        ),
        "col2im": convolutional(
            "r = Reshape(h, flat)  a = Col2Im(r, image, block)",
            flat=[0, 24, 16],
            image=[5, 5],
            block=[2, 2],
        ),
    }


def _sampling():
    return {
        "spatial-transformer": convolutional(
            """m = GlobalAveragePool(h)  l = Flatten(m)  n = Gemm(l, w2, b2)  k = Tanh(n)
            theta = Reshape(k, matrix)  s = Shape(h)  grid = AffineGrid(theta, s)
            a = GridSample<padding_mode="border">(h, grid)""",
            opset=20,
            matrix=[0, 2, 3],
            **weights(24, w2=(6, 6), b2=(6,)),
        ),
        "deformable": convolutional(
            """o = Conv<pads=[1,1,1,1]>(h, w2, b2)  i = Conv(h, w3)  m = Sigmoid(i)
            a = DeformConv<pads=[1,1,1,1], group=2, offset_group=2>(h, w4, o, b4, m)""",
            channels=4,
            opset=19,
            **weights(25, w2=(36, 6, 3, 3), b2=(36,), w3=(18, 6, 1, 1), w4=(4, 3, 3, 3), b4=(4,)),
        ),
        "roi-align": _over_regions(
            "RoiAlign<output_height=2, output_width=3, sampling_ratio=2>(h, e, k)"
        ),
        "roi-align-largest": _over_regions(
            'RoiAlign<output_height=2, output_width=3, spatial_scale=0.5, mode="max">(h, e, k)'
        ),
        "max-roi-pool": _over_regions("MaxRoiPool<pooled_shape=[2,3]>(h, numbered)"),
    }


def _over_regions(operator: str):
    """``operator`` over one region of every sample."""
    return convolutional(
        f"""s = Shape<start=0, end=1>(h)  many = Squeeze(s)  k = Range(zero, many, one)
        shape = Concat<axis=0>(s, four)  e = Expand(region, shape)
        j = Cast<to=1>(k)  u = Unsqueeze(j, ones)  numbered = Concat<axis=1>(u, e)
        a = {operator}""",
        zero=np.array(0),
        one=np.array(1),
        ones=[1],
        four=[4],
        region=np.array([[0.7, 1.2, 5.9, 6.4]], np.float32),
    )


def _pooling():
    return {
        "lp-pool": convolutional(
            "a = LpPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1], p=3>(h)"
        ),
        "global-lp-pool": convolutional("a = GlobalLpPool(h)"),
        "max-unpool": convolutional(
            """m, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)  r = Relu(m)
            a = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(r, i)"""
        ),
        "det": convolutional(
            "m = AveragePool<kernel_shape=[2,2], strides=[3,3]>(h)  d = Det(m)  "
            "a = Unsqueeze(d, last)",
            last=[2, 3],
        ),
    }


def _spectral():
    return {
        "dft": convolutional(
            """u = Unsqueeze(h, last)  j = DFT<onesided=1>(u, , axis)  r = Relu(j)
            k = DFT<inverse=1, onesided=1>(r, , axis)  a = Squeeze(k, last)""",
            opset=20,
            last=[4],
            axis=np.array(3),
        ),
        "stft": convolutional(
            """s = Reshape(h, flat)  j = STFT(s, step, window, length)  p = Mul(j, j)
            a = ReduceSum(p, last)""",
            channels=9,
            flat=[0, 384, 1],
            step=np.array(46),
            length=np.array(16),
            window=np.hanning(16),
            last=[3],
        ),
    }

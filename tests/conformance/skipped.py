"""The ONNX node tests of registered operators that have no derivative to check, and why.

A key is a case's name, or the beginning of several.
"""

INTEGERS = "integers: nothing to differentiate"
NO_FLOAT_OUT = "no float comes out: nothing to explain"
TRAINING = "an operator of training: it gives no score"
NO_DERIVATIVE = "a step, an index or a shape: no derivative, all it gives is a constant"
SKIPPED = {
    "test_ai_onnx_ml_binarizer": "a step: nothing of the score depends on the input smoothly",
    "test_ai_onnx_ml_tree_ensemble": "constant but for jumps; test_learning sees it named",
    "test_dynamicquantizelinear": "the grid found counts as given; test_quantised sees that",
    "test_cast_": "a cast changes the type of numbers; casts between floats are in test_casts",
    "test_castlike_": "a cast changes the type of numbers; casts between floats are in test_casts",
    "test_shape": NO_FLOAT_OUT,
    "test_size": NO_FLOAT_OUT,
    "test_identity_sequence": "a sequence, which is no tensor",
    "test_identity_opt": "an optional, which is no tensor",
    "test_training_dropout": "training: what is dropped is random",
    "test_batchnorm_example_training_mode": "training: statistics of the batch, not of the model",
    "test_batchnorm_epsilon_training_mode": "training: statistics of the batch, not of the model",
    "test_reduce_sum_empty_set": "tensors of no elements",
    "test_reduce_sum_square_empty_set": "tensors of no elements",
    "test_reduce_log_sum_empty_set": "tensors of no elements",
    "test_reduce_log_sum_exp_empty_set": "tensors of no elements",
    "test_reduce_l1_empty_set": "tensors of no elements",
    "test_reduce_l2_empty_set": "tensors of no elements",
    "test_reduce_max_empty_set": "tensors of no elements",
    "test_reduce_min_empty_set": "tensors of no elements",
    "test_reduce_prod_empty_set": "tensors of no elements",
    "test_pow_types_int": "integers to a power: no float goes in",
    "test_pow_types_float32_uint": "ONNX Runtime has no kernel for a power of this type",
    "test_split_zero_size_splits": "tensors of no elements",
    "test_slice_start_out_of_bounds": "tensors of no elements",
    "test_mod_float_edge_cases": "NaN and infinities, which no score can be explained from",
    "test_reshape_allowzero_reordered": "tensors of no elements",
}

_SHORT = "ONNX Runtime's kernel takes no mask shorter than the keys; test_lowered_attention does"
ALONE = {
    "test_attention_4d_diff_heads_mask4d_padded_kv": _SHORT,
    "test_attention_4d_padded_kv_bf16": _SHORT,
    "test_attention_4d_causal_padded_kv_bf16": _SHORT,
}
"""Cases that are skipped while those whose names begin so are not."""


def reason(name: str) -> str | None:
    """Return why a case is skipped, if it is."""
    begun = (why for key, why in SKIPPED.items() if name.startswith(key))
    return ALONE.get(name) or next(begun, None)

/*
 * Bounds on an adapter file, which comes from outside. Each is far above the need of any served model
 * and far below anything that would harm a Worker with 128 MB.
 */

/** With scales in float32 on every layer, Llama-3.1-405B needs 8.3 MB and SmolLM2-135M 69 kB. */
export const MAX_ADAPTER_BYTES = 16 * 1024 * 1024
/** A tensor takes about 100 bytes, so this holds 10,000 tensors, five times what MAX_LAYERS allows. */
export const MAX_HEADER_BYTES = 1024 * 1024
/** Eight times the deepest open model (126). */
export const MAX_LAYERS = 1024
/** Eight times the widest open model (128). */
export const MAX_HEADS = 1024
/** Four times the usual largest (256). */
export const MAX_HEAD_DIM = 1024
/**
 * Radians, about ten turns; fitted angles are below 1. Exact in float16, as MAX_ABS_LOG_SCALE is, so
 * that rounding cannot carry a value past the bound.
 */
export const MAX_ABS_ANGLE = 64
/** |ln r|, which bounds r by 1/55 and 55. No fit learns a scale outside; such a value is an error. */
export const MAX_ABS_LOG_SCALE = 4

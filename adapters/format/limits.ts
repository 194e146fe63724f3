/*
 * Bounds on an adapter file, which comes from outside. Each is far above what a served model needs
 * and far below what would hurt a 128 MB Worker.
 */

/** Llama-3.1-405B in float32 with scales, every layer touched, is 8.3 MB; SmolLM2-135M is 69 kB. */
export const MAX_ADAPTER_BYTES = 16 * 1024 * 1024
/** About 100 bytes a tensor: 10,000 tensors, five times what MAX_LAYERS allows. */
export const MAX_HEADER_BYTES = 1024 * 1024
/** Eight times the deepest open model (126). */
export const MAX_LAYERS = 1024
/** Eight times the widest open model (128). */
export const MAX_HEADS = 1024
/** Four times the usual largest (256). */
export const MAX_HEAD_DIM = 1024
/**
 * Radians, ten turns: fitted angles are below 1, and float16's step here is already 1/32.
 * Exact in float16, as MAX_ABS_LOG_SCALE is, so that rounding cannot carry a value over it.
 */
export const MAX_ABS_ANGLE = 64
/** |ln r|: r from 1/55 to 55. A pair outside that is an amplitude fault, not a learnt scale. */
export const MAX_ABS_LOG_SCALE = 4

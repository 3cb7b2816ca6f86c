//! Generated bindings of `kernels/svf_mul_mat.h`, `kernels/llama/svf_hook.h` and `kernels/llama/svf_guard.h`.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unused_imports
)]

include!(concat!(env!("OUT_DIR"), "/svf.rs"));

//! Generated bindings of the headers in `kernels/` and `kernels/llama/`.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unused_imports
)]

include!(concat!(env!("OUT_DIR"), "/svf.rs"));

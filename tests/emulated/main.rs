//! GPU kernels without a GPU: their logic runs on the CPU, one fiber per GPU thread (`group.h`).

mod cases;
mod compiler;
mod cuda;
mod harness;
mod metal;

// The tests of the op use all of it.
#[allow(dead_code)]
#[path = "../support/op_cases.rs"]
mod op_cases;

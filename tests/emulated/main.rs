//! GPU kernels without a GPU: their logic runs on the CPU, one fiber per GPU thread (`group.h`).

mod compiler;
mod cuda;
mod harness;
